from collections.abc import Iterator

import pytest
import torch
from torch import nn

from imgkit import device


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        # one step of each to warm up, then three of each in turn: float32, bfloat16
        ([9, 9, 1.0, 0.7, 1.0, 0.9, 1.0, 0.9], torch.bfloat16),
        ([9, 1, 1.0, 0.85, 1.0, 0.85, 1.0, 0.85], None),
        ([9, 9, 1.0, 0.7, 0.8, 0.9, 1.0, 0.9], None),  # the quickest of each counts
    ],
)
def test_bfloat16_has_to_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], chosen: torch.dtype | None
) -> None:
    times: Iterator[float] = iter(seconds)
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "_step_seconds", lambda *_: next(times))
    found, why = device.choose_precision(nn.Flatten(), torch.device("cpu"), (8, 8), 4)
    assert found == chosen
    assert why.startswith("bfloat16: " if chosen else "float32: ")
    assert next(times, None) is None


def test_a_trial_step_takes_time_and_leaves_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert device._step_seconds(model, torch.zeros(2, 3, 8, 8), torch.bfloat16) > 0
    assert model[1].weight.grad is None
