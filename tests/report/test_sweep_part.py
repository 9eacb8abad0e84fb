"""What the page of a sweep's folder says of it."""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from page_reader import read_page, text_of
from scored_runs import index_of, write_scored_run

from imgkit.errors import DiskError
from imgkit.report.collect import collect
from imgkit.report.runs_page import runs_page
from imgkit.report.sweep import expected_lead, states_words, warnings
from imgkit.sweeps.importance import importances
from imgkit.sweeps.record import FILE, Record, Row, read_record, write_record
from imgkit.sweeps.schema import Choices, Range

SPACE = {"phases.all.lr": Range(1e-4, 1e-1, log=True), "augment.crop": Choices(((0.5, 1.0), "none"))}


def row(number: int, lr: float, crop: str, value: float | None) -> Row:
    state = "finished" if value is not None else "pruned"
    params = {"phases.all.lr": lr, "augment.crop": crop}
    return Row(number, f"trial{number:04d}-seed0", state, params, value, [value or 0.1], "", "here", 61.0, "f")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    index = index_of(90)
    rows = []
    for number, value in enumerate((0.8, 0.9, 0.85, 0.7, None)):
        crop = ("[0.5, 1.0]", "none")[number % 2]
        rows.append(row(number, 10 ** (-4 + number / 2), crop, value))
        if value is not None:
            write_scored_run(tmp_path, rows[-1].run, index, {"val": value} | ({"test": 0.8} if number == 1 else {}))
    write_record(tmp_path, Record("small", "val/f1_macro", "single", 5, "tpe", "median", SPACE, rows))
    return tmp_path


def test_what_is_written_is_read_again(out: Path) -> None:
    record = read_record(out)
    assert record is not None
    assert record.space == SPACE
    assert record.best is not None
    assert record.best.number == 1
    assert states_words(record) == "5 trials of 5: 4 finished, 1 pruned"
    assert states_words(replace(record, asked=2)) == "5 trials (2 were asked for): 4 finished, 1 pruned"
    write_record(out, record)
    assert read_record(out) == record
    elsewhere = (out / FILE).read_text().replace("trial0001-seed0", "../trial0001-seed0")
    for text in ('{"schema": 1}', elsewhere):
        (out / FILE).write_text(text)
        with pytest.raises(DiskError, match="is not as a sweep writes it"):
            read_record(out)


def test_the_page_has_trials_importance_and_what_choosing_means(out: Path) -> None:
    html = runs_page(out, collect(out))
    text = text_of(html)
    assert "Sweep small: 5 trials of 5: 4 finished, 1 pruned" in text
    assert "Best by val/f1_macro: trial 1 (trial0001-seed0), 90.0 %, with phases.all.lr = 0.000316" in text
    assert "Validation chose the best of 5 trials" in text
    assert "Test was scored once, of the chosen trial alone; report that score." in text
    assert "What the score hung on" in text
    assert "Parallel coordinates" in text
    assert "Rough: from 4 trials." in text
    labels = [value for _, name, value in read_page(html).attributes if name == "aria-label"]
    assert "Trials" in labels
    assert len(labels) == len(set(labels))


def test_without_optuna_the_page_says_what_is_missing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    text = text_of(runs_page(out, collect(out)))
    assert "Sweeps are searched by Optuna, which is not installed." in text
    assert "Parallel coordinates" in text


def test_several_test_scores_are_told(out: Path) -> None:
    record = read_record(out)
    assert record is not None
    write_scored_run(out / "more", record.rows[0].run, index_of(90), {"val": 0.8, "test": 0.8})
    (out / record.rows[0].run).rename(out / "old")
    (out / "more" / record.rows[0].run).rename(out / record.rows[0].run)
    assert any("Test was scored for 2 trials" in sentence for sentence in warnings(out, record))


def test_the_key_that_alone_decides_has_all_the_importance() -> None:
    draw = Random(0)
    rows = []
    for number in range(24):
        place = draw.random()
        rows.append(row(number, 10 ** (-4 + 3 * place), draw.choice(["[0.5, 1.0]", "none"]), 1 - (place - 0.3) ** 2))
    found = importances(Record("x", "val/f1_macro", "single", 24, "tpe", "none", SPACE, rows))
    assert [*found] == ["phases.all.lr", "augment.crop"]
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["phases.all.lr"] > 0.9


@pytest.mark.parametrize("n", [2, 5, 20, 100])
def test_the_lead_of_the_best_is_that_of_draws(n: int) -> None:
    draw = Random(1)
    mean = sum(max(draw.gauss(0, 1) for _ in range(n)) for _ in range(2000)) / 2000
    assert expected_lead(n) == pytest.approx(mean, abs=0.06)
    assert expected_lead(1) == 0.0
