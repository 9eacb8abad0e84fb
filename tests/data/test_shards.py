"""Shards as a source: the same rows by whatever means they are named, and whatever index is known."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import contents, labelled, png, shards, tar

from imgkit.data.load import load_data
from imgkit.data.pack import pack
from imgkit.data.rows import Source
from imgkit.data.shard_index import Shard, index_writer, read_index
from imgkit.data.shard_names import braces, find_shards, has_shards, is_pattern
from imgkit.data.shards import read_shards
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, UsageError
from imgkit.predict import expand_inputs
from imgkit.recipe.schema import DataSettings

pa = pytest.importorskip("pyarrow")


def read(text: str | Path, **given: object) -> Source:
    settings = DataSettings(path=str(text), **given)
    return read_source(find_data(settings), settings)


def rows(source: Source) -> list[tuple[str, tuple[str, ...], str | None]]:
    """Name, labels and split of each row."""
    return [(row.path.rpartition("/")[2], row.labels, row.split) for row in source.rows]


@pytest.fixture
def memory() -> Iterator[str]:
    """A place behind a URL, in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield "memory://bucket"
    system.store.clear()


@given(st.integers(0, 30), st.integers(0, 30))
def test_ranges_are_those_of_a_shell(first: int, last: int) -> None:
    assert list(braces(f"a-{{{first:03d}..{last:03d}}}.tar")) == [f"a-{n:03d}.tar" for n in range(first, last + 1)]
    assert list(braces("{a,b}-{0..1}")) == ["a-0", "a-1", "b-0", "b-1"]
    assert list(braces("plain")) == ["plain"]


def test_every_way_to_name_them_reads_the_same(tmp_path: Path, memory: str) -> None:
    folder = shards(tmp_path / "s")
    expected = [
        (f"{number:03d}.png", (("cat", "dog")[number % 2],), split)
        for split in ("train", "val")
        for _ in range(2)
        for number in range(6)
    ]
    fsspec.filesystem("memory").put(str(folder), "/bucket/", recursive=True)
    ways = [folder, f"{folder}/{{train,val}}/s-{{0..1}}.tar", f"{folder}/*/*.tar", f"file://{folder}"]
    for way in [
        *ways,
        f"{memory}/s",
        f"{memory}/s/",
        f"{memory}/s/*/s-*.tar",
        f"{memory}/s/{{train,val}}/s-{{0..1}}.tar",
    ]:
        found = read(way)
        assert rows(found) == expected, way
        paths = list(found.rows.paths)
        assert paths == sorted(paths), way
    alone = read(folder / "train" / "s-0.tar")  # classes.txt is above the split's folder
    assert rows(alone) == [(name, labels, None) for name, labels, _ in expected[:6]]


def test_a_url_is_trained_on_like_a_folder(tmp_path: Path, memory: str) -> None:
    folder = shards(tmp_path / "s")
    fsspec.filesystem("memory").put(str(folder), "/bucket/", recursive=True)
    one, other = (load_data(DataSettings(path=str(text))).index for text in (folder, f"{memory}/s"))
    assert list(one.paths) == list(other.paths)
    assert (one.hashes == other.hashes).all()
    assert one.fingerprint == other.fingerprint
    with pytest.raises(DataError, match="cannot be read"):
        read("nosuch://bucket/x.tar")
    with pytest.raises(DataError, match="cannot be read"):
        read(f"{memory}/none.tar")
    with pytest.raises(DataError, match="There is no shard"):
        read(f"{memory}/nothing")


def test_which_folders_are_of_shards(tmp_path: Path) -> None:
    folder = shards(tmp_path / "s")
    assert has_shards(folder)
    assert has_shards(folder / "train")
    (folder / "pets").mkdir()
    assert not has_shards(folder)  # may be class folders beside an archive
    assert not has_shards(tmp_path / "none")
    assert [is_pattern(text) for text in ("a.tar", "a/*.tar", "s3://b/c", "a", "a.csv", "own:arg")] == [True] * 3 + [
        False
    ] * 3


def test_pictures_beside_a_tar_are_the_pictures(tmp_path: Path) -> None:
    """Such as the archive that they came in: it is left out, and not read in their place."""
    tar(tmp_path / "photos.tar", [("cat/0.png", png(0))])
    (tmp_path / "one.JPG").write_bytes(png(1))
    assert not has_shards(tmp_path)
    assert [Path(one.file).name for one in expand_inputs([tmp_path])] == ["one.JPG"]


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards(tmp_path / "s")
    first = rows(read(folder))
    monkeypatch.setattr("imgkit.data.shards._make", lambda *_: pytest.fail("read again"))
    assert rows(read(folder)) == first
    os.utime(folder / "val" / "s-1.tar", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception):
        read(folder)


