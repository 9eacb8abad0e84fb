import ast
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import imgkit.schedules
from imgkit.errors import UsageError
from imgkit.recipe.schedules import (
    SCHEDULE_TYPES,
    Constant,
    Cosine,
    CosineRestarts,
    Linear,
    Multistep,
    OneCycle,
    Plateau,
    Polynomial,
    ScheduleSettings,
    Step,
)
from imgkit.schedules import SCHEDULES, make_schedule


def shape(lowest: str = "0%") -> st.SearchStrategy[str]:
    return st.sampled_from([lowest, "5%", "12.5%", "1 step", "3 steps", "1 epoch", "2.5 epochs", "100%", "40 epochs"])


unit = st.floats(0.0, 1.0)
warmed = {"warmup": shape(), "step_on": st.sampled_from(["update", "epoch"])}
MILESTONES = [("30%", "60%", "90%"), ("2 steps", "5 steps"), ("1 epoch", "1.5 epochs", "40 epochs"), ("50%",)]
DRAWS: dict[type[ScheduleSettings], dict[str, st.SearchStrategy[object]]] = {
    Constant: warmed,
    Linear: {**warmed, "end": unit},
    Polynomial: {**warmed, "end": unit, "power": st.floats(0.1, 4.0)},
    Cosine: {**warmed, "end": unit},
    CosineRestarts: {**warmed, "first": shape("1%"), "mult": st.integers(1, 3), "end": unit},
    Step: {**warmed, "every": shape("1%"), "gamma": st.floats(0.0, 0.99)},
    Multistep: {**warmed, "milestones": st.sampled_from(MILESTONES), "gamma": st.floats(0.0, 0.99)},
    OneCycle: {"rise": shape(), "start": unit, "end": unit, "step_on": warmed["step_on"]},
    Plateau: warmed,
}
NAME_OF = {type_: name for name, type_ in SCHEDULE_TYPES.items()}
every_setting = st.one_of(
    *(st.builds(type_, name=st.just(NAME_OF[type_]), **values) for type_, values in DRAWS.items())
)


def in_steps(length: str, steps: int, per_epoch: int) -> int:
    count, unit = (length[:-1], "%") if length.endswith("%") else length.split()
    scale = Fraction(steps, 100) if unit == "%" else per_epoch if unit.startswith("epoch") else 1
    return round(Fraction(count) * scale)


