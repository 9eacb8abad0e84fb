import numpy as np
import pytest

from imgkit.labelling.order import entropy, informative, margin


def test_margin_and_entropy_are_their_definitions() -> None:
    probs = np.random.default_rng(0).dirichlet(np.full(5, 0.5), 200)
    for row, lead, spread in zip(probs.tolist(), margin(probs), entropy(probs), strict=True):
        first, second = sorted(row, reverse=True)[:2]
        assert lead == first - second
        assert spread == pytest.approx(-sum(p * np.log(p) for p in row), abs=1e-12)
    sure = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert margin(sure).tolist() == [1.0, 0.0]
    assert entropy(sure) == pytest.approx([0.0, np.log(3)])


def test_the_least_sure_come_first() -> None:
    probs = {7: (0.5, 0.5, 0.0), 2: (0.4, 0.3, 0.3), 4: (0.9, 0.1, 0.0), 3: (0.4, 0.3, 0.3), 0: (1.0, 0.0, 0.0)}
    assert informative(probs, "margin") == [7, 2, 3, 4, 0]
    assert informative(probs, "entropy") == [2, 3, 7, 4, 0]
    assert informative(probs, "folder") == [0, 2, 3, 4, 7]
    assert informative({}, "margin") == []
    assert informative({1: (1.0,), 0: (1.0,)}, "entropy") == [0, 1], "one class leaves nothing to doubt"