def test_a_shard_that_changed_is_read_anew(tmp_path: Path) -> None:
    folder = shards(tmp_path / "s")
    assert len(read(folder).rows) == 24
    tar(folder / "val" / "s-1.tar", labelled("more", 9))
    assert len(read(folder).rows) == 27


def test_what_stands_in_json(tmp_path: Path) -> None:
    about = [
        {"labels": ["red", 1], "group": "g1", "split": "train"},
        {"labels": [], "split": "valid"},
        {"labels": ["7"], "group": "g2", "split": "test"},
    ]
    members = [
        member
        for number, one in enumerate(about)
        for member in (
            (f"{number}.json", json.dumps(one).encode()),
            (f"{number}.JPG", png(number)),
            (f"{number}.txt", b"?"),
        )
    ]
    tar(tmp_path / "a.tar", members)
    (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
    found = read(tmp_path / "a.tar")
    assert found.task == "multilabel"
    assert [(*sorted(row.labels), row.split, row.group) for row in found.rows] == [
        ("b", "red", "train", "g1"),
        ("val", None),
        ("7", "test", "g2"),  # a name, though it is one of digits
    ]


def test_names_in_cls(tmp_path: Path) -> None:
    texts = [b"cat\n", b"007", b"7", b"-3", b"--1", "\u0663".encode()]
    tar(
        tmp_path / "a.tar",
        [part for n, text in enumerate(texts) for part in ((f"{n}.cls", text), (f"{n}.png", png(n)))],
    )
    assert [row.labels for row in read(tmp_path / "a.tar").rows] == [(text.decode().strip(),) for text in texts]


FAULTY: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "no label": ([("a.png", b"x")], "1 image has no label, first"),
    "two pictures": ([("a.png", b"x"), ("a.jpg", b"x")], "a.jpg: the sample a has two pictures"),
    "a label elsewhere": (
        [("a.png", b"x"), ("b.png", b"y"), ("a.cls", b"1")],
        "a.cls: it does not stand beside its picture",
    ),
    "no picture": ([("a.txt", b"x")], "has no picture in 1 shard"),
    "bad JSON": ([("a.png", b"x"), ("a.json", b"[")], "a.json: it is no JSON object"),
    "deep JSON": ([("a.png", b"x"), ("a.json", b"[" * 100_000)], "a.json: it is no JSON object"),
    "a label of a kind": ([("a.png", b"x"), ("a.json", b'{"label": {}}')], "`label` is a number of a class"),
    "a split": ([("a.png", b"x"), ("a.json", b'{"label": 1, "split": ["x"]}')], "not one of train, val, test"),
    "a group": ([("a.png", b"x"), ("a.json", b'{"label": 1, "group": "\\ud800"}')], "`group` is a text or a number"),
    "a long class": ([("a.png", b"x"), ("a.cls", b"1" * 5000)], "a.cls: it has 5,000 bytes, and 4,096 are the most"),
    "bytes": ([("a.png", b"x"), ("a.cls", b"\xff")], "a.cls: it is no text in UTF-8"),
    "a link's name": ([("../a.png", b"x")], "leads out of the shard"),
}


@pytest.mark.parametrize("what", FAULTY)
def test_faults_name_shard_and_place(tmp_path: Path, what: str) -> None:
    members, words = FAULTY[what]
    tar(tmp_path / "bad.tar", members)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "bad.tar")
    assert words in caught.value.message
    assert "bad.tar" in caught.value.message
    assert caught.value.hint


def test_numbers_need_a_line(tmp_path: Path) -> None:
    folder = shards(tmp_path / "s")
    (folder / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"a picture is of class 1, and classes\.txt has 1 line, counted from 0"):
        read(folder)
    (folder / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match="is no list of names"):
        read(folder)


