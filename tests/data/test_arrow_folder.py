"""Folders that `save_to_disk` writes, made here with pyarrow in the same form, against the bytes that went in."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tars import png

from imgkit.data.load import load_data
from imgkit.data.pack import pack
from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, UsageError
from imgkit.recipe.schema import DataSettings

pa = pytest.importorskip("pyarrow")
CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}
PICTURE = {"_type": "Image"}


def saved(
    folder: Path,
    pictures: list[bytes | None],
    columns: dict[str, Any],
    features: dict[str, Any],
    *,
    files: int = 1,
    **how: Any,  # noqa: ANN401
) -> Path:
    """One split, in files of as many rows, and record batches of three."""
    folder.mkdir(parents=True)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(pictures)], kind)
    table = pa.table({"image": images, **columns})
    each = -(-len(pictures) // files)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema, **how) as writer:
            writer.write_table(table.slice(number * each, each), max_chunksize=3)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"image": PICTURE, **features}}))
    return folder


def simple(folder: Path, n: int = 10, **how: Any) -> tuple[Path, list[bytes]]:  # noqa: ANN401
    contents = [png(folder.name, row) for row in range(n)]
    return saved(
        folder, list(contents), {"label": pa.array([row % 2 for row in range(n)])}, {"label": CLASSES}, **how
    ), contents


def read(folder: Path, **given: object) -> Source:
    settings = DataSettings(path=str(folder), **given)
    return read_source(find_data(settings), settings)


@pytest.mark.parametrize("files", [1, 3])
def test_bytes_and_labels_come_out(tmp_path: Path, files: int) -> None:
    from imgkit.data.byte_range import opened

    folder, contents = simple(tmp_path / "d", files=files)
    found = read(folder)
    assert [row.labels[0] for row in found.rows] == ["cat", "dog"] * 5
    for path, content in zip(found.rows.paths, contents, strict=True):
        with opened(folder / path) as stream:
            assert stream.read() == content
    paths = list(found.rows.paths)
    assert paths == sorted({*paths})


def test_splits_are_folders(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        simple(tmp_path / "d" / split)
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    index = load_data(DataSettings(path=str(tmp_path / "d"))).index
    assert [len(index.rows(split)) for split in ("train", "val", "test")] == [10, 10, 10]
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "extra"]}')
    with pytest.raises(DataError, match="has the splits extra, train"):
        read(tmp_path / "d")


def test_each_split_has_class_names_of_its_own(tmp_path: Path) -> None:
    """As where splits were loaded one by one, and a class is missing in one of them."""
    names = {"train": ["bird", "cat", "dog"], "validation": ["bird", "dog"], "test": ["dog", "cat"]}
    codes = {"train": [0, 1, 2], "validation": [1, 0, 1], "test": [0, 1]}
    for split, classes in names.items():
        pictures: list[bytes | None] = [png(split, row) for row in range(len(codes[split]))]
        feature = {"names": classes, "_type": "ClassLabel"}
        saved(tmp_path / "d" / split, pictures, {"label": pa.array(codes[split])}, {"label": feature})
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))
    found = sorted((str(row.split), row.labels[0]) for row in read(tmp_path / "d").rows)
    expected = [("train", "bird"), ("train", "cat"), ("train", "dog")]
    expected += [("val", "bird"), ("val", "dog"), ("val", "dog"), ("test", "dog"), ("test", "cat")]
    assert found == sorted(expected)


def test_splits_of_one_label_and_of_several_are_not_one_data_set(tmp_path: Path) -> None:
    simple(tmp_path / "d" / "train")
    several = {"label": pa.array([[0], [1, 0]])}
    saved(tmp_path / "d" / "test", [png(1), png(2)], several, {"label": {"_type": "List", "feature": CLASSES}})
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="holds one label in some splits, several in others"):
        read(tmp_path / "d")


def test_they_are_packed(tmp_path: Path) -> None:
    folder, contents = simple(tmp_path / "d")
    assert pack(DataSettings(path=str(folder), val=0.0), tmp_path / "out", 1 << 20).pictures == 10
    one, other = (load_data(DataSettings(path=str(path))).index for path in (folder, tmp_path / "out"))
    assert (one.hashes == other.hashes).all()
    assert (one.classes, one.labels().tolist()) == (other.classes, other.labels().tolist())
    assert one.sizes.tolist() == [len(content) for content in contents]


LABELS: dict[str, tuple[list[Any], Any, list[tuple[str, ...]], str]] = {
    "names": (["b", "a", "b"], {"_type": "Value", "dtype": "string"}, [("b",), ("a",), ("b",)], "single"),
    "numbers": ([3, 10, 3], {"_type": "Value", "dtype": "int64"}, [("3",), ("10",), ("3",)], "single"),
    "lists of numbers": (
        [[1, 0], [], [1]],
        {"_type": "List", "feature": CLASSES},
        [("dog", "cat"), (), ("dog",)],
        "multilabel",
    ),
    "lists of names": ([["x"], None, ["y", "x"]], [{"_type": "Value"}], [("x",), (), ("y", "x")], "multilabel"),
}


@pytest.mark.parametrize("what", LABELS)
def test_kinds_of_labels(tmp_path: Path, what: str) -> None:
    values, feature, expected, task = LABELS[what]
    pictures: list[bytes | None] = [png(row) for row in range(3)]
    found = read(saved(tmp_path / "d", pictures, {"tag": pa.array(values)}, {"tag": feature}), label_col=("tag",))
    assert [row.labels for row in found.rows] == expected
    assert found.task == task


def test_columns_that_are_not_clear_are_asked_for(tmp_path: Path) -> None:
    columns = {name: pa.array([0, 1]) for name in ("fine", "coarse")}
    folder = saved(tmp_path / "d", [png(1), png(2)], columns, {"fine": CLASSES, "coarse": CLASSES})
    with pytest.raises(UsageError, match="which column holds the labels is not clear: fine, coarse") as caught:
        read(folder)
    assert "--label-col COLUMN" in caught.value.hint
    assert len(read(folder, label_col=("fine",)).rows) == 2
    with pytest.raises(UsageError, match=r"has no column 'fin' \(did you mean 'fine'\?\)"):
        read(folder, label_col=("fin",))
    with pytest.raises(UsageError, match=r"is for a CSV, but .* is a folder of Arrow files"):
        read(folder, group_col="fine")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="paths of pictures instead of their bytes"):
        read(saved(tmp_path / "none", [None, png(1)], {"label": pa.array([0, 1])}, {"label": CLASSES}))
    with pytest.raises(DataError, match="1 image has no label in 'label', first row 2"):
        read(saved(tmp_path / "unlabelled", [png(1), png(2)], {"label": pa.array([0, -1])}, {"label": CLASSES}))
    with pytest.raises(DataError, match="a label is 2, and there are 2 classes"):
        read(saved(tmp_path / "beyond", [png(1)], {"label": pa.array([2])}, {"label": CLASSES}))
    how = {"options": pa.ipc.IpcWriteOptions(compression="zstd")}
    with pytest.raises(DataError, match="its record batches are compressed"):
        read(simple(tmp_path / "packed", **how)[0])
    numbers = {name: pa.array([0, 1]) for name in ("label", "number")}
    folder = saved(tmp_path / "numbers", [png(1), png(2)], numbers, {"label": CLASSES, "number": {"_type": "Value"}})
    with pytest.raises(DataError, match="column 'number' holds no pictures"):
        read(folder, image_col="number")
    lists = {"tag": pa.array([["x"], ["y"], ["x"]])}
    folder = saved(tmp_path / "lists", [png(row) for row in range(3)], lists, {"tag": [{"_type": "Value"}]})
    file = next(folder.glob("*.arrow"))
    offsets, beyond = struct.pack("<4i", 0, 1, 2, 3), struct.pack("<4i", 0, 1, 2, 1 << 28)
    assert offsets in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(offsets, beyond))
    with pytest.raises(DataError, match="is no data set that can be read"):
        read(folder, label_col=("tag",))
    folder, _ = simple(tmp_path / "d")
    file = next(folder.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-700])
    with pytest.raises(DataError, match="is no data set that can be read"):
        read(folder)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with pytest.raises(DataError, match="a file lies outside of it"):
        read(folder)
