from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from imgkit.keys import key, seed_everything, uniforms


@pytest.mark.parametrize(
    ("available", "worker", "seeded"), [(True, None, True), (True, SimpleNamespace(id=0), False), (False, None, False)]
)
def test_apples_gpu_is_seeded_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, available: bool, worker: object, seeded: bool
) -> None:
    seeds: list[int] = []
    told: Callable[[int], None] = seeds.append
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: available)
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: worker)
    monkeypatch.setattr("torch.mps.manual_seed", told)
    number = key(3, "step", 7)
    seed_everything(number)
    assert seeds == ([number & (2**63 - 1)] if seeded else [])


def test_uniforms_are_uniform_and_follow_the_reference() -> None:
    draws = np.array([list(uniforms(key, 64)) for key in range(500)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.15
    state, mask = 2**64 - 5, 2**64 - 1  # the generator as published, in Python's integers
    for draw in uniforms(state, 64):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        assert draw == ((z ^ (z >> 31)) >> 11) * 2.0**-53
