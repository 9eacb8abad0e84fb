import ast
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import imgkit.schedules
from imgkit.errors import RecipeError, UsageError
from imgkit.recipe.schedules import Constant, Cosine, CosineRestarts, OneCycle
from imgkit.schedules import SCHEDULES, make_schedule

Settings = Constant | Cosine | CosineRestarts | OneCycle


def shape(lowest: str = "0%") -> st.SearchStrategy[str]:
    return st.sampled_from([lowest, "5%", "12.5%", "1 step", "3 steps", "1 epoch", "2.5 epochs", "100%", "40 epochs"])


unit = st.floats(0.0, 1.0)
every_setting = st.one_of(
    st.builds(Constant, name=st.just("constant"), warmup=shape()),
    st.builds(Cosine, name=st.just("cosine"), warmup=shape(), end=unit),
    st.builds(
        CosineRestarts,
        name=st.just("cosine_restarts"),
        first=shape("1%"),
        mult=st.integers(1, 3),
        warmup=shape(),
        end=unit,
    ),
    st.builds(OneCycle, name=st.just("one_cycle"), rise=shape(), start=unit, end=unit),
)


def in_steps(length: str, steps: int, per_epoch: int) -> int:
    count, unit = (length[:-1], "%") if length.endswith("%") else length.split()
    scale = steps / 100 if unit == "%" else per_epoch if unit.startswith("epoch") else 1
    return round(float(count) * scale)


def naive(chosen: Settings, step: int, steps: int, per_epoch: int) -> float:
    """The factor of update `step` of `steps`, in whole steps."""

    def between(high: float, low: float, part: int, whole: int) -> float:
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * part / whole))

    if isinstance(chosen, OneCycle):
        rise = in_steps(chosen.rise, steps, per_epoch)
        if step < rise:
            return between(chosen.start, 1.0, step, rise)
        return between(1.0, chosen.end, step - rise, steps - rise)
    warmup = in_steps(chosen.warmup, steps, per_epoch)
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    if isinstance(chosen, Constant):
        return 1.0
    if isinstance(chosen, Cosine):
        return between(1.0, chosen.end, step - warmup, steps - warmup)
    length, left = max(1, in_steps(chosen.first, steps, per_epoch)), step - warmup
    while left >= length:
        left, length = left - length, length * chosen.mult
    return between(1.0, chosen.end, left, length)


def test_every_registered_schedule_is_tested() -> None:
    drawn = {chosen.__name__ for chosen in (Constant, Cosine, CosineRestarts, OneCycle)}
    assert {name.replace("_", "") for name in SCHEDULES} == {name.lower() for name in drawn}


@settings(max_examples=150, deadline=None)
@given(chosen=every_setting, steps=st.integers(1, 400), per_epoch=st.integers(1, 60))
def test_factors_equal_the_naive_ones_in_steps(chosen: Settings, steps: int, per_epoch: int) -> None:
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    for step in range(steps):
        assert factor(step / steps) == pytest.approx(naive(chosen, step, steps, per_epoch), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    chosen=every_setting,
    steps=st.integers(1, 400),
    per_epoch=st.integers(1, 60),
    points=st.lists(st.floats(0.0, 1.0), max_size=20),
)
def test_factor_is_in_0_to_1_and_pure(chosen: Settings, steps: int, per_epoch: int, points: list[float]) -> None:
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    points = [0.0, 1.0, *points]
    found = [factor(point) for point in points]
    assert all(0.0 <= value <= 1.0 for value in found)
    again = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    assert [again(point) for point in reversed(points)] == found[::-1]


@settings(max_examples=60, deadline=None)
@given(chosen=every_setting, steps=st.integers(2, 400), per_epoch=st.integers(1, 60))
def test_warmup_never_falls(chosen: Settings, steps: int, per_epoch: int) -> None:
    length = chosen.rise if isinstance(chosen, OneCycle) else chosen.warmup
    warmup = min(in_steps(length, steps, per_epoch), steps)
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    found = [factor(step / steps) for step in range(warmup + 1)]
    inside = found if warmup < steps else found[:-1]
    assert inside == sorted(inside)


def test_warmup_starts_at_a_hundredth_and_ends_at_1() -> None:
    factor = make_schedule(Cosine(warmup="10%", end=0.2), steps=1000, steps_per_epoch=10)
    assert factor(0.0) == 0.01
    assert factor(0.05) == pytest.approx(0.505)
    assert factor(0.1) == 1.0
    assert factor(0.55) == pytest.approx(0.6)  # half-way through what is left
    assert factor(1.0) == pytest.approx(0.2)


def test_one_cycle_starts_rises_and_ends() -> None:
    factor = make_schedule(OneCycle(name="one_cycle"), steps=1000, steps_per_epoch=10)
    assert [factor(0.0), factor(0.15), factor(0.3), factor(1.0)] == pytest.approx([0.04, 0.52, 1.0, 0.0001])


def torch_rates(lr: float, low: float, first: int, mult: int, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=mult, eta_min=low)
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("first", "mult", "steps"), [(10, 2, 50), (10, 1, 35), (7, 1, 70), (1, 1, 5), (3, 3, 200), (200, 2, 50)]
)
def test_restarts_reproduce_torchs(first: int, mult: int, steps: int) -> None:
    chosen = CosineRestarts(name="cosine_restarts", first=f"{first} steps", mult=mult, end=0.01)
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=1)
    ours = [1e-3 * factor(step / steps) for step in range(steps + 1)]
    assert ours == pytest.approx(torch_rates(1e-3, 1e-5, first, mult, steps), rel=1e-9)


@pytest.mark.parametrize("per_epoch", [1, 13, 1296])
def test_restarts_of_reference_system_r3(per_epoch: int) -> None:
    """T_0 = 10 epochs, T_mult = 2, 1e-3 down to 1e-5, 50 epochs: the budget ends half-way through a cycle of 40."""
    chosen = CosineRestarts(name="cosine_restarts", first="10 epochs", mult=2, end=0.01)
    factor = make_schedule(chosen, steps=50 * per_epoch, steps_per_epoch=per_epoch)
    assert 1e-3 * factor(1.0) == pytest.approx(5.05e-4, rel=1e-9)
    assert 1e-3 * factor(49 / 50) == pytest.approx(5.44e-4, abs=5e-7)
    assert [factor(epoch / 50) for epoch in (0, 10, 30)] == [1.0, 1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(first=st.integers(1, 2000), cycles=st.integers(1, 40), warmup=st.integers(0, 1000))
def test_each_restart_is_at_exactly_1(first: int, cycles: int, warmup: int) -> None:
    steps = warmup + first * cycles
    chosen = CosineRestarts(name="cosine_restarts", first=f"{first} steps", warmup=f"{warmup} steps")
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=1)
    assert [factor((warmup + first * cycle) / steps) for cycle in range(cycles)] == [1.0] * cycles


def test_a_cycle_without_length_is_refused() -> None:
    chosen = CosineRestarts(name="cosine_restarts", first="0 epochs")
    with pytest.raises(RecipeError) as caught:
        make_schedule(chosen, steps=10, steps_per_epoch=2)
    assert caught.value.message == "schedule.first is '0 epochs', but a cycle needs a length."
    assert caught.value.hint == 'Write, say, first = "10 epochs".'


def test_unknown_schedule_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown schedule 'cosin' \(did you mean 'cosine'\?\)"):
        SCHEDULES["cosin"]


def test_schedules_do_not_import_torch() -> None:
    tree = ast.parse(Path(imgkit.schedules.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not any(name.split(".")[0] in {"torch", "timm", "torchvision"} for name in imported)