def test_columns_describe_no_shards(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is for a CSV, but .* is of shards"):
        read(shards(tmp_path / "s"), label_col=("x",))
    with pytest.raises(DataError, match="a shard is not there"):
        read(tmp_path / "s" / "{0..1}.tar")
    with pytest.raises(DataError, match="No shard is called"):
        read(tmp_path / "none*.tar")


def test_shards_are_joined_and_predicted(tmp_path: Path) -> None:
    one, two = shards(tmp_path / "a", ["train"]), shards(tmp_path / "b", ["train"])
    settings = DataSettings(path=str(one), more=(str(two),))
    joined = read_source(find_data(settings), settings)
    assert len(joined.rows) == 24
    assert rows(joined)[:12] == rows(read(one))
    tar(tmp_path / "bare.tar", [("x.png", png(1))])
    (found,) = expand_inputs([tmp_path / "bare.tar"])
    assert found.file == f"{tmp_path}/bare.tar#000000000512+{len(png(1))}/x.png"
    assert len(list(expand_inputs([one]))) == 12


def test_an_index_beside_shards_counts_only_for_them(tmp_path: Path) -> None:
    folder = shards(tmp_path / "s", ["train"])
    expected = rows(read(folder))
    with index_writer(folder / "index.parquet", "x") as index:
        index.know([Shard("train/s-0.tar", 1)], [])
    assert rows(read(folder)) == expected
    (folder / "index.parquet").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"index\.parquet is not an index of shards that imgkit wrote"):
        read(folder)


def test_an_index_is_not_believed_of_shards_that_were_written_after_it(tmp_path: Path) -> None:
    settings = DataSettings(path=str(shards(tmp_path / "s", ["train"])), val=0.0)
    pack(settings, tmp_path / "packed", 1 << 20)
    (shard,) = (tmp_path / "packed").rglob("*.tar")
    before = rows(read(tmp_path / "packed"))
    content = [(name, b"0" if name.endswith(".cls") else body) for name, body in contents(shard)]
    size = shard.stat().st_size
    tar(shard, content)
    assert shard.stat().st_size == size
    later = (tmp_path / "packed" / "index.parquet").stat().st_mtime + 1
    os.utime(shard, (later, later))
    after = rows(read(tmp_path / "packed"))
    assert {labels for _, labels, _ in before} == {("cat",), ("dog",)}
    assert {labels for _, labels, _ in after} == {("cat",)}


@pytest.mark.parametrize("lists", [{"labels": [[1], [0]]}, {"labels": [None]}, {"groups": [1]}, {"groups": ["\ud800"]}])
def test_an_index_with_lists_of_other_kinds_is_refused(tmp_path: Path, lists: dict[str, object]) -> None:
    with index_writer(tmp_path / "i.parquet", "x") as index:
        index.know([Shard("a.tar", 100)], ["cat"])
    about = json.loads(pa.parquet.read_metadata(tmp_path / "i.parquet").metadata[b"imgkit"])
    table = pa.parquet.read_table(tmp_path / "i.parquet").replace_schema_metadata(
        {b"imgkit": json.dumps(about | lists).encode()}
    )
    pa.parquet.write_table(table, tmp_path / "i.parquet")
    with pytest.raises(DataError, match="is not an index of shards"):
        read_index(tmp_path / "i.parquet", "x")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, 1),
        (0, -1),
        (1, 90),
        (1, -1),
        (2, -5),
        (2, 1 << 62),
        (3, b"../x"),
        (3, b"/x"),
        (3, b""),
        (4, [3]),
        (5, 3),
        (6, 0),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, column: int, value: object) -> None:
    row: list[object] = [0, 10, 20, b"a/x.jpg", [0], -1, -1]
    row[column] = value
    with index_writer(tmp_path / "i.parquet", "x") as index:
        index.know([Shard("a.tar", 100)], ["cat"])
        index.add_columns(*([cell] for cell in row))
    with pytest.raises(DataError, match="is not an index of shards"):
        read_index(tmp_path / "i.parquet", "x")


def test_large_columns_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards(tmp_path / "s")
    plain = load_data(DataSettings(path=str(folder))).index
    monkeypatch.setattr("imgkit.data.spill.LEAST_BYTES", 1)
    mapped = load_data(DataSettings(path=str(folder))).index
    for column in (mapped.codes, mapped.offsets, mapped.hashes, mapped.sizes):
        base: object = column
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
    assert mapped.fingerprint == plain.fingerprint
    assert not [file for file in Path(os.environ["IMGKIT_CACHE"]).iterdir() if file.name.startswith("tmp")]
    monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert load_data(DataSettings(path=str(folder))).index.fingerprint == plain.fingerprint


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards(tmp_path / "s")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "file"))
    assert len(read(folder).rows) == 24


def test_an_old_cache_entry_that_is_damaged_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache"))
    folder = shards(tmp_path / "s")
    expected = rows(read(folder))
    (file,) = (tmp_path / "cache" / "shards").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    assert rows(read(folder)) == expected
    shutil.rmtree(folder / "val")
    assert len(find_shards(str(folder), "s").shards) == 2
    assert len(read_shards(str(folder), "s").rows) == 12
