import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imgkit.plateau import Standstill, remembered
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import PhasePlan, make_plan
from imgkit.recipe.schedules import Plateau


def plateau(**values: object) -> Plateau:
    return Plateau.model_validate({"name": "plateau", **values})


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.5, 0.50001, 0.5001, 0.6, 0.8, math.nan]) | st.floats(0.01, 9.0), max_size=30),
    better=st.sampled_from(["max", "min"]),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    end=st.sampled_from([0.0, 0.03]),
)
def test_the_factor_is_that_of_torchs_scheduler(
    scores: list[float], better: str, patience: int, threshold: float, end: float
) -> None:
    chosen = plateau(factor=0.5, patience=patience, threshold=threshold, end=end)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=better, factor=0.5, patience=patience, threshold=threshold, min_lr=end, eps=0.0
    )
    ours = Standstill()
    for score in scores:
        theirs.step(score)
        ours = ours.after(score, better, chosen)
        assert ours.factor == pytest.approx(optimizer.param_groups[0]["lr"])


def phase(*sets: str) -> PhasePlan:
    name = "phases.all.schedule"
    plan = make_plan(load_recipe("scratch", sets=[f"{name}.name=plateau", "phases.all.epochs=9", *sets]), 64)
    return plan.phases[-1]


def after(planned: PhasePlan, losses: list[float], monitor: str = "val/loss") -> list[float]:
    """The factor after each epoch of a phase."""
    found, state = [], {}
    for epoch, loss in enumerate(losses, 1):
        metrics = {"task": "single", "loss": loss, "top1": 0.5}
        state = remembered(state, planned, planned.first_step + epoch * planned.steps_per_epoch, metrics, monitor)
        found.append(state.get("factor", 1.0))
    return found


def test_patience_lets_pass_and_the_next_evaluation_lowers() -> None:
    planned = phase("phases.all.schedule.patience=2", "phases.all.schedule.factor=0.5")
    assert after(planned, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    assert after(planned, [1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9]) == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]


def test_it_watches_the_monitor_or_another_score() -> None:
    falling = [1.0, 0.9, 0.8, 0.7, 0.6]
    assert after(phase(), falling)[-1] == 1.0
    assert after(phase(), falling, monitor="val/top1")[-1] < 1.0
    assert after(phase("phases.all.schedule.watch=val/top1"), falling)[-1] < 1.0
    with pytest.raises(ValidationError, match=r"did you mean 'val/loss'"):
        plateau(watch="val/los")


def test_the_warm_up_does_not_count_and_a_phase_leaves_nothing_behind() -> None:
    worse = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert after(phase(), worse)[:4] == [1.0, 1.0, 0.1, 0.1]
    assert after(phase("phases.all.schedule.warmup=3 epochs"), worse)[:5] == [1.0, 1.0, 1.0, 1.0, 0.1]
    planned = phase()
    assert remembered({"best": 1.0, "waited": 1, "factor": 0.1}, planned, planned.stop, {"loss": 9.0}, "val/loss") == {}
    assert remembered({}, replace(planned, lr=None), planned.first_step + 1, {"loss": 9.0}, "val/loss") == {}
