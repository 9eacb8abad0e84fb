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
    metrics = {"val": {"intervals": {"top1": (0.7, 0.9)}, "chance": {"majority": 0.5}}}
    best = next(row for row in history if row["best"])
    advice = _advice(setup, history, best, metrics)
    assert len(advice) == bool(words)
    assert all(word in advice[0] for word in words)
