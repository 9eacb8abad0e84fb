from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imgkit.finish import _advice
from imgkit.metrics import summarise, wilson
from imgkit.report.words import no_better_than_chance

CLASSES = ("cat", "dog")


def epoch(loss: float, f1: float, **more: object) -> dict[str, Any]:
    return {"val/loss": loss, "val/f1_macro": f1, "solved": False, "best": False, "phase": "all", **more}


def scored(n: int, top1: float, majority: float) -> dict[str, Any]:
    """Metrics of n images of two classes, of which so many are right."""
    return {
        "n": n,
        "intervals": {"top1": list(wilson(round(n * top1), n)), "f1_macro": None},
        "chance": {"majority": majority},
        "classes": 2,
        "classes_without_support": [],
    }


def sets(n: int, exact: float, low: float | None) -> dict[str, Any]:
    """Metrics of n images of a multi-label task; mAP 0.6, or from `low` on, where guessing gives 0.4."""
    ends = {"subset_accuracy": list(wilson(round(n * exact), n)), "map": None if low is None else [low, 0.9]}
    return {"n": n, "map": 0.6, "intervals": ends, "chance": {"map": 0.4}}


def made_setup(*phases: SimpleNamespace, monitor: str = "val/loss", task: str = "single", smoke: bool = False) -> Any:  # noqa: ANN401
    parts = phases or (SimpleNamespace(name="all", lr=1e-4, epochs=4, steps=None),)
    return SimpleNamespace(
        recipe=SimpleNamespace(monitor=monitor, phases=parts),
        plan=SimpleNamespace(phases=parts),
        index=SimpleNamespace(task=task),
        about={"smoke": smoke},
    )


def advice(history: list[dict[str, Any]], metrics: dict[str, dict[str, Any]] | None = None, **setup: Any) -> list[str]:  # noqa: ANN401
    best = max((row for row in history if row["best"]), key=history.index)
    return _advice(made_setup(**setup), history, best, metrics or {"val": scored(2000, 0.85, 0.5)})


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        (epoch(0.38, 0.83, best=True), []),
        (epoch(0.38, 0.816, best=True), []),  # half a point is nothing
        (epoch(0.38, 0.70, best=True), ["0.120 below its own solved head's", "although val/loss is better"]),
        (epoch(0.41, 0.70), ["val/loss 0.410 against 0.400", "--set phases.all.lr=3e-05"]),
    ],
)
def test_fine_tuning_that_loses_against_its_own_probe_says_so(tuned: dict[str, Any], words: list[str]) -> None:
    found = advice([epoch(0.40, 0.82, solved=True, phase="head", best=not tuned["best"]), tuned])
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)


@pytest.mark.parametrize(
    ("solved", "n", "said"),
    [
        (True, 7, "Score on more than 7 images. Check the labels: imgkit data check."),
        (False, 500, "Check the labels: imgkit data check. Try ten times the rate."),
    ],
)
def test_a_result_no_better_than_chance_says_what_to_try(solved: bool, n: int, said: str) -> None:
    found = advice([epoch(0.40, 0.82, solved=solved, best=True)], {"val": scored(n, 0.55, 0.6)})
    assert found == [f"This cannot be told from always answering the largest class. {said}"]


def test_chance_in_a_multilabel_task_is_the_map_of_equal_scores() -> None:
    history = [epoch(0.40, 0.82, best=True)]
    (found,) = advice(history, {"val": sets(2000, 0.3, 0.38)}, task="multilabel")
    assert found.startswith("This cannot be told from guessing by how frequent labels are. Check the labels")
    assert advice(history, {"val": sets(2000, 0.3, 0.41)}, task="multilabel") == []
    assert advice(history, {"val": sets(2000, 0.3, None)}, task="multilabel") == []  # 0.6 itself


def answers(*confusion: tuple[int, ...]) -> dict[str, Any]:
    """Metrics of answers given as images of each (true, answered) class."""
    counts = np.array(confusion)
    targets = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    given = np.concatenate([np.repeat(np.arange(len(row)), row) for row in counts])
    return summarise(np.eye(len(counts))[given] * 0.9 + 0.05, targets, [str(one) for one in range(len(counts))])


@pytest.mark.parametrize(
    ("found", "guessed"),
    [
        (answers((100, 0), (100, 0)), True),  # one answer for all
        (answers((50, 50), (52, 48)), True),  # a coin
        (answers((80, 20), (20, 80)), False),
        (answers((950, 0), (50, 0)), True),  # the largest class for all
        (answers((880, 70), (46, 4)), True),  # as frequent as the classes
        (answers((880, 70), (5, 45)), False),  # less top-1 than the largest class, and knows the rare one
        (answers((2, 1), (1, 2)), True),  # six images tell nothing
        (answers((2, 0, 0), (1, 1, 0), (0, 0, 0)), True),
        (answers((30, 0, 0), (0, 30, 0), (0, 0, 0)), False),
    ],
)
def test_what_counts_as_no_better_than_chance(found: dict[str, Any], guessed: bool) -> None:
    assert no_better_than_chance(found) == guessed


