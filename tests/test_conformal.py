import re

import numpy as np
import pytest

from imgkit.conformal import Conformal, fewest, fit, rank
from imgkit.errors import UsageError


def test_the_quantile_by_hand() -> None:
    """Nine held-out images at level 0.8: the 8th smallest score, so the 8th greatest probability of a true class."""
    own = np.array([0.9, 0.1, 0.8, 0.7, 0.95, 0.6, 0.5, 0.85, 0.3])
    rule = fit(np.stack([own, 1 - own], axis=1), np.zeros(9, dtype=np.int64), 0.8)
    assert rule == Conformal(0.8, 9, 0.3)
    sets = rule.sets(np.array([[0.3, 0.7], [0.29, 0.71], [0.2, 0.2]]))
    assert sets.tolist() == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    ("n", "level", "expected"), [(9, 0.9, 9), (99, 0.55, 55), (99, 0.07, 7), (100, 0.9, 91), (19, 0.95, 19)]
)
def test_the_rank_is_that_of_the_decimal_number(n: int, level: float, expected: int) -> None:
    assert rank(n, level) == expected


def test_too_few_images_are_refused_with_what_they_can_promise() -> None:
    assert fewest(0.9) == 9
    assert fewest(0.95) == 19
    assert fewest(0.99) == 99
    probs = np.full((40, 2), 0.5)
    message = "Sets that hold the true class in 99 % of images need 99 validation images; there are 40."
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        fit(probs, np.zeros(40, dtype=np.int64), 0.99)
    assert error.value.hint == "Ask for 0.975 or less, or train with more validation images."
    assert fit(probs, np.zeros(40, dtype=np.int64), 0.975).n == 40


def cases(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 5) of a model that is too sure, and the truth (n,)."""
    logits = rng.normal(size=(n, 5))
    odds = np.exp(logits + rng.gumbel(size=(n, 5)))
    probs = np.exp(2 * logits)
    return probs / probs.sum(axis=1, keepdims=True), odds.argmax(axis=1)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_promised(level: float) -> None:
    """Over 200 draws of 300 held-out images, each scored on 1,000 others, for a model whose probabilities are wrong."""
    rng, found, spread = np.random.default_rng(3), [], []
    for _ in range(200):
        rule = fit(*cases(rng, 300), level)
        probs, truth = cases(rng, 1000)
        found.append(rule.sets(probs)[np.arange(1000), truth].mean())
        spread.append(rule.spread)
    assert abs(np.mean(found) - (rank(300, level) / 301)) < 0.005
    low, high = spread[0]
    assert np.mean([low - 0.012 <= one <= high + 0.012 for one in found]) > 0.8, "the truth is known to 1,000 images"


def test_the_spread_is_that_of_simulated_quantiles() -> None:
    """Scores that are uniform in [0, 1] have their coverage as quantile."""
    rng = np.random.default_rng(4)
    covered = np.sort(rng.random((4000, 59)), axis=1)[:, rank(59, 0.9) - 1]
    low, high = Conformal(0.9, 59, 0.1).spread
    assert np.mean((covered >= low) & (covered <= high)) == pytest.approx(0.9, abs=0.015)
    assert covered.mean() == pytest.approx(rank(59, 0.9) / 60, abs=0.003)
