from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolders, TreeHash
from PIL import Image

from imgkit import class_sheet
from imgkit.class_sheet import MOST, sampled, write_class_sheet
from imgkit.data.load import load_data
from imgkit.errors import UsageError
from imgkit.recipe.schema import DataSettings
from imgkit.screen import Screen
from imgkit.sheet import Sheet, draw_sheet


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    sheets: list[Sheet] = []
    monkeypatch.setattr(class_sheet, "draw_sheet", lambda sheet: sheets.append(sheet) or draw_sheet(sheet))
    return sheets


def test_train_lies_beside_validation(
    make_folders: MakeFolders,
    shown: list[Sheet],
    tmp_path: Path,
    tree_hash: TreeHash,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_folders({"train/cat": 9, "train/dog": 2, "val/cat": 5, "val/dog": 1})
    before = tree_hash(root)
    write_class_sheet(DataSettings(path=str(root)), tmp_path / "s.png", rows=None, screen=Screen())
    (sheet,) = shown
    assert sheet.names == ["cat\n9 · 5", "dog\n2 · 1"]
    assert sheet.heads == ["train", "", "", "", "val", "", "", ""]
    assert sheet.apart == 4
    files = [
        ["train/cat/0000", "train/cat/0003", "train/cat/0005", "train/cat/0008"],
        ["val/cat/0000", "val/cat/0001", "val/cat/0003", "val/cat/0004"],
        ["train/dog/0000", "train/dog/0001", None, None],
        ["val/dog/0000", None, None, None],
    ]
    for row, names in ((0, files[0] + files[1]), (1, files[2] + files[3])):
        for tile, name in zip(sheet.rows[row], names, strict=True):
            if name is None:
                assert tile.picture is None
            else:
                with Image.open(root / f"{name}.png") as picture:
                    wanted = np.asarray(picture).repeat(6, axis=0).repeat(6, axis=1)
                assert tile.picture is not None
                assert np.array_equal(np.asarray(tile.picture), wanted), name
    assert tree_hash(root) == before
    assert "up to 4 pictures of each class as they are" in " ".join(capsys.readouterr().err.split())
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (150 + 8 * 100 + 20, 22 + 2 * 100)


def test_many_classes_have_a_limit_that_is_said(
    make_folders: MakeFolders, shown: list[Sheet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folders({f"c{number:03d}": 2 for number in range(60)}, side_px=2)
    settings = DataSettings(path=str(root))
    write_class_sheet(settings, tmp_path / "s.png", rows=None, screen=Screen())
    assert len(shown[0].rows) == 50
    assert "the first 50 of 60 classes are shown; more: --rows 60" in " ".join(capsys.readouterr().err.split())
    write_class_sheet(settings, tmp_path / "s.png", rows=60, screen=Screen())
    assert len(shown[1].rows) == 60
    assert "the first" not in capsys.readouterr().err


@pytest.mark.parametrize("rows", [0, MOST + 1])
def test_rows_outside_the_limit(tmp_path: Path, rows: int) -> None:
    with pytest.raises(UsageError, match=f"--rows {rows}: a sheet by class has 1 to 200 rows, one a class"):
        write_class_sheet(DataSettings(path=str(tmp_path)), tmp_path / "s.png", rows=rows, screen=Screen())


def test_never_into_the_data(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 3, "dog": 3})
    with pytest.raises(UsageError, match="lies inside the data folder"):
        write_class_sheet(DataSettings(path=str(root)), root / "s.png", rows=None, screen=Screen())


def test_of_several_labels_an_image_counts_for_each(tmp_path: Path) -> None:
    lines = ["path,tags"]
    for number in range(8):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'a|b' if number % 2 else 'a'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    index = load_data(DataSettings(path=str(tmp_path / "t.csv"), label_col=("tags",), label_delimiter="|")).index
    for code, name in enumerate(index.classes):
        for split in ("train", "val"):
            rows = sampled(index, split, code)
            own = [row for row in index.rows(split).tolist() if code in index.label_sets()[row]]
            assert set(rows.tolist()) <= set(own), name
            assert len(rows) == min(4, len(own))
