"""Labels of tables with several columns, delimiters, zeros and ones: against a naive parser, and what is said."""

import csv
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import corpus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgkit.data.load import LoadedData, load_data
from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, ImgkitError, UsageError
from imgkit.recipe.schema import DataSettings

FLAGS = ["0", "1", "true", "False", "YES", "no", "", " 1 ", "0.0", "1.0"]
NAMES = ["cat", "Dog", "1", "no", "kind 1", "-x"]
DELIMITERS = [None, "|", ";", ", ", "::"]
PICTURE = corpus.encoded(Image.new("RGB", (2, 2)), "PNG")

Table = tuple[list[str], list[list[str]], str | None]
"""Names of label columns, their cells by row, and the delimiter."""


@st.composite
def tables(draw: st.DrawFn, most_rows: int = 8) -> Table:
    names = draw(st.lists(st.sampled_from(["kind", "bad", "mono", "cat"]), min_size=1, max_size=4, unique=True))
    delimiter = draw(st.sampled_from(DELIMITERS))
    space = st.sampled_from(["", " "])
    listed = st.lists(
        st.builds(lambda a, name, b: a + name + b, space, st.sampled_from([*NAMES, ""]), space), max_size=4
    )
    kinds = {"flags": st.sampled_from(FLAGS), "names": listed.map((delimiter or "").join)}
    kinds["names"] = kinds["names"] if delimiter else st.sampled_from([*NAMES, "", " cat "])
    columns = [draw(st.sampled_from(sorted(kinds))) for _ in names]
    rows = draw(st.integers(1, most_rows))
    return names, [[draw(kinds[kind]) for kind in columns] for _ in range(rows)], delimiter


def naive(made: Table) -> list[set[str]] | None:
    """The label set of each row, or None where the table must be refused."""
    names, cells, delimiter = made
    yes, no = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}
    found: list[set[str]] = [set() for _ in cells]
    flags, spoken, has_names, codes = set(), set(), False, 0
    for column, name in enumerate(names):
        words = [row[column].strip().lower() for row in cells]
        if set(words) <= yes | no and not (len(names) == 1 and delimiter):
            flags.add(name)
            for row, word in enumerate(words):
                found[row] |= {name} if word in yes else set()
            continue
        has_names = True
        labels = {part.strip() for line in cells for part in line[column].split(delimiter or "\n")} - {""}
        codes += labels == {"1"}  # the only number among NAMES
        for row, line in enumerate(cells):
            for part in line[column].split(delimiter) if delimiter else [line[column]]:
                if part.strip():
                    found[row].add(part.strip())
                    spoken.add(part.strip())
    if (
        codes > 1
        or (delimiter and not has_names)
        or (len(names) == 1 and has_names and not delimiter)
        or flags & spoken
    ):
        return None
    return found


def write(folder: Path, made: Table, delimiter: str = ",") -> Path:
    names, cells, _ = made
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream, delimiter=delimiter)
        rows.writerow(["path", *names])
        rows.writerows([f"{number:03d}.png", *line] for number, line in enumerate(cells))
    return folder / "labels.csv"


def given_columns(made: Table) -> DataSettings:
    return DataSettings(task="multilabel", label_col=tuple(made[0]), label_delimiter=made[2], on_bad="skip")


@settings(max_examples=300, deadline=None)
@given(made=tables(), comma=st.sampled_from(",;\t"))
def test_label_sets_equal_a_naive_parser(made: Table, comma: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), made, comma)
        chosen = given_columns(made).model_copy(update={"path": str(file)})
        expected = naive(made)
        if expected is None:
            with pytest.raises((DataError, UsageError)):
                read_source(find_data(chosen), chosen)
            return
        source = read_source(find_data(chosen), chosen)
    assert source.task == "multilabel"
    # A row of nothing but its path is there too.
    assert [row.labels for row in source.rows] == [tuple(sorted(labels)) for labels in expected]


@settings(max_examples=25, deadline=None)
@given(made=tables(most_rows=6), seed=st.integers(0, 9))
def test_targets_equal_a_naive_parser(made: Table, seed: int) -> None:
    expected = naive(made)
    no_cache = patch.dict(os.environ, IMGKIT_CACHE=f"{os.devnull}/x")
    with no_cache, tempfile.TemporaryDirectory() as folder:
        for number in range(len(made[1])):
            (Path(folder) / f"{number:03d}.png").write_bytes(PICTURE)
        chosen = given_columns(made).model_copy(update={"path": str(write(Path(folder), made))})
        if not expected or not any(expected):
            with pytest.raises(ImgkitError):
                load_data(chosen.model_copy(update={"split_seed": seed}))
            return
        index = load_data(chosen.model_copy(update={"split_seed": seed})).index
    assert index.task == "multilabel"
    assert index.classes == tuple(sorted(set().union(*expected)))
    assert index.targets().tolist() == [[float(name in labels) for name in index.classes] for labels in expected]
    train = {name for row in index.rows("train") for name in expected[row]}
    assert train == set(index.classes)