@pytest.mark.parametrize(
    ("val", "said"),
    [
        (scored(2000, 0.85, 0.5), ""),
        (scored(400, 0.85, 0.5), ""),  # ±3.5 points
        (scored(100, 0.85, 0.5), "by its 100 images top-1 is known to ±7 points"),
        (scored(100, 1.0, 0.5), ""),  # nothing is wrong: 96.3 to 100
        (scored(20, 1.0, 0.5), "by its 20 images top-1 is known to ±8 points"),
        (sets(1000, 0.5, 0.5), ""),
        (sets(50, 0.5, 0.5), "by its 50 images exact sets are known to ±13 points"),
    ],
)
def test_a_validation_too_small_to_tell_runs_apart_says_so(val: dict[str, Any], said: str) -> None:
    found = advice([epoch(0.4, 0.8, best=True)], {"val": val})
    rest = ", and smaller differences between epochs or runs tell nothing. Compare over several --seed, or add images."
    assert found == ([f"Validation is small: {said}{rest}"] if said else [])


def test_a_small_validation_is_told_beside_a_test_and_not_beside_chance() -> None:
    history, small = [epoch(0.4, 0.8, best=True)], scored(50, 0.85, 0.5)
    assert [text.split(":")[0] for text in advice(history, {"val": small, "test": scored(2000, 0.85, 0.5)})] == [
        "Validation is small"
    ]
    (alone,) = advice(history, {"val": scored(50, 0.5, 0.5)})
    assert alone.startswith("This cannot be told from")


HEAD = SimpleNamespace(name="head", lr=None, epochs=None, steps=None)
TOP = SimpleNamespace(name="top", lr=1e-3, epochs=2, steps=None)
ALL = SimpleNamespace(name="all", lr=1e-4, epochs=4, steps=None)
STEPS = SimpleNamespace(name="all", lr=1e-4, epochs=None, steps=300)


@pytest.mark.parametrize(
    ("phases", "longer"),
    [
        ([ALL], "--epochs 8"),
        ([HEAD, ALL], "--epochs 8"),
        ([TOP, ALL], "--set phases.all.epochs=8"),
        ([STEPS], "--set phases.all.steps=600"),
    ],
)
def test_a_last_epoch_that_was_the_best_asks_for_more(phases: list[SimpleNamespace], longer: str) -> None:
    history = [epoch(0.50, 0.8, best=True), epoch(0.45, 0.8, best=True), epoch(0.42, 0.8, best=True)]
    metrics = {"val": scored(2000, 0.85, 0.5)}
    assert _advice(made_setup(*phases), history, history[-1], metrics) == [
        f"Still improving when it stopped (val/loss 0.420, before 0.450): more epochs may help ({longer})"
    ]


@pytest.mark.parametrize(
    "history",
    [
        [epoch(0.50, 0.8, best=True), epoch(0.42, 0.8, best=True), epoch(0.45, 0.8)],  # not the last
        [epoch(0.50, 0.8, best=True), epoch(0.423, 0.8, best=True), epoch(0.42, 0.8, best=True)],  # hardly better
        [epoch(0.42, 0.8, best=True)],  # the only one
        [epoch(0.50, 0.8, phase="head", solved=True, best=True), epoch(0.42, 0.8, best=True)],  # the only one tuned
        [epoch(0.42, 0.8, phase="head", solved=True, best=True)],  # a solved head has no length
        [epoch(0.42, 0.8, best=True, phase="all"), epoch(0.3, 0.8, phase="head", solved=True, best=True)],
    ],
)
def test_a_last_epoch_that_says_nothing_of_more(history: list[dict[str, Any]]) -> None:
    assert advice(history) == []


def test_scores_rise_and_losses_fall() -> None:
    history = [epoch(0.50, 0.80, best=True), epoch(0.60, 0.85, best=True)]
    (found,) = advice(history, monitor="val/f1_macro")
    assert found.startswith("Still improving when it stopped (val/f1_macro 0.850, before 0.800)")


def test_at_most_three_pieces_of_advice_and_none_for_a_smoke_run() -> None:
    solved = epoch(0.55, 0.95, solved=True, phase="head", best=True)
    history = [solved, epoch(0.50, 0.8, best=True), epoch(0.40, 0.8, best=True)]
    metrics = {"val": scored(50, 0.8, 0.5), "test": scored(50, 0.5, 0.5)}
    found = advice(history, metrics)
    assert [text.split()[0] for text in found] == ["Macro", "This", "Validation"]
    assert advice(history, metrics, smoke=True) == []
