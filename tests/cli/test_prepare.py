"""`imgkit data prepare`; what it keeps is in tests/data/test_keep.py."""

from pathlib import Path

import pytest
from cli_run import Run
from pictures import MakeFolders

from imgkit.data.builtin import cache_folder

pytest_plugins = ["cli_fixture"]


def test_pictures_are_kept_for_later_trainings(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20}, side_px=48)
    words = ("data", "prepare", "test_resnet", "--data", str(root), "--image-size", "16", "--workers", "0")
    code, out, err = imgkit(*words, "--recipe", "scratch")
    said = " ".join(err.split())
    assert (code, out) == (0, "")
    assert "train: 32 of 32 pictures decoded once (shorter side ≤ 32 px), in " in said
    assert "val: 8 of 8 pictures decoded once (as evaluated), in " in said
    kept = sorted((cache_folder() / "pictures").glob("*/*.safetensors"))
    assert sum(file.stat().st_size for file in kept) > 32 * 32 * 32 * 3 + 8 * 16 * 16 * 3
    before = [file.stat().st_mtime_ns for file in kept]
    assert imgkit(*words, "--recipe", "scratch")[0] == 0
    assert [file.stat().st_mtime_ns for file in kept] == before


def test_the_size_is_that_of_the_recipe(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20}, side_px=48)
    code, _, err = imgkit("data", "prepare", "test_resnet", "--data", str(root), "--set", "data.prepared=20")
    assert code == 0
    assert "(shorter side ≤ 20 px)" in " ".join(err.split())


def test_a_network_that_is_none_is_told_first(imgkit: Run, tmp_path: Path) -> None:
    code, _, err = imgkit("data", "prepare", "test_resnett", "--data", str(tmp_path / "none"))
    assert code == 2
    assert "test_resnett" in err


def test_a_limit_that_is_too_small_is_told(
    imgkit: Run, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGKIT_CACHE_LIMIT", "20kB")
    root = make_folders({"cat": 20, "dog": 20}, side_px=48)
    code, _, err = imgkit("data", "prepare", "test_resnet", "--data", str(root))
    said = " ".join(err.split())
    assert code == 0
    assert "train: 0 of 32 pictures decoded once" in said
    assert "the others are not kept: 216 KiB more would exceed IMGKIT_CACHE_LIMIT" in said
