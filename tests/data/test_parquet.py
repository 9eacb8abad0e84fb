"""Tables in Parquet are read like a CSV of the same cells."""

import builtins
from pathlib import Path
from types import ModuleType

import pytest
from published import touch, write

from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, UsageError
from imgkit.predict import expand_inputs
from imgkit.recipe.schema import DataSettings


def read(file: Path, **given: object) -> Source:
    found = DataSettings(path=str(file), **given)
    return read_source(find_data(found), found)


def save(file: Path, columns: dict[str, object]) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    touch(file.parent, "a.jpg", "b.jpg", "c.jpg", "sub/d.jpg")
    parquet.write_table(pa.table(columns), file)
    return file


def test_a_missing_pyarrow_is_one_line_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cells.parquet")
    real = builtins.__import__

    def without(name: str, *rest: object) -> ModuleType:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="is a Parquet file, and pyarrow, which reads it, is not installed") as caught:
        read(tmp_path / "cells.parquet")
    assert 'pip install "imgkit-timm[parquet]"' in caught.value.hint
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_the_same_rows_as_a_csv_of_the_same_cells(tmp_path: Path) -> None:
    file = save(
        tmp_path / "cells.parquet",
        {
            "path": ["a.jpg", "b.jpg", "sub/d.jpg"],
            "label": [3, 12, 3],
            "split": ["train", "val", "train"],
            "patient": [1, 2, 1],
            "score": [0.5, None, 1.5],
        },
    )
    table = write(
        tmp_path / "cells.csv",
        "path,label,split,patient,score",
        "a.jpg,3,train,1,0.5",
        "b.jpg,12,val,2,",
        "sub/d.jpg,3,train,1,1.5",
    )
    for given in ({}, {"group_col": "patient"}, {"label_col": "patient", "group_col": "label"}):
        one, other = read(file, **given), read(table, **given)
        assert one.rows == other.rows
        assert [note.replace("parquet", "csv") for note in one.notes] == other.notes
        assert [text.replace("parquet", "csv") for text in one.warnings] == other.warnings
    assert read(file).rows[0].labels == ("3",), "a whole number is not 3.0"


def test_predict_reads_it_too(tmp_path: Path) -> None:
    file = save(tmp_path / "cells.parquet", {"image": ["a.jpg", None, "sub/d.jpg"], "id": [1, 2, 3]})
    assert [one.file for one in expand_inputs([file])] == [str(tmp_path / "a.jpg"), "", str(tmp_path / "sub/d.jpg")]
    with pytest.raises(DataError, match="has no column 'imag'"):
        list(expand_inputs([file], image_col="imag"))


def test_flags_and_categories(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    file = save(
        tmp_path / "cells.parquet",
        {
            "image": ["a.jpg", "b.jpg"],
            "kind": pa.array(["cat", "dog"]).dictionary_encode(),
            "big": [True, False],
            "old": [0, 1],
        },
    )
    assert [row.labels for row in read(file, label_col="kind").rows] == [("cat",), ("dog",)]
    assert [row.labels for row in read(file, label_col=("big", "old")).rows] == [("big",), ("old",)]


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_lists_of_labels_are_sets(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    tags = [["spot", "big cat"], ["spot", None], None, ["crack", "crack"]]
    type_ = {
        "list": pa.list_(pa.string()),
        "large_list": pa.large_list(pa.dictionary(pa.int32(), pa.string())),
        "fixed": pa.list_(pa.string(), 2),
    }[kind]
    paths = ["a.jpg", "b.jpg", "c.jpg", "sub/d.jpg"]
    file = save(tmp_path / "sets.parquet", {"path": paths, "Tags": pa.array(tags, type_), "box": [[1.0]] * 4})
    table = write(tmp_path / "sets.csv", "path,Tags", "a.jpg,spot;big cat", "b.jpg,spot", "c.jpg,", "sub/d.jpg,crack")
    for given in ({}, {"label_col": "Tags"}):
        one, other = read(file, label_delimiter="|", **given), read(table, label_delimiter=";", **given)
        assert one.rows == other.rows
        assert [row.labels for row in one.rows] == [("big cat", "spot"), ("spot",), (), ("crack",)]
        assert one.task == "multilabel"


def test_lists_of_numbers_and_an_empty_column_of_lists(tmp_path: Path) -> None:
    file = save(tmp_path / "sets.parquet", {"path": ["a.jpg", "b.jpg"], "labels": [[3, 12], []]})
    assert [row.labels for row in read(file, label_delimiter="|").rows] == [("12", "3"), ()]


def test_lists_where_an_image_has_one_label_are_told(tmp_path: Path) -> None:
    columns = {"path": ["a.jpg", "b.jpg"], "label": ["x", "y"], "tags": [["spot"], ["spot", "a|b"]]}
    file = save(tmp_path / "sets.parquet", columns)
    alone = save(tmp_path / "alone.parquet", {"path": columns["path"], "n": [1, 2], "tags": columns["tags"]})
    for table, given in ((alone, {}), (file, {"label_col": "tags"}), (file, {"label_col": ("label", "tags")})):
        with pytest.raises(DataError, match=r"column 'tags' holds lists, and nothing says .* several labels") as caught:
            read(table, **given)
        assert "--label-delimiter '|'   or name another column:  --label-col COLUMN" in caught.value.hint
    for given in ({}, {"label_col": "label"}):
        assert [row.labels for row in read(file, **given).rows] == [("x",), ("y",)]
    assert [row.labels for row in read(alone, label_col="n").rows] == [("1",), ("2",)]
    told = r"row 2 has the label 'a\|b' in column 'tags', which holds the delimiter '\|'\."
    with pytest.raises(DataError, match=told) as caught:
        read(file, label_col="tags", label_delimiter="|")
    assert caught.value.hint == "Give a --label-delimiter that is in no label."
    assert read(file, label_col="tags", label_delimiter=";").rows[1].labels == ("a|b", "spot")
    assert [one.given for one in expand_inputs([file])] == ["a.jpg", "b.jpg"], "predict reads no labels"


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    file = save(tmp_path / "cells.parquet", {"path": ["a.jpg", "b.jpg"], "label": ["cat", None]})
    with pytest.raises(DataError, match=r"row 2 has no label"):
        read(file)
    with pytest.raises(DataError, match="has no column 'labl'") as caught:
        read(file, label_col="labl")
    assert "--label-col label" in caught.value.hint
    inside = save(tmp_path / "inside.parquet", {"image": [{"bytes": b"x", "path": "a.jpg"}], "label": [1]})
    with pytest.raises(DataError, match="column 'image' holds struct<bytes: binary, path: string>, no text") as told:
        read(inside)
    assert "imgkit reads image files" in told.value.hint
    write(tmp_path / "text.parquet", "path,label", "a.jpg,cat")
    with pytest.raises(DataError, match=r"text\.parquet cannot be read as Parquet"):
        read(tmp_path / "text.parquet")
    missing = save(tmp_path / "gone.parquet", {"path": ["x.jpg", "b.jpg"], "label": ["cat", "dog"]})
    with pytest.raises(DataError, match=r"1 of 2 images do not exist. First: row 1, 'x.jpg'"):
        read(missing)
