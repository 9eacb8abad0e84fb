import re
from pathlib import Path

import pytest
from page_reader import read_page, text_of
from scored_runs import index_of, write_scored_run

from imgkit.report.collect import collect
from imgkit.report.runs_charts import COSTS, CURVES, against_cost, curves, draw_costs, draw_curves
from imgkit.report.trials import Ladder, arrange


def ladder_of(out: Path, runs: int, epochs: int = 3) -> Ladder:
    index = index_of(90)
    for number in range(runs):
        about = {"parameters": 1_000_000 * (number + 1)}
        folder = write_scored_run(out, f"run{number}", index, {"test": 0.9 - number / 50}, draw=number, **about)
        (row,) = folder.history()
        rows = [
            row
            | {"epoch": epoch, "step": epoch, "val/loss": 1 / epoch, "val/f1_macro": epoch / 10, "seconds": 60 * epoch}
            for epoch in range(1, epochs + 1)
        ]
        folder.write_rows("history.jsonl", rows)
    return arrange(out, collect(out))[0].ladders[0]


def test_curves_are_the_rows_of_the_history_by_rank(tmp_path: Path) -> None:
    ladder = ladder_of(tmp_path, 3)
    found = curves(ladder)
    assert [(title, unit) for title, (unit, _) in found.items()] == [
        ("Loss on validation", "loss"),
        ("Macro F1 on validation", "macro F1, %"),
    ]
    _, lines = found["Macro F1 on validation"]
    ranked = [f"{rank}. {trial.run.name}" for rank, trial in enumerate(ladder.trials, start=1)]
    assert [(line.label, line.look) for line in lines] == [(name, rank) for rank, name in enumerate(ranked)]
    assert [*lines[0].x] == [1, 2, 3]
    assert [*lines[0].y] == pytest.approx([10, 20, 30])
    read_page("".join(draw_curves(ladder)))


def test_only_so_many_curves_are_drawn(tmp_path: Path) -> None:
    ladder = ladder_of(tmp_path, CURVES + 2)
    assert {title: len(lines) for title, (_, lines) in curves(ladder).items()} == {
        "Loss on validation": CURVES,
        "Macro F1 on validation": CURVES,
    }
    assert f"By epoch, of the best {CURVES} runs." in text_of(draw_curves(ladder)[0])
    assert {point.look for point in against_cost(ladder, COSTS[0])} == {0}


def test_one_epoch_is_no_curve(tmp_path: Path) -> None:
    assert draw_curves(ladder_of(tmp_path, 2, epochs=1)) == []


def test_costs_that_differ_are_drawn_with_intervals(tmp_path: Path) -> None:
    ladder = ladder_of(tmp_path, 3)
    points = against_cost(ladder, COSTS[0])
    for trial, point in zip(ladder.trials, points, strict=True):
        measured = trial.score.measured["f1_macro"]
        assert measured.interval is not None
        assert point.x == (trial.run.parameters or 0) / 1e6
        assert point.y == pytest.approx(100 * measured.value)
        assert point.interval == pytest.approx([100 * end for end in measured.interval])
        assert trial.run.name in point.label
    charts = [text_of(chart) for chart in draw_costs(ladder)]
    assert len(charts) == 1
    assert charts[0].startswith(
        "Macro F1 against parameters Each point is a run with its 95 % interval, scored on test."
    )
    (ladder.trials[0].folder.path / "model").mkdir()
    (ladder.trials[0].folder.path / "model" / "model.safetensors").write_bytes(b"x" * 2**20)
    again = arrange(tmp_path, collect(tmp_path))[0].ladders[0]
    assert [point.x for point in against_cost(again, COSTS[1])] == [1.0]
    assert [point.x for point in against_cost(again, COSTS[2])] == [3.0] * 3, "minutes of three epochs"


def test_epochs_are_whole(tmp_path: Path) -> None:
    for chart in draw_curves(ladder_of(tmp_path, 2, epochs=2)):
        assert re.findall(r'text-anchor="middle">([\d.]+)</text>', chart) == ["1", "2"]