def naive(chosen: ScheduleSettings, step: int, steps: int, per_epoch: int) -> float:
    """The factor of update `step` of `steps`, in whole steps."""
    step = step - step % per_epoch if chosen.step_on == "epoch" else step

    def between(high: float, low: float, part: int, whole: int) -> float:
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * part / whole))

    if isinstance(chosen, OneCycle):
        rise = in_steps(chosen.rise, steps, per_epoch)
        if step < rise:
            return between(chosen.start, 1.0, step, rise)
        return between(1.0, chosen.end, step - rise, steps - rise)
    warmup = in_steps(warmup_of(chosen), steps, per_epoch)
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    match chosen:
        case Cosine():
            return between(1.0, chosen.end, step - warmup, steps - warmup)
        case Linear():
            return 1.0 - (1.0 - chosen.end) * (step - warmup) / (steps - warmup)
        case Polynomial():
            return chosen.end + (1.0 - chosen.end) * ((steps - step) / (steps - warmup)) ** chosen.power
        case Step():
            return chosen.gamma ** (step // max(1, in_steps(chosen.every, steps, per_epoch)))
        case Multistep():
            return chosen.gamma ** sum(step >= in_steps(place, steps, per_epoch) for place in chosen.milestones)
        case CosineRestarts():
            length, left = max(1, in_steps(chosen.first, steps, per_epoch)), step - warmup
            while left >= length:
                left, length = left - length, length * chosen.mult
            return between(1.0, chosen.end, left, length)
    return 1.0


def warmup_of(chosen: ScheduleSettings) -> str:
    length: str = chosen.model_dump().get("warmup", "0%")
    return chosen.rise if isinstance(chosen, OneCycle) else length


def test_every_registered_schedule_is_tested() -> None:
    assert set(SCHEDULES) == set(SCHEDULE_TYPES) == {NAME_OF[type_] for type_ in DRAWS}


@settings(max_examples=150, deadline=None)
@given(chosen=every_setting, steps=st.integers(1, 400), per_epoch=st.integers(1, 60))
@example(chosen=Step(name="step", warmup="5%", step_on="epoch", every="1%", gamma=0.0), steps=237, per_epoch=1)
def test_factors_equal_the_naive_ones_in_steps(chosen: ScheduleSettings, steps: int, per_epoch: int) -> None:
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
def test_factor_is_in_0_to_1_and_pure(
    chosen: ScheduleSettings, steps: int, per_epoch: int, points: list[float]
) -> None:
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    points = [0.0, 1.0, *points]
    found = [factor(point) for point in points]
    assert all(0.0 <= value <= 1.0 for value in found)
    again = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    assert [again(point) for point in reversed(points)] == found[::-1]


@settings(max_examples=60, deadline=None)
@given(chosen=every_setting, steps=st.integers(2, 400), per_epoch=st.integers(1, 60))
def test_warmup_never_falls_and_is_a_straight_line(chosen: ScheduleSettings, steps: int, per_epoch: int) -> None:
    whole = in_steps(warmup_of(chosen), steps, per_epoch)
    warmup = min(whole, steps)
    factor = make_schedule(chosen, steps=steps, steps_per_epoch=per_epoch)
    found = [factor(step / steps) for step in range(warmup + 1)]
    inside = found if warmup < steps and not isinstance(chosen, Step | Multistep) else found[:-1]
    assert inside == sorted(inside)
    if chosen.step_on == "update" and not isinstance(chosen, OneCycle):
        assert found[:warmup] == pytest.approx([0.01 + 0.99 * step / whole for step in range(warmup)])


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


@settings(max_examples=60, deadline=None)
@given(chosen=every_setting, epochs=st.integers(1, 9), per_epoch=st.integers(1, 30))
def test_per_epoch_the_rate_changes_between_epochs_alone(chosen: ScheduleSettings, epochs: int, per_epoch: int) -> None:
    by_epoch, by_update = (
        make_schedule(
            chosen.model_copy(update={"step_on": step_on}), steps=epochs * per_epoch, steps_per_epoch=per_epoch
        )
        for step_on in ("epoch", "update")
    )
    for epoch in range(epochs):
        found = {by_epoch((epoch * per_epoch + inner) / (epochs * per_epoch)) for inner in range(per_epoch)}
        assert len(found) == 1
        assert found.pop() == pytest.approx(by_update(epoch / epochs), abs=1e-9)


LENGTHS = ["30 steps", "3 epochs", "25%"]  # the same in 120 updates, 10 an epoch


@pytest.mark.parametrize("type_", [type_ for type_ in DRAWS if type_ is not OneCycle], ids=NAME_OF.get)
def test_lengths_mean_the_same_in_steps_epochs_and_percent(type_: type[ScheduleSettings]) -> None:
    needed = {CosineRestarts: "first", Step: "every"}
    found = []
    for length in LENGTHS:
        values: dict[str, object] = {"name": NAME_OF[type_], "warmup": length}
        values |= {needed[type_]: length} if type_ in needed else {}
        values |= {"milestones": (length,)} if type_ is Multistep else {}
        factor = make_schedule(type_.model_validate(values), steps=120, steps_per_epoch=10)
        found.append([factor(step / 120) for step in range(121)])
    assert found[0] == found[1] == found[2]


CHANGED: dict[str, object] = {"warmup": "30%", "end": 0.4, "power": 3.0, "mult": 2, "first": "30%", "every": "40%"}
CHANGED |= {"gamma": 0.3, "milestones": ("20%",), "rise": "50%", "start": 0.5, "step_on": "epoch"}
NEEDED: dict[str, dict[str, object]] = {
    "cosine_restarts": {"first": "20%"},
    "step": {"every": "20%"},
    "multistep": {"milestones": ("50%",)},
    "constant": {"warmup": "50%"},
    "plateau": {"warmup": "50%"},
}
STATE = {"factor", "patience", "threshold", "watch", "end"}  # of a plateau: test_plateau.py


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (name, key)
        for name, type_ in SCHEDULE_TYPES.items()
        for key in type_.model_fields
        if key != "name" and not (name == "plateau" and key in STATE)
    ],
)
def test_every_key_changes_the_factor(name: str, key: str) -> None:
    found = []
    for values in ({}, {key: CHANGED[key]}):
        chosen = SCHEDULE_TYPES[name].model_validate({"name": name, **NEEDED.get(name, {}), **values})
        factor = make_schedule(chosen, steps=60, steps_per_epoch=7)
        found.append([factor(step / 60) for step in range(60)])
    assert found[0] != found[1]


TORCHS = [
    (
        Step(name="step", every="7 steps", gamma=0.3),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.3),
    ),
    (
        Multistep(name="multistep", milestones=("10 steps", "11 steps", "35 steps"), gamma=0.5),
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 11, 35], gamma=0.5),
    ),
    (
        Polynomial(name="polynomial", power=0.9),
        lambda optimizer: torch.optim.lr_scheduler.PolynomialLR(optimizer, 40, power=0.9),
    ),
    (
        Linear(name="linear", end=0.2),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end_factor=0.2, total_iters=40),
    ),
    (Cosine(end=0.1), lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=1e-4)),
]


@pytest.mark.parametrize(("chosen", "theirs"), TORCHS, ids=lambda value: getattr(value, "name", ""))
def test_schedules_reproduce_torchs(
    chosen: ScheduleSettings,
    theirs: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = theirs(optimizer)
    factor = make_schedule(chosen, steps=40, steps_per_epoch=4)
    for step in range(40):
        assert 1e-3 * factor(step / 40) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimizer.step()
        schedule.step()


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a length above 0, got '0 epochs'"):
        CosineRestarts(name="cosine_restarts", first="0 epochs")
    with pytest.raises(ValidationError, match="needs a length above 0, got '0%'"):
        Step(name="step", every="0%")


@pytest.mark.parametrize("milestones", [("50%", "30%"), ("50%", "50%"), ("1 epoch", "50%")])
def test_milestones_rise_in_one_unit(milestones: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="must be rising lengths of one unit"):
        Multistep(name="multistep", milestones=milestones)


def test_unknown_schedule_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown schedule 'cosin' \(did you mean 'cosine'\?\)"):
        SCHEDULES["cosin"]


def test_schedules_do_not_import_torch() -> None:
    tree = ast.parse(Path(imgkit.schedules.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not any(name.split(".")[0] in {"torch", "timm", "torchvision"} for name in imported)
