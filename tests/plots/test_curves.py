import math

import pytest
from plot_data import EPOCHS

from imgkit.data.csv_text import read_cells
from imgkit.plots.curves import Mark, plots_of
from imgkit.plots.history import History, Rates
from imgkit.plots.table import history_of_table

GAP = math.nan


def made(columns: dict[str, tuple[float, ...]], rates: Rates | None = None, phases: tuple[str, ...] = ()) -> History:
    n = max(len(values) for values in [*columns.values(), *([] if rates is None else [rates.x])])
    return History("x", tuple(float(e) for e in range(1, n + 1)), phases or ("all",) * n, columns, rates)


def test_every_point_of_the_example_is_drawn() -> None:
    """Against the cells of the table, read apart from the code under test."""
    header, lines = read_cells(EPOCHS, "x")
    cells = {name: tuple(float(row[place]) for _, row in lines) for place, name in enumerate(header[:-1])}
    plots = {plot.name: plot for plot in plots_of(history_of_table(EPOCHS, phases="20,30"))}
    assert list(plots) == ["loss", "delta-loss", "accuracy", "delta-accuracy"]
    drawn = {line.label: line for plot in plots.values() for line in plot.lines if line.kind != "delta"}
    for label, column in (("train loss", "train_loss"), ("test loss", "test_loss")):
        assert (drawn[label].x, drawn[label].y) == (cells["epoch"], cells[column])
    for label, column in (
        ("train top-1", "train_top1"),
        ("test top-1", "test_top1"),
        ("train top-5", "train_top5"),
        ("test top-5", "test_top5"),
    ):
        assert drawn[label].x == cells["epoch"]
        assert drawn[label].y == pytest.approx(cells[column])
        assert drawn[label].dashed == label.endswith("5")
    # The project printed train minus test itself, to two digits.
    delta = next(line for line in plots["delta-accuracy"].lines if line.label == "top-1")
    assert delta.y == pytest.approx(cells["delta_train_minus_test_top1"], abs=0.0051)
    assert plots["loss"].mark == Mark(39, 1.1876, "lowest test loss: 1.188, epoch 39")
    assert plots["accuracy"].mark == Mark(39, pytest.approx(70.27), "highest test top-1: 70.3 %, epoch 39")


def test_the_mark_is_the_earliest_best_point_of_held_out_images() -> None:
    columns = {"train/loss": (0.3, 0.2, 0.1, 0.0), "val/loss": (GAP, 0.4, 0.5, 0.4)}
    assert plots_of(made(columns))[0].mark == Mark(2, 0.4, "lowest val loss: 0.4, epoch 2")
    assert plots_of(made({"train/loss": (0.3, 0.1, 0.2)}))[0].mark == Mark(2, 0.1, "lowest train loss: 0.1, epoch 2")
    scores = plots_of(made({"val/f1_macro": (0.1, 0.3, 0.3), "val/f1_micro": (0.9, 0.9, 0.9)}))[0]
    assert scores.mark == Mark(2, 30.0, "highest val macro F1: 30.0 %, epoch 2")


def test_a_difference_is_train_minus_held_out_and_only_where_both_are() -> None:
    plots = {plot.name: plot for plot in plots_of(made({"train/map": (0.5, GAP, 0.75), "val/map": (0.25, 0.5, 0.875)}))}
    (line,) = plots["delta-map"].lines
    assert (line.y[0], line.y[2]) == (25.0, -12.5)
    assert math.isnan(line.y[1])
    assert (plots["delta-map"].unit, plots["delta-map"].zero) == ("percentage points", True)
    assert [plot.name for plot in plots_of(made({"val/map": (0.5,)}))] == ["map"]


def test_rates_of_phases_far_apart_are_on_a_log_scale() -> None:
    def log_from(*rates: float, phases: tuple[str, ...]) -> float | None:
        x = tuple(float(e) for e in range(1, len(rates) + 1))
        (plot,) = plots_of(made({}, Rates(x, rates, by_epoch=True), phases))
        return plot.log_from

    assert log_from(0.01, 0.01, 0.0004, phases=("a", "a", "b")) == 0.0004
    assert log_from(0.01, 1e-9, 0.0, phases=("a", "a", "a")) is None, "one phase whose schedule ends at 0"
    assert log_from(0.01, 0.0, 0.001, 1e-9, phases=("a", "a", "b", "b")) == pytest.approx(1e-5)
    assert log_from(0.0, 0.0, phases=("a", "b")) is None


def test_nothing_to_draw_is_no_plot() -> None:
    assert plots_of(History("x", (1.0,), ("all",), {})) == []
