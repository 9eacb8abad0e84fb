import math
from pathlib import Path
from typing import Any

import pytest
from plot_data import HISTORY, STEPS, plotted_run, row

from imgkit.errors import DiskError, UsageError
from imgkit.plots.history import Phase, history_of_run


def test_columns_are_those_of_the_file(tmp_path: Path) -> None:
    found = history_of_run(plotted_run(tmp_path))
    assert found.title == "one"
    assert found.epochs == (0, 1, 2, 3)
    assert found.phases == ("head", "warm", "all", "all")
    assert found.columns == {
        "train/loss": (0.9, 0.8, 0.5, 0.3),
        "val/loss": (0.8, 0.6, 0.5, 0.55),
        "val/top1": (0.5, 0.6, 0.7, 0.65),
        "val/top5": (0.9, 0.91, 0.95, 0.97),
        "val/f1_macro": (0.4, 0.7, 0.6, 0.5),
    }
    (note,) = found.notes
    assert note.startswith("on train this run recorded no top1, top5, f1_macro: ")


def test_scores_of_train_are_read_where_they_were_recorded(tmp_path: Path) -> None:
    rows = [{**one, "train/top1": 0.1 * number, "train/topk": 0.2} for number, one in enumerate(HISTORY)]
    found = history_of_run(plotted_run(tmp_path, history=rows))
    assert found.columns["train/top1"] == (0.0, 0.1, 0.2, pytest.approx(0.3))
    assert found.columns["train/top5"] == (0.2,) * 4
    assert "recorded no f1_macro" in found.notes[0]


def test_phases_end_half_way_to_the_next_one(tmp_path: Path) -> None:
    spans = history_of_run(plotted_run(tmp_path)).spans
    assert spans == [Phase("head", -0.5, 0.5), Phase("warm", 0.5, 1.5), Phase("all", 1.5, 3.5)]


def test_a_head_solved_after_epochs_takes_no_room(tmp_path: Path) -> None:
    rows = [row(1, 10, "warm"), row(1, 11, "head"), row(2, 21, "all")]
    spans = history_of_run(plotted_run(tmp_path, history=rows, steps=[])).spans
    assert spans == [Phase("warm", 0.5, 1.0), Phase("head", 1.0, 1.5), Phase("all", 1.5, 2.5)]


def test_rates_lie_where_their_updates_do(tmp_path: Path) -> None:
    rates = history_of_run(plotted_run(tmp_path)).rates
    assert rates is not None
    # Epoch 1 is updates 2 to 11 and lies from 0.5 to 1.5; update 36 belongs to an epoch that has not ended.
    assert [x for x in rates.x if not math.isnan(x)] == pytest.approx([1.0, 1.5, 2.0, 3.5])
    assert [y for y in rates.y if not math.isnan(y)] == [0.001, 0.002, 0.0001, 0.00005]
    assert math.isnan(rates.x[2])
    assert math.isnan(rates.y[2])
    assert not rates.by_epoch


@pytest.mark.parametrize("steps", [[], STEPS[:1]])
def test_without_updates_there_are_no_rates(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    assert history_of_run(plotted_run(tmp_path, steps=steps)).rates is None


@pytest.mark.parametrize(
    ("best", "epochs", "words"),
    [
        ({"step": 11, "metric": "val/f1_macro", "value": 0.7}, (1,), "chosen by val/f1_macro: epoch 1"),
        ({"step": 21, "metric": "val/loss", "mean_of": [31, 21]}, (2, 3), "chosen by val/loss: mean of epochs 2, 3"),
        ({"step": 11}, (1,), "chosen: epoch 1"),
    ],
)
def test_the_chosen_epoch(tmp_path: Path, best: dict[str, Any], epochs: tuple[int, ...], words: str) -> None:
    chosen = history_of_run(plotted_run(tmp_path, best=best)).chosen
    assert chosen is not None
    assert (chosen.epochs, chosen.words) == (epochs, words)


def test_the_best_so_far_while_a_run_goes_on(tmp_path: Path) -> None:
    rows = [{**one, "best": number < 2} for number, one in enumerate(HISTORY)]
    chosen = history_of_run(plotted_run(tmp_path, history=rows)).chosen
    assert chosen is not None
    assert (chosen.epochs, chosen.words) == ((1,), "best so far: epoch 1")
    assert history_of_run(plotted_run(tmp_path / "b", best={"step": 99})).chosen is None


def test_several_labels_an_image_have_scores_of_their_own(tmp_path: Path) -> None:
    scores = {"val/map": 0.6, "val/f1_macro": 0.5, "val/f1_micro": 0.55, "val/subset_accuracy": 0.3}
    found = history_of_run(plotted_run(tmp_path, history=[row(1, 10, "all", **scores)], task="multilabel"))
    assert set(found.columns) == {"train/loss", "val/loss", "val/map", "val/f1_macro", "val/f1_micro"}


def test_few_classes_have_no_top_5(tmp_path: Path) -> None:
    assert "val/top5" not in history_of_run(plotted_run(tmp_path, classes=["a", "b", "c", "d", "e"])).columns


def test_what_was_not_recorded_is_a_gap(tmp_path: Path) -> None:
    rows = [row(1, 10, "all", **{"val/top1": None}), row(2, 20, "all", **{"val/top1": 0.5})]
    found = history_of_run(plotted_run(tmp_path, history=rows))
    assert math.isnan(found.columns["val/top1"][0])
    assert found.columns["val/top1"][1] == 0.5


def test_a_run_without_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one has no epoch yet, so there is nothing to plot"):
        history_of_run(plotted_run(tmp_path, history=[]))


@pytest.mark.parametrize(
    "broken",
    [
        {"epoch": 1},
        {**HISTORY[0], "epoch": "x"},
        {**HISTORY[0], "val/loss": "x"},
        {**HISTORY[0], "lr": 1, "step": None},
    ],
)
def test_a_damaged_history_is_told(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(DiskError, match="has unexpected content"):
        history_of_run(plotted_run(tmp_path, history=[broken]))
