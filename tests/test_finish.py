from types import SimpleNamespace
from typing import Any

import pytest

from imgkit.finish import _advice


def epoch(loss: float, f1: float, **more: bool) -> dict[str, Any]:
    return {"val/loss": loss, "val/f1_macro": f1, "solved": False, "best": False, **more}


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
    history = [epoch(0.40, 0.82, solved=True, best=not tuned["best"]), tuned]
    setup: Any = SimpleNamespace(
        recipe=SimpleNamespace(monitor="val/loss"),
        plan=SimpleNamespace(phases=[SimpleNamespace(name="all", lr=1e-4)]),
    )
    metrics = {"val": {"n": 500, "intervals": {"top1": (0.7, 0.9)}, "chance": {"majority": 0.5}}}
    best = next(row for row in history if row["best"])
    advice = _advice(setup, history, best, metrics)
    assert len(advice) == bool(words)
    assert all(word in advice[0] for word in words)


@pytest.mark.parametrize(
    ("solved", "n", "said"),
    [
        (True, 7, "Score on more than 7 images. Check the labels: imgkit data check."),
        (False, 500, "Check the labels: imgkit data check. Try ten times the rate."),
    ],
)
def test_a_result_no_better_than_chance_says_what_to_try(solved: bool, n: int, said: str) -> None:
    history = [epoch(0.40, 0.82, solved=solved, best=True)]
    metrics = {"val": {"n": n, "intervals": {"top1": (0.5, 1.0)}, "chance": {"majority": 0.6}}}
    setup: Any = SimpleNamespace(recipe=SimpleNamespace(monitor="val/loss"))
    (advice,) = _advice(setup, history, history[0], metrics)
    assert advice == f"This cannot be told from always answering the largest class. {said}"
