"""What is packed and read back is what it was, whatever the source."""

import csv
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tars import png

from imgkit.data.decode import load_image
from imgkit.data.index import Index
from imgkit.data.load import load_data
from imgkit.data.pack import RECORD, Packed, pack
from imgkit.data.shards import read_shards
from imgkit.errors import DataError, DiskError, UsageError
from imgkit.recipe.schema import DataSettings

pytest.importorskip("pyarrow")
KIB = 1024


def pictures(folder: Path, splits: tuple[str, ...] = ("",), n: int = 8) -> Path:
    """Class folders, below splits perhaps; names with dots, and two that differ in their ending alone."""
    for split in splits:
        for label in ("cat", "dog.s"):
            (folder / split / label).mkdir(parents=True)
            for number in range(n):
                (folder / split / label / f"a.{number:02d}.png").write_bytes(png(split, label, number))
            (folder / split / label / "b.png").write_bytes(png(split, label, "b"))
            (folder / split / label / "b.PNG").write_bytes(png(split, label, "B"))
    return folder


def packed(source: Path, out: Path, size: int = 16 * KIB, **given: object) -> Packed:
    return pack(DataSettings(path=str(source), val=0.0, **given), out, size)


def load(path: Path, **given: object) -> Index:
    return load_data(DataSettings(path=str(path), **given)).index


def same(one: Index, other: Index) -> None:
    assert one.classes == other.classes
    assert one.task == other.task
    assert one.label_sets() == other.label_sets()
    assert one.splits.tolist() == other.splits.tolist()
    assert (one.groups is None) == (other.groups is None)
    assert one.groups is None or one.groups.tolist() == other.groups.tolist()
    assert (one.hashes == other.hashes).all()
    for row in range(len(one)):
        np.testing.assert_array_equal(np.asarray(load_image(one.path(row))), np.asarray(load_image(other.path(row))))


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("splits", [("",), ("train", "val", "test")])
def test_folders_come_back(tmp_path: Path, splits: tuple[str, ...]) -> None:
    source = pictures(tmp_path / "p", splits)
    before = tree(source)
    found = packed(source, tmp_path / "out")
    one, other = load(source), load(tmp_path / "out")
    same(one, other)
    assert (found.pictures, found.shards) == (len(one), len(list((tmp_path / "out").rglob("*.tar"))))
    assert found.shards > 2
    assert tree(source) == before
    assert all(file.stat().st_size <= 16 * KIB + RECORD for file in (tmp_path / "out").rglob("*.tar"))


def test_a_table_comes_back(tmp_path: Path) -> None:
    source, table = pictures(tmp_path / "p"), tmp_path / "t.csv"
    files = sorted(file.relative_to(tmp_path).as_posix() for file in source.rglob("*.[pP]*"))
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "tags", "who"])
        writer.writerows([name, ["red|big", "", "7", "red"][row % 4], f"w{row % 5}"] for row, name in enumerate(files))
    about = {"label_col": ("tags",), "label_delimiter": "|", "group_col": "who"}
    packed(table, tmp_path / "out", **about)
    one, other = load(table, **about), load(tmp_path / "out")
    assert one.task == "multilabel"
    same(one, other)


def test_what_was_packed_is_packed_again_to_the_same_bytes(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p", ("train", "val"))
    packed(source, tmp_path / "one")
    shutil.copytree(source, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*"):
        os.utime(file, (1, 1))
    packed(tmp_path / "copy", tmp_path / "two")
    packed(tmp_path / "one", tmp_path / "three")
    one = tree(tmp_path / "one")
    assert tree(tmp_path / "two") == one
    assert tree(tmp_path / "three") == one


def test_the_index_is_what_the_headers_say(tmp_path: Path) -> None:
    packed(pictures(tmp_path / "p", ("train", "val")), tmp_path / "out")
    known = list(read_shards(str(tmp_path / "out"), "out").rows)
    (tmp_path / "out" / "index.parquet").unlink()
    assert list(read_shards(str(tmp_path / "out"), "out").rows) == known


def test_other_programs_read_them(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p")
    packed(source, tmp_path / "out")
    names = (tmp_path / "out" / "classes.txt").read_text().splitlines()
    found = {}
    for file in sorted((tmp_path / "out").glob("*.tar")):
        assert file.stat().st_size % RECORD == 0
        with tarfile.open(file) as archive:
            parts = archive.getmembers()
            assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in parts} == {(0, 0, 0, "", 0o644)}
            for picture, label in zip(parts[::2], parts[1::2], strict=True):
                stem, _, ending = picture.name.rpartition(".")
                assert (label.name, ending) == (f"{stem}.cls", "png")
                assert "." not in stem.rpartition("/")[2]
                content, number = (archive.extractfile(one).read() for one in (picture, label))  # type: ignore[union-attr]
                found[content] = names[int(number)]
    assert found == {file.read_bytes(): file.parent.name for file in source.rglob("*.[pP]*")}


def test_only_into_an_empty_place_outside_of_the_data(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p")
    with pytest.raises(UsageError, match="lies inside the data folder"):
        packed(source, source / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="is there already, and is no empty folder"):
        packed(source, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert packed(source, tmp_path / "empty").pictures == 20


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pictures(tmp_path / "p")
    victim = source / "dog.s" / "a.05.png"

    def change(done: int, total: int) -> None:
        if done == total:
            victim.write_bytes(png("other"))

    with pytest.raises(DataError, match=r"a\.05\.png changed while it was packed"):
        pack(DataSettings(path=str(source), val=0.0), tmp_path / "out", 16 * KIB, change)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p"]
    monkeypatch.setattr("imgkit.data.pack.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    with pytest.raises(DiskError, match="do not fit where"):
        packed(source, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p"]


def test_bad_pictures_stop_it_or_are_left_out(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p")
    (source / "cat" / "a.03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be used"):
        packed(source, tmp_path / "out")
    assert packed(source, tmp_path / "out", on_bad="skip").pictures == 19
    same(load(source, on_bad="skip"), load(tmp_path / "out"))
