import json

import pytest
import torch
from torch import nn

from imgkit.errors import DivergedError
from imgkit.loss_scale import LONGEST, LossScale

CPU = torch.device("cpu")


def update(scale: LossScale, weight: nn.Parameter, slope: float) -> bool:
    """One update of `weight` down a loss of that slope; returns whether its gradient overflowed."""
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scale.scaled(slope * weight.sum()).backward()
    scale.unscale(optimizer)
    assert weight.grad is not None
    overflowed = not bool(torch.isfinite(weight.grad).all())
    scale.step(optimizer, overflowed=overflowed, place="step 1 of phase 'all'")
    weight.grad = None
    return overflowed


def test_an_update_is_that_of_the_unscaled_gradient() -> None:
    weight = nn.Parameter(torch.ones(2))
    assert not update(LossScale(CPU), weight, 0.25)
    assert weight.tolist() == [0.75, 0.75]


def test_an_overflow_changes_no_weight_and_halves_the_scale() -> None:
    scale, weight = LossScale(CPU), nn.Parameter(torch.ones(2))
    update(scale, weight, 0.0)
    before = scale.numbers()["scale"]
    assert update(scale, weight, 1e38)
    assert weight.tolist() == [1.0, 1.0]
    assert scale.numbers()["scale"] == before / 2
    assert scale.numbers()["in_row"] == 1
    assert not update(scale, weight, 0.0)
    assert scale.numbers()["in_row"] == 0


def test_too_many_overflows_in_a_row_stop() -> None:
    scale, weight = LossScale(CPU), nn.Parameter(torch.ones(2))
    for _ in range(LONGEST - 1):
        update(scale, weight, float("inf"))
    with pytest.raises(DivergedError, match=f"{LONGEST} updates in a row overflowed in float16, the last at") as caught:
        update(scale, weight, float("inf"))
    assert "--set train.precision=bfloat16" in caught.value.hint
    assert caught.value.exit_code == 6


def test_what_it_remembers_goes_through_json() -> None:
    scale, weight = LossScale(CPU), nn.Parameter(torch.ones(2))
    for slope in (1.0, 1e38, 1e38, 1.0):
        update(scale, weight, slope)
    numbers = json.loads(json.dumps(scale.numbers()))
    again = LossScale(CPU)
    again.restore(numbers)
    assert again.numbers() == scale.numbers()
    for slope in (1e38, 1.0):
        assert update(scale, weight, slope) == update(again, weight, slope)
    assert again.numbers() == scale.numbers()
