import csv
import io
import json
from pathlib import Path

from imgkit.data.csv_text import written_by_imgkit
from imgkit.predict import Prediction
from imgkit.prediction_rows import write_csv, write_jsonl, write_sets_csv, write_sets_jsonl

ROWS = [
    Prediction("=1+1.png", "cat", 0.75, (("cat", 0.75), ("@dog", 0.25))),
    Prediction("b\udcff.png", "", 0.0, (), "is cut short"),
]


def test_csv_of_predictions(tmp_path: Path) -> None:
    with (tmp_path / "p.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert list(write_csv(ROWS, file, top_k=2)) == ROWS
    assert (tmp_path / "p.csv").read_bytes().splitlines() == [
        b"path,label,prob,label_2,prob_2,error",
        b"'=1+1.png,cat,0.750000,'@dog,0.250000,",
        b"b\xff.png,,,,,is cut short",
    ]


def test_csv_rows_are_written_as_they_come() -> None:
    file = io.StringIO()
    rows = write_csv(ROWS, file)
    assert next(rows) == ROWS[0]
    assert len(file.getvalue().splitlines()) == 2


def test_csv_is_as_wide_as_asked_where_there_are_fewer_classes() -> None:
    file = io.StringIO()
    list(write_csv(ROWS, file, top_k=4))
    assert {len(row) for row in csv.reader(io.StringIO(file.getvalue()))} == {10}


def test_jsonl_of_predictions() -> None:
    file = io.StringIO()
    assert list(write_jsonl(ROWS, file)) == ROWS
    first, second = [json.loads(line) for line in file.getvalue().splitlines()]
    assert first["top"] == [{"label": "cat", "prob": 0.75}, {"label": "@dog", "prob": 0.25}]
    assert second == {"path": "b\udcff.png", "label": None, "prob": None, "top": [], "error": "is cut short"}


SETS = [
    Prediction("=1.png", "cat", 0.75, (("cat", 0.75), ("@dog", 0.6)), labels=("cat", "@dog"), probs=(0.6, 0.75, 0.1)),
    Prediction("2.png", "cat", 0.2, (("cat", 0.2), ("@dog", 0.1)), labels=(), probs=(0.1, 0.2, 0.05)),
    Prediction("3.png", "", 0.0, (), "is cut short"),
]
LABELS = ["@dog", "cat", "emu"]


def test_sets_as_csv_have_the_probability_of_each_label() -> None:
    file = io.StringIO()
    assert list(write_sets_csv(SETS, file, labels=LABELS)) == SETS
    assert file.getvalue().splitlines() == [
        "path,labels,p:@dog,p:cat,p:emu,error",
        "'=1.png,cat|@dog,0.600000,0.750000,0.100000,",
        "2.png,,0.100000,0.200000,0.050000,",
        "3.png,,,,,is cut short",
    ]
    assert written_by_imgkit(file.getvalue().splitlines()[0].split(","))


def test_sets_as_csv_have_the_most_likely_labels_where_asked() -> None:
    file = io.StringIO()
    list(write_sets_csv(SETS, file, labels=LABELS, top_k=2))
    assert file.getvalue().splitlines() == [
        "path,labels,label_1,prob_1,label_2,prob_2,error",
        "'=1.png,cat|@dog,cat,0.750000,'@dog,0.600000,",
        "2.png,,cat,0.200000,'@dog,0.100000,",
        "3.png,,,,,,is cut short",
    ]


def test_sets_as_jsonl() -> None:
    file = io.StringIO()
    assert list(write_sets_jsonl(SETS, file, labels=LABELS)) == SETS
    first, second, third = [json.loads(line) for line in file.getvalue().splitlines()]
    assert first["labels"] == ["cat", "@dog"]
    assert first["probs"] == {"@dog": 0.6, "cat": 0.75, "emu": 0.1}
    assert second["labels"] == []
    assert second["top"][0] == {"label": "cat", "prob": 0.2}
    assert third == {"path": "3.png", "labels": None, "probs": None, "top": [], "error": "is cut short"}


OPEN = [
    Prediction("a.png", "cat", 0.75, (("cat", 0.75),), unlike=0.25, in_set=("cat", "a|b")),
    Prediction("b.png", "", 0.5, (("@dog", 0.5),), rejected="unsure", unlike=0.5, in_set=()),
    Prediction("c.png", "", 0.0, (), "is cut short"),
]


def test_csv_of_answers_that_are_left_open() -> None:
    file = io.StringIO()
    assert list(write_csv(OPEN, file, more=("guess", "rejected", "unlike", "set"))) == OPEN
    assert file.getvalue().splitlines() == [
        "path,label,prob,guess,rejected,unlike,set,error",
        "a.png,cat,0.750000,cat,,0.250000,cat|a\\|b,",
        "b.png,,0.500000,'@dog,unsure,0.500000,,",
        "c.png,,,,,,,is cut short",
    ]
    assert written_by_imgkit(file.getvalue().splitlines()[0].split(","))


def test_jsonl_of_answers_that_are_left_open() -> None:
    file = io.StringIO()
    assert list(write_jsonl(OPEN, file, more=("guess", "rejected", "set"))) == OPEN
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    kept = [{name: line[name] for name in ("label", "prob", "guess", "rejected", "set")} for line in lines]
    assert kept == [
        {"label": "cat", "prob": 0.75, "guess": "cat", "rejected": None, "set": ["cat", "a|b"]},
        {"label": None, "prob": 0.5, "guess": "@dog", "rejected": "unsure", "set": []},
        {"label": None, "prob": None, "guess": None, "rejected": None, "set": None},
    ]
    assert all("unlike" not in line for line in lines)