# What is said


def table(folder: Path, text: str) -> str:
    """A CSV with real pictures for all its rows."""
    for row in text.splitlines()[1:]:
        name = row.split(",")[0]
        seed = sum(map(ord, name))
        noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    (folder / "cells.csv").write_text(text)
    return str(folder / "cells.csv")


def read(path: str, **given: object) -> Source:
    chosen = DataSettings.model_validate({"path": path, **given})
    return read_source(find_data(chosen), chosen)


def load(path: str, **given: object) -> LoadedData:
    return load_data(DataSettings.model_validate({"path": path, **given}))


CELLS = "path,defective,type\na.png,1,mono\nb.png,0,poly\nc.png,1,poly\nd.png,0,mono\ne.png,0,\n"


def test_zeros_and_ones_beside_names(tmp_path: Path) -> None:
    data = load(table(tmp_path, CELLS), label_col=("defective", "type"), val=0.4)
    index = data.index
    assert index.classes == ("defective", "mono", "poly")
    assert index.multi_hot().tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert "Multi-label, since there are 2 label columns: defective holds 0 and 1; type holds names of labels." in (
        data.notes
    )
    assert "1.20 labels an image, at most 2." in data.notes
    assert "1 image has no label, of 5." in data.notes


def test_a_delimiter_makes_it_multilabel(tmp_path: Path) -> None:
    data = load(table(tmp_path, "path,tags\na.png,x | y\nb.png,y|y|\nc.png,\nd.png,x\n"), label_delimiter="|")
    assert data.index.classes == ("x", "y")
    assert data.index.label_sets() == [(0, 1), (1,), (), (0,)]
    assert "Multi-label, since labels are split at '|': tags holds names of labels." in data.notes


def test_zeros_and_ones_of_a_single_column_are_names_unless_it_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\na.png,1\nb.png,0\nc.png,1\nd.png,0\n")
    assert load(path).index.classes == ("0", "1")
    assert load(path).index.task == "single"
    several = load(path, task="multilabel")
    assert (several.index.classes, several.index.task) == (("label",), "multilabel")
    assert several.index.multi_hot().tolist() == [[1], [0], [1], [0]]
    assert "Multi-label: label holds 0 and 1." in several.notes
    split = load(path, label_delimiter="|")
    assert split.index.classes == ("0", "1")
    assert "The delimiter '|' stands in no cell of label." in split.warnings


def test_labels_of_a_table_of_predictions_may_hold_its_delimiter(tmp_path: Path) -> None:
    rows = "a.png,a\\|b|c,0\nb.png,,1\n"
    own = read(
        table(tmp_path, f"path,labels,predicted,exact\n{rows}".replace(",0", ",c,0").replace(",1", ",,1")),
        label_col="labels",
        label_delimiter="|",
    )
    assert [row.labels for row in own.rows] == [("a|b", "c"), ()]
    other = read(table(tmp_path, f"path,labels,exact\n{rows}"), label_col="labels", label_delimiter="|")
    assert [row.labels for row in other.rows] == [("a\\", "b", "c"), ()]


@pytest.mark.parametrize(("minus", "plus"), [("-1", "1"), ("-1.0", "1.0")])
def test_two_classes_may_be_written_minus_and_plus_one(tmp_path: Path, minus: str, plus: str) -> None:
    source = read(table(tmp_path, f"path,label\na.png,{minus}\nb.png,{plus}\nc.png,{minus}\n"))
    assert [row.labels for row in source.rows] == [(minus,), (plus,), (minus,)]
    assert f"Labels {minus}, {plus} are names of classes: -1 is not read as 'not labelled'." in source.notes


def test_classes_are_checked_against_the_labels(tmp_path: Path) -> None:
    path = table(tmp_path, CELLS)
    assert load(path, label_col=("defective", "type"), classes=3)
    with pytest.raises(DataError, match=r"--classes 2, but .* has 3 classes"):
        load(path, label_col=("defective", "type"), classes=2)


