"""Lengths of a schedule against those of its phase, and the rate at which a cut cycle ends."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imgkit.errors import RecipeError
from imgkit.plateau import Standstill
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import Plan, make_plan
from imgkit.recipe.schedules import Plateau
from imgkit.schedule_fit import last_rate, schedule_warnings
from imgkit.schedules import make_schedule

RECIPE = """
schema = 1
name = "mine"

[train]
batch_size = 1

[[phases]]
name = "all"
train = "all"
steps = {steps}
lr = 0.1
schedule = {{ {schedule} }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def told(folder: Path, schedule: str, steps: int = 40) -> tuple[str, ...]:
    """What is said of a schedule over so many steps, ten of which make an epoch."""
    (folder / "my.toml").write_text(RECIPE.format(steps=steps, schedule=schedule))
    plan = make_plan(load_recipe(folder / "my.toml"), 10)
    assert not any("schedule" in note or "cycle" in note for note in plan.notes), "warnings are no notes"
    return schedule_warnings(plan)


def restarts(folder: Path, first: str, mult: int, steps: int, warmup: str = "0%") -> tuple[str, ...]:
    return told(folder, f'name = "cosine_restarts", first = "{first}", mult = {mult}, warmup = "{warmup}"', steps)


def test_a_cut_cycle_is_told_with_its_rate_and_with_the_lengths_that_fit(folder: Path) -> None:
    assert restarts(folder, "1 epoch", 2, 35) == (
        "phase 'all': its last cosine cycle is cut after 5 of 40 steps, so the rate ends at 0.0976 instead of 0; a "
        "phase of 30 or 70 steps ends with a cycle",
    )
    assert "cut after 2 of 3 epochs" in restarts(folder, "3 epochs", 1, 20)[0]
    assert restarts(folder, "3 epochs", 1, 20)[0].endswith("a phase of 3 epochs ends with a cycle")
    assert "a phase of 12 or 22 steps ends with a cycle" in restarts(folder, "1 epoch", 1, 20, "2 steps")[0]
    assert "a phase of about 14 or 24 steps ends" in restarts(folder, "1 epoch", 1, 20, "20%")[0]
    for warmup in (20, 30):
        assert restarts(folder, "100%", 3, 20, f"{warmup} steps") == (
            f"phase 'all': its warm-up of {warmup} steps takes all of its 20 steps",
        )
    with pytest.raises(RecipeError, match=r"phases.all.schedule.first: needs a length above 0, got '0%'"):
        restarts(folder, "0%", 1, 20)


def test_cycles_that_are_shares_of_the_phase_fit_no_other_length(folder: Path) -> None:
    assert restarts(folder, "25%", 1, 40) == ()
    (text,) = restarts(folder, "30%", 1, 40)
    assert text.endswith("first = '30%' is a share of the phase, so no other length ends with a cycle: change first")


@given(first=st.integers(1, 6), mult=st.integers(1, 3), steps=st.integers(1, 60), warmup=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_cycles_against_a_naive_walk(
    first: int, mult: int, steps: int, warmup: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(warmup < steps)
    place, left, length = tmp_path_factory.getbasetemp(), 0, first
    for _ in range(warmup, steps):
        if left == 0:
            left, length = length, length * mult
        left -= 1
    notes = restarts(place, f"{first} steps", mult, steps, f"{warmup} steps")
    assert bool(notes) == (left > 0)
    for note in notes:  # each length that is offered ends with a cycle, and no length between does
        words = note.split("a phase of ")[1].split(" ends")[0]
        scale = 10 if words.endswith("epochs") else 1
        offered = [scale * int(word) for word in words.split() if word.isdigit()]
        fitting = [
            other
            for other in range(warmup + 1, offered[-1] + 1)
            if restarts(place, f"{first} steps", mult, other, f"{warmup} steps") == ()
        ]
        assert fitting[-len(offered) :] == offered


R3 = """
schema = 1
name = "r3"

[train]
batch_size = 16

[schedule]
name = "cosine_restarts"
first = "10 epochs"
mult = 2
end = 0.01

[[phases]]
name = "all"
train = "all"
epochs = 50
lr = 1e-3
"""


def r3(folder: Path, *sets: str) -> Plan:
    """Fifty epochs of 1,295 updates; restarts after 10 and 30 of them."""
    (folder / "r3.toml").write_text(R3)
    return make_plan(load_recipe(folder / "r3.toml", sets=sets), 16 * 1295)


@pytest.mark.parametrize(("step_on", "rate"), [("epoch", 5.44e-4), ("update", 5.05e-4)])
def test_fifty_epochs_of_doubling_cycles_end_within_the_third(folder: Path, step_on: str, rate: float) -> None:
    plan = r3(folder, f"schedule.step_on={step_on}")
    (phase,) = plan.phases
    assert last_rate(phase) == pytest.approx(rate, rel=1e-3)
    assert schedule_warnings(plan) == (
        f"phase 'all': its last cosine cycle is cut after 20 of 40 epochs, so the rate ends at {rate:.3g} instead of "
        "1e-05; a phase of 30 or 70 epochs ends with a cycle",
    )
    factor = make_schedule(phase.schedule, steps=phase.steps, steps_per_epoch=phase.steps_per_epoch)
    rates = [1e-3 * factor(epoch / 50) for epoch in range(50)]
    assert [epoch for epoch in range(1, 50) if rates[epoch] > rates[epoch - 1]] == [10, 30], "the restarts"
    assert rates[49] == pytest.approx(5.44e-4, rel=1e-3), "at the first update of epoch 50"


@pytest.mark.parametrize("epochs", [10, 30, 70])
def test_lengths_that_end_with_a_cycle_are_not_warned_of(folder: Path, epochs: int) -> None:
    assert schedule_warnings(r3(folder, f"phases.all.epochs={epochs}")) == ()


def test_a_schedule_whose_lengths_do_nothing_is_told(folder: Path) -> None:
    assert told(folder, 'name = "step", every = "39 steps"') == ()
    assert told(folder, 'name = "step", every = "4 epochs"') == (
        "phase 'all': its schedule 'step' lowers the rate after 4 epochs, which is not before the end of the phase's "
        "40 steps",
    )
    late = told(folder, 'name = "multistep", milestones = ["2 epochs", "9 epochs"]')
    assert late == (
        "phase 'all': its schedule 'multistep' lowers the rate after 9 epochs, which is not before the end of the "
        "phase's 40 steps",
    )


def test_a_warm_up_within_an_epoch_that_has_one_rate_is_told(folder: Path) -> None:
    assert told(folder, 'name = "cosine", warmup = "10 steps", step_on = "epoch"') == ()
    assert told(folder, 'name = "cosine", warmup = "9 steps"') == ()
    assert told(folder, 'name = "cosine", warmup = "9 steps", step_on = "epoch"') == (
        "phase 'all': its warm-up of 9 steps is shorter than an epoch, and with step_on = 'epoch' the whole first "
        "epoch has the rate of its first step",
    )


def test_a_plateau_with_too_few_epochs_is_told(folder: Path) -> None:
    assert told(folder, 'name = "plateau", patience = 1', steps=40) == ()
    assert told(folder, 'name = "plateau", patience = 2', steps=40) == (
        "phase 'all': its schedule 'plateau' with patience = 2 never lowers the rate in 4 epochs; it takes "
        "patience = 1 or less, or 5 epochs",
    )
    assert told(folder, 'name = "plateau", patience = 0', steps=20)[0].endswith("in 2 epochs; it takes 3 epochs")


@given(epochs=st.integers(1, 9), patience=st.integers(0, 6), warmup=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_patience_against_scores_that_never_gain(
    epochs: int, patience: int, warmup: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(warmup < 10 * epochs)
    settings_, state = Plateau(name="plateau", patience=patience), Standstill()
    for done in range(1, epochs):  # what the last evaluation does comes too late
        if 10 * done >= warmup:
            state = state.after(0.5, "max", settings_)
    schedule = f'name = "plateau", patience = {patience}, warmup = "{warmup} steps"'
    assert bool(told(tmp_path_factory.getbasetemp(), schedule, 10 * epochs)) == (state.factor == 1.0)
