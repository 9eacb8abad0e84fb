"""Every error that a user meets says what to do."""

import ast
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
