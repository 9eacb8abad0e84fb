"""Every error that a user meets says what to do."""

import ast
import errno
import os
from pathlib import Path

import pytest

import imgkit
from imgkit import errors
from imgkit.errors import BadImage, ImgkitError

ROOT = Path(imgkit.__file__).parent
KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ImgkitError) and kind not in (ImgkitError, BadImage)
}
WITHOUT = {
    "recipe/problems.py": "each problem of a recipe says itself what is possible",
}


@pytest.mark.parametrize("file", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")))
def test_every_error_has_a_hint(file: str) -> None:
    made = [
        node
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS
    ]
    bare = [f"{file}:{node.lineno}" for node in made if len(node.args) + len(node.keywords) < 2]
    assert bool(bare) == (file in WITHOUT), bare


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space, or choose another place."),
        (errno.ENOENT, "Make its folder first:  mkdir -p 'my plots'"),
        (errno.EISDIR, "It is a folder: name a file in it."),
        (errno.EEXIST, "A file is in the way, where a folder should be: choose another place."),
        (errno.ENOTDIR, "A file is in the way, where a folder should be: choose another place."),
        (errno.EACCES, "Mend the permissions, or choose another place."),
        (errno.EROFS, "Mend the permissions, or choose another place."),
        (errno.EIO, "Free some space, or choose another place."),
    ],
)
def test_what_the_disk_refuses_is_told_with_what_helps(number: int, hint: str) -> None:
    with pytest.raises(errors.DiskError) as caught, errors.disk_told(Path("my plots/a.png")):
        raise OSError(number, os.strerror(number))
    assert caught.value.message == f"Cannot write my plots/a.png: {os.strerror(number)}."
    assert caught.value.hint == hint
