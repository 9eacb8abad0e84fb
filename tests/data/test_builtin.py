"""Built-in sets: written once, whole, learnable."""

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgkit.data import builtin
from imgkit.data.builtin import SIDE_PX, builtin_folder, cache_folder, is_builtin
from imgkit.errors import DataError, DiskError


def test_names() -> None:
    assert all(map(is_builtin, ("digits", "synthetic", "synthetic:4x20", "synthetic:x")))
    assert not any(map(is_builtin, ("digit", "synthetics", "data", "./digits")))


def test_digits() -> None:
    folder = builtin_folder("digits")
    assert cache_folder() in folder.parents
    assert sorted(path.name for path in folder.iterdir()) == list("0123456789")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 1797
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((SIDE_PX, SIDE_PX), "L")
    before = files[0].stat().st_mtime_ns
    assert builtin_folder("digits") == folder
    assert files[0].stat().st_mtime_ns == before  # read, not written again


@pytest.mark.parametrize(("name", "classes", "images"), [("synthetic", 4, 40), ("synthetic:12x3", 12, 3)])
def test_synthetic_can_be_told_apart(name: str, classes: int, images: int) -> None:
    folder = builtin_folder(name)
    labels = sorted(path.name for path in folder.iterdir())
    assert len(labels) == classes
    means = [
        [np.asarray(Image.open(file)).mean(axis=(0, 1)) for file in sorted((folder / x).iterdir())] for x in labels
    ]
    assert all(len(row) == images for row in means)
    centres = np.array([np.mean(row, axis=0) for row in means])
    for code, row in enumerate(means):
        for mean in row:
            assert np.abs(centres - mean).sum(axis=1).argmin() == code
    contents = {file.read_bytes() for file in folder.rglob("*.png")}
    assert len(contents) == classes * images


def test_synthetic_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = builtin_folder("synthetic:2x2")
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path))
    two = builtin_folder("synthetic:2x2")
    assert one != two
    for file in one.rglob("*.png"):
        assert np.array_equal(Image.open(file), Image.open(two / file.relative_to(one)))


def test_readable_by_others() -> None:
    assert stat.S_IMODE(builtin_folder("synthetic:2x2").stat().st_mode) & 0o555 == 0o555


@pytest.mark.parametrize("name", ["synthetic:", "synthetic:4", "synthetic:1x5", "synthetic:3x0", "synthetic:4x5x6"])
def test_bad_size(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} is not a size") as caught:
        builtin_folder(name)
    assert "synthetic:4x20" in caught.value.hint


def test_a_crash_leaves_nothing_that_looks_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(classes: int, images: int) -> object:
        yield "class-0", "0", np.zeros((4, 4, 3), dtype=np.uint8)
        raise RuntimeError("power")

    with monkeypatch.context() as patch:
        patch.setattr(builtin, "_synthetic", broken)
        with pytest.raises(RuntimeError, match="power"):
            builtin_folder("synthetic:2x2")
    assert list((cache_folder() / "data").iterdir()) == []
    assert len(list(builtin_folder("synthetic:2x2").rglob("*.png"))) == 4


def test_another_process_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_first(classes: int, images: int) -> object:
        folder = cache_folder() / "data" / "synthetic-2x2-v1" / "class-0"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "theirs.png")
        yield "class-0", "ours", np.zeros((4, 4, 3), dtype=np.uint8)

    monkeypatch.setattr(builtin, "_synthetic", other_first)
    folder = builtin_folder("synthetic:2x2")
    assert [path.name for path in folder.rglob("*.png")] == ["theirs.png"]
    assert list(folder.parent.iterdir()) == [folder]


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="digits cannot be written") as caught:
        builtin_folder("digits")
    assert "IMGKIT_CACHE" in caught.value.hint


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGKIT_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "imgkit"