BAD = {
    "one name a cell": (
        CELLS,
        {"label_col": "type", "task": "multilabel"},
        3,
        "{path}: its one label column 'type' holds names (row 2: 'mono'), and nothing says how several "
        "stand in a cell.\n"
        "Name what stands between labels:  --label-delimiter '|'\n"
        "or give more label columns:  --label-col type --label-col defective\n"
        "or, if an image has one label:  --task single",
    ),
    "one name a cell, with marks": (
        "path,tags\na.png,x;y\nb.png,y\n",
        {"task": "multilabel"},
        3,
        "{path}: its one label column 'tags' holds names (row 2: 'x;y'), and nothing says how several "
        "stand in a cell.\n"
        "Name what stands between labels:  --label-delimiter ';'\n"
        "or give more label columns:  --label-col tags --label-col COLUMN\n"
        "or, if an image has one label:  --task single",
    ),
    "delimiter of zeros and ones": (
        "path,x,y\na.png,0,1\nb.png,1,0\n",
        {"label_col": ("x", "y"), "label_delimiter": "|"},
        2,
        "data.label_delimiter = '|' is not used: every label column of {path} holds zeros and ones.\n"
        "Leave out --label-delimiter.",
    ),
    "a label from two kinds of columns": (
        "path,mono,type\na.png,0,mono\nb.png,1,poly\n",
        {"label_col": ("mono", "type")},
        3,
        "{path}: 'mono' is a label column of zeros and ones, and a label in column 'type' too (row 2).\n"
        "Rename one of them, or leave out one of the columns.",
    ),
    "two label sets": (
        "path,tags\na.png,x|y\nb.png,y\na.png,x\n",
        {"label_delimiter": "|"},
        3,
        "{path}: a.png has two label sets: 'x, y' in row 2, 'x' in row 4.\n"
        "Keep one of the rows. All labels of an image stand in one row, in several columns or in one cell.",
    ),
    "single with columns": (
        CELLS,
        {"label_col": ("defective", "type"), "task": "single"},
        2,
        "data.task = 'single' means one label an image, but there are 2 label columns: defective, type.\n"
        "Name one of them:  --label-col defective   or use  --task multilabel",
    ),
    "no label in single": (
        "path,label\na.png,x\nb.png,\n",
        {},
        3,
        "{path}: row 3 has no label.\nFill it in or delete the row. Where an image may have several labels, or none:  "
        "--label-delimiter '|'",
    ),
    "flags in another code": (
        "path,a,b\na.png,-1,1\nb.png,1,-1\n",
        {"label_col": ("a", "b")},
        3,
        "{path}: the label columns a, b hold -1, 1: neither zeros and ones nor names of labels.\n"
        "Write 1 where an image has the label, and 0 or nothing where it has not.",
    ),
    "not labelled beside codes": (
        "path,label\na.png,0\nb.png,-1\nc.png,1\nd.png,-1\n",
        {},
        3,
        "{path}: 2 rows have the label -1, first row 3. Beside 0, 1 it means 'not labelled'; nothing is learned from "
        "such rows.\nDelete them; a trained model labels them:  imgkit predict latest TABLE.csv\n"
        "If -1 is a class of its own, give it a name.",
    ),
    "not labelled beside names": (
        "path,label\na.png,cat\nb.png,-1.0\nc.png,cat\n",
        {},
        3,
        "{path}: 1 row has the label -1.0, first row 3. Beside cat it means 'not labelled'; nothing is learned from "
        "such rows.\nDelete them; a trained model labels them:  imgkit predict latest TABLE.csv\n"
        "If -1 is a class of its own, give it a name.",
    ),
    "not labelled beside sets": (
        "path,tags\na.png,x|y\nb.png,-1\nc.png,\n",
        {"label_delimiter": "|"},
        3,
        "{path}: 1 row has the label -1, first row 3. Beside x, y it means 'not labelled'; nothing is learned from "
        "such rows.\nDelete them; a trained model labels them:  imgkit predict latest TABLE.csv\n"
        "If -1 is a class of its own, give it a name.",
    ),
    "nothing has a label": (
        "path,tags\na.png,\nb.png,\n",
        {"label_delimiter": "|"},
        3,
        "{path} has no image with a label in train.\nNothing can be learned without labels.",
    ),
    "a label only in val": (
        "path,tags,split\na.png,x,train\nb.png,x|y,val\n",
        {"label_delimiter": "|"},
        3,
        "val has a class that train does not have: y\nRename it in {path}, or leave out the rows of val, and imgkit "
        "takes a share of train.",
    ),
    "no such column": (
        CELLS,
        {"label_col": ("defectiv", "type")},
        3,
        "{path} has no column 'defectiv'.\nColumns: path, defective, type\n"
        "Did you mean  --label-col defective --label-col type ?",
    ),
    "no such columns": (
        CELLS,
        {"label_col": ("typ", "defectve", "defectiv")},
        3,
        "{path} has no column 'typ'.\nColumns: path, defective, type\n"
        "Did you mean  --label-col type --label-col defective ?",
    ),
    "no such column beside the one it is near": (
        CELLS,
        {"label_col": ("type", "tipe")},
        3,
        "{path} has no column 'tipe'.\nColumns: path, defective, type\nDid you mean  --label-col type ?",
    ),
    "no such columns where one would be taken": (
        "path,label\na.png,cat\nb.png,dog\n",
        {"label_col": ("kind", "sort")},
        3,
        "{path} has no column 'kind'.\nColumns: path, label\nDid you mean  --label-col label ?",
    ),
    "no label column, but zeros and ones": (
        "path,hot,cold,x\na.png,1,0,0\nb.png,0,1,0\n",
        {},
        3,
        "{path} has no label column (looked for label, class, category, target, labels, tags).\n"
        "Columns: path, hot, cold, x\nGive --label-col.\n"
        "Columns of 0 and 1, of which each may be a label:  --label-col hot --label-col cold",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    text, given_settings, code, message = BAD[name]
    path = table(tmp_path, text)
    with pytest.raises(ImgkitError) as caught:
        load(path, **given_settings)
    assert str(caught.value) == message.format(path=path)
    assert caught.value.exit_code == code


def test_folders_have_one_label_an_image(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(PICTURE)
    with pytest.raises(UsageError) as caught:
        read(str(tmp_path), task="multilabel")
    assert str(caught.value) == (
        f"data.task = 'multilabel', but {tmp_path} is a folder of class folders: one label an image.\n"
        "Give a CSV:  --data labels.csv --label-col COLUMN --label-delimiter '|'"
    )
    with pytest.raises(UsageError, match=r"label_delimiter is for a CSV") as caught:
        read(str(tmp_path), label_delimiter="|")
    assert caught.value.hint == "Leave out --label-delimiter."


def test_doubts_are_told(tmp_path: Path) -> None:
    text = "path,hot,state,tags\na.png,0,1,x;y\nb.png,0,maybe,x\nc.png,0,0,y\nd.png,0,1,\n"
    source = read(table(tmp_path, text), label_col=("hot", "state", "tags"))
    assert source.warnings == [
        "1 label column without a 1, so no image has the label: hot.",
        "Column 'state' is read as names, since row 3 has 'maybe', but 3 of its 4 cells are 0 or 1.",
    ]
    source = read(table(tmp_path, text), label_col=("tags",), label_delimiter="|")
    assert source.warnings == ["The delimiter '|' stands in no cell of tags. ';' does:  --label-delimiter ';'"]


def test_names_made_of_names_are_told_in_a_single_label_task(tmp_path: Path) -> None:
    source = read(table(tmp_path, "path,label\na.png,x|y\nb.png,x\nc.png,y\nd.png,x|z\n"))
    assert source.warnings == [
        "1 label is made of other labels, such as 'x|y'. If an image may have several:  --label-delimiter '|'"
    ]


def test_a_label_on_every_image_of_train_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,x{'|y' * (number % 2)}\n" for number in range(8))
    data = load(table(tmp_path, f"path,tags\n{rows}"), label_delimiter="|")
    assert "1 label is on every image of train: x." in data.warnings


def test_copies_with_other_label_sets_are_told(tmp_path: Path) -> None:
    path = table(tmp_path, "path,tags\na.png,x|y\nb.png,x\nc.png,\nd.png,y\n")
    for name in ("b", "c"):
        (tmp_path / f"{name}.png").write_bytes((tmp_path / "a.png").read_bytes())
    warnings = load(path, label_delimiter="|").warnings
    assert any("exact copies with different labels, for example a.png = b.png" in text for text in warnings)


def test_a_small_validation_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "path,tags,split\na.png,x|y,train\nb.png,y,train\nc.png,y,val\n")
    data = load(path, label_delimiter="|")
    assert any(
        text.startswith(
            "The validation set has 1 image for 2 classes, and 1 class has none. Subset accuracy would be known only "
            "to about ±98 points"
        )
        for text in data.warnings
    )
    assert "1 class of train has no image in val: x." in data.notes
    assert "1 class has one image in train: x. Add images, or leave it out." in data.warnings
