"""Bugs that users of other tools suffered from, in folders, labels and pictures.

`BUGS` has the number of each in the project's list of them, and the test that imgkit does not have it: one of this
file, or one elsewhere that already goes through it for seconds.
"""

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import corpus
import numpy as np
import pytest
from oracle import short_run
from pictures import MakeFolders
from PIL import Image

from imgkit.cells import Rows, bare, guarded
from imgkit.data.decode import load_image
from imgkit.data.index import SPLITS
from imgkit.data.load import LoadedData, load_data
from imgkit.errors import DataError
from imgkit.recipe.schema import DataSettings

BUGS = {
    1: "test_a_class_that_val_lacks_moves_no_label",
    21: "test_a_hidden_folder_is_no_class",
    22: "test_16_bits_are_not_white",
    23: "test_a_photo_is_upright_wherever_it_is_read",
    24: "tests/faults/test_read_only.py::test_the_users_files_stay_as_they_are",
    27: "test_an_archive_is_never_unpacked",
    28: "test_a_name_is_no_formula",
}
ALSO = {  # of these the list has no number
    "a link to a folder above multiplies the pictures": "tests/data/test_sources.py::test_links",
    "pictures of the test split are in train": "tests/data/test_load.py::test_copies",
}
ROOT = Path(__file__).parents[2]


def load(root: Path) -> LoadedData:
    return load_data(DataSettings(path=str(root)))


def test_each_bug_has_its_test() -> None:
    for number, name in {**BUGS, **ALSO}.items():
        file, _, test = name.rpartition("::")
        text = (ROOT / file if file else Path(__file__)).read_text()
        assert f"def {test}(" in text, number


@pytest.mark.parametrize("lacking", ["a", "b", "d"])
def test_a_class_that_val_lacks_moves_no_label(make_folders: MakeFolders, lacking: str) -> None:
    """1: with as many classes in val as in train, too, of which one is unknown."""
    counts = {f"train/{name}": 3 for name in "abcd"} | {f"val/{name}": 2 for name in "abcd" if name != lacking}
    found = load(make_folders(counts))
    index = found.index
    assert index.classes == ("a", "b", "c", "d")
    for row, code in enumerate(index.labels()):
        split, name, _ = index.paths[row].split("/")
        assert (SPLITS[index.splits[row]], index.classes[code]) == (split, name)
    assert any(f"no image in val: {lacking}" in note for note in found.notes), found.notes
    with pytest.raises(DataError, match=r"val has a class that train does not have: e\n"):
        load(make_folders({**counts, "val/e": 2}, name="others"))


@pytest.mark.campaign
def test_scores_go_by_name_where_other_data_lack_a_class(tmp_path: Path, make_folders: MakeFolders) -> None:
    """1."""
    train = make_folders(dict.fromkeys("abcd", 12), side_px=40)
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1", data=str(train))
    others = make_folders(dict.fromkeys("bcd", 3), name="others", side_px=40)
    found = run.evaluate(data=others)
    with (Path(found["folder"]) / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    assert all(row["label"] == Path(row["path"]).parent.name for row in rows)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir"])
def test_a_hidden_folder_is_no_class(make_folders: MakeFolders, hidden: str) -> None:
    """21: neither among classes nor among their pictures; it is told."""
    found = load(make_folders({"train/cat": 4, f"train/{hidden}": 4, "train/dog": 4, f"train/cat/{hidden}": 4}))
    assert found.index.classes == ("cat", "dog")
    assert len(found.index) == 8
    assert any(note.startswith("Ignored 2 hidden or system") and hidden in note for note in found.notes)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_not_white(tmp_path: Path, suffix: str) -> None:
    """22."""
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    pixels = np.asarray(load_image(tmp_path / f"a{suffix}"))
    assert (pixels == np.rint(values / 257).astype(np.uint8)[..., None]).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_is_upright_wherever_it_is_read(tmp_path: Path, orientation: int) -> None:
    """23: training, evaluation, prediction and reports have this one reader, see below."""
    for turned in (1, orientation):
        (tmp_path / f"{turned}.jpg").write_bytes(corpus.exif_jpeg(turned))
    upright, other = (np.asarray(load_image(tmp_path / f"{turned}.jpg"), dtype=int) for turned in (1, orientation))
    assert other.shape == upright.shape
    assert np.median(abs(other - upright)) <= 3


def test_there_is_one_reader_of_pictures() -> None:
    """23: what opens a picture by itself would not know how the camera was held."""
    openers = [
        file.relative_to(ROOT / "imgkit").as_posix()
        for file in (ROOT / "imgkit").rglob("*.py")
        if "Image.open(" in file.read_text(encoding="utf-8")
    ]
    assert openers == ["data/decode.py"]


def test_an_archive_is_never_unpacked(tmp_path: Path, make_folders: MakeFolders) -> None:
    """27: it is refused with what to do, wherever its members would lead."""
    content = corpus.encoded(corpus.colours(), "PNG")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr("../evil.png", content)
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../evil.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    root = make_folders({"cat": 2, "dog": 2})
    (tmp_path / "alone").mkdir()
    for name in ("data.zip", "data.tar.gz"):
        (root / "cat" / name).write_bytes((tmp_path / name).read_bytes())
        with pytest.raises(DataError):
            load(tmp_path / name)
        (tmp_path / "alone" / name).write_bytes((tmp_path / name).read_bytes())
        with pytest.raises(DataError, match="unpack"):
            load(tmp_path / "alone")
    assert len(load(root).index) == 4
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'="])
def test_a_name_is_no_formula(start: str) -> None:
    """28: its cell is text, alone in its row, and reads back; the page of a report has a family of tests of its own."""
    name, file = f"{start}HYPERLINK(1)\r=1+1", io.StringIO(newline="")
    Rows(file).writerow([guarded(name), "1"])
    ((cell, other),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert (cell[0], bare(cell), other) == ("'", name, "1")
