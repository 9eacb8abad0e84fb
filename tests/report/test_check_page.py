"""The page of what a check found."""

from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolders
from PIL import Image

from imgkit.check.whole import check
from imgkit.recipe.schema import DataSettings
from imgkit.report import check_page
from imgkit.report.check_page import write_check_page


@pytest.fixture
def data(make_folders: MakeFolders) -> Path:
    root = make_folders({"train/cat": 12, "train/dog": 12, "val/cat": 6, "val/dog": 6})
    (root / "val/cat/<copy>.png").write_bytes((root / "train/cat/0000.png").read_bytes())
    (root / "train/dog/bad.png").write_bytes(b"no picture")
    return root


def page_of(root: Path, file: Path) -> str:
    write_check_page(check(DataSettings(path=str(root))), file, "imgkit finetune NET --data D")
    return file.read_text()


def test_findings_have_pictures_suggestions_and_the_next_command(data: Path, tmp_path: Path) -> None:
    page = page_of(data, tmp_path / "page.html")
    assert page.count("data:image/webp;base64,") == 2
    assert "val/cat/&lt;copy&gt;.png" in page
    assert "<copy>" not in page
    assert "Delete it from train." in page
    assert "imgkit report NAME" in page, "which recomputes the score without copies"
    assert "train/dog/bad.png" in page
    assert "Must be mended" in page
    assert "imgkit finetune NET --data D" in page
    assert "from the files of the run folder" not in page
    assert "https://" not in page
    bad, leak = page.index('<h2 id="unreadable">'), page.index('<h2 id="leak">')
    assert "Compared with" not in page[bad:leak], "no finding of it names another picture"
    assert "Compared with" in page[leak:]


def test_a_page_stays_small(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_page, "LISTED", 3)
    for number in range(20):
        (data / f"train/cat/twice{number:02d}.png").write_bytes((data / "train/dog/0001.png").read_bytes())
    page = page_of(data, tmp_path / "page.html")
    assert page.count('<li class="picture">') <= 3 * check_page.SHOWN
    assert "--fix-list FILE" in page
    monkeypatch.setattr(check_page, "ROOM", 0)
    assert "data:image" not in page_of(data, tmp_path / "page.html")


def test_nothing_found_is_said(make_folders: MakeFolders, tmp_path: Path) -> None:
    root = make_folders({"train/cat": 30, "train/dog": 30, "val/cat": 20, "val/dog": 20})
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    page = page_of(root, tmp_path / "page.html")
    assert "Nothing was found." in page
