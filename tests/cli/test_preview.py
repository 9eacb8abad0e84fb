"""`imgkit data preview --by-class`; what a sheet shows is in tests/test_class_sheet.py and tests/test_preview.py."""

from pathlib import Path

import pytest
from cli_run import Run
from pictures import MakeFolders
from PIL import Image

pytest_plugins = ["cli_fixture"]


def test_samples_by_class_need_no_network(imgkit: Run, make_folders: MakeFolders, tmp_path: Path) -> None:
    root = make_folders({"cat": 9, "dog": 9})
    code, out, err = imgkit(
        "data",
        "preview",
        "--by-class",
        "--data",
        str(root),
        "--val",
        "0.4",
        "--rows",
        "1",
        "--out",
        str(tmp_path / "s.png"),
    )
    assert (code, out) == (0, "")
    assert "the first 1 of 2 classes are shown; more: --rows 2" in " ".join(err.split())
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (150 + 8 * 100 + 20, 22 + 100)


@pytest.mark.parametrize(
    ("args", "unread"),
    [
        (["resnet50"], "resnet50"),
        (["--augment", "light"], "--augment"),
        (["--set", "augment.hflip=1"], "--set augment.hflip=1"),
        (["--recipe", "finetune"], "--recipe"),
    ],
)
def test_what_only_a_training_reads_is_refused(imgkit: Run, args: list[str], unread: str) -> None:
    code, _, err = imgkit("data", "preview", "--by-class", "--data", "digits", *args)
    assert code == 2
    assert f"{unread} is not used: --by-class shows the pictures as they are" in " ".join(err.split())


@pytest.mark.parametrize("args", [["--by-class"], ["resnet50"]])
def test_the_file_is_a_png(imgkit: Run, args: list[str]) -> None:
    code, _, err = imgkit("data", "preview", *args, "--out", "a.jpg")
    assert code == 2
    assert "--out a.jpg is no PNG." in err
