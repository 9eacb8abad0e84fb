"""Lists of `path label` in a text file."""

from pathlib import Path

import pytest
from published import touch, write

from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError
from imgkit.predict import Trained, expand_inputs
from imgkit.recipe.schema import DataSettings


def read(file: Path, **given: object) -> Source:
    touch(file.parent, "a.jpg", "b b.PNG", "sub/c.jpg", "pics/a.jpg")
    found = DataSettings(path=str(file), **given)
    return read_source(find_data(found), found)


def test_a_list_without_a_header(tmp_path: Path) -> None:
    file = write(tmp_path / "train.txt", "a.jpg 0", "", "  b b.PNG\t12", "sub/c.jpg   big cat ")
    source = read(file)
    assert [(row.path, row.labels) for row in source.rows] == [
        ("a.jpg", ("0",)),
        ("b b.PNG", ("12",)),
        ("sub/c.jpg", ("big cat",)),
    ]
    assert source.notes == [f"Columns of {file}: image 'path', label 'label'."]
    assert [row.path for row in read(write(tmp_path / "x.txt", "a.jpg 1"), root=str(tmp_path / "pics")).rows] == [
        "a.jpg"
    ]


def test_predict_reads_it_too(tmp_path: Path) -> None:
    file = write(tmp_path / "any.TXT", "a.jpg 0", "", "sub/b c.PNG 1 2", "sub/d.jpg 1")
    found = list(expand_inputs([file, "e.jpg"]))
    assert [one.given for one in found] == ["a.jpg", "sub/b c.PNG", "sub/d.jpg", "e.jpg"]
    assert [one.file for one in found] == [str(tmp_path / one.given) for one in found[:-1]] + ["e.jpg"]
    trained = Trained(file, tmp_path / "in", None)
    assert next(expand_inputs([file], trained=trained)).file == str(tmp_path / "in" / "a.jpg")


def test_several_labels_with_a_delimiter(tmp_path: Path) -> None:
    source = read(write(tmp_path / "list.txt", "a.jpg cat dog", "b b.PNG dog"), label_delimiter=" ")
    assert [row.labels for row in source.rows] == [("cat", "dog"), ("dog",)]
    assert source.task == "multilabel"


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3 is not of the form PATH LABEL, as the first one is: 'sub/c 3'"):
        read(write(tmp_path / "list.txt", "a.jpg 1", "b b.PNG 2", "sub/c 3"))
    with pytest.raises(DataError, match=r"line 2 is not of the form PATH LABEL, .*: 'b b.PNG'"):
        read(write(tmp_path / "list.txt", "a.jpg 1", "b b.PNG"))


def test_text_with_a_header_stays_a_table(tmp_path: Path) -> None:
    source = read(write(tmp_path / "table.txt", "path\tlabel", "a.jpg\tcat", "sub/c.jpg\tdog"))
    assert [row.labels for row in source.rows] == [("cat",), ("dog",)]
