import numpy as np
import pytest
from scipy.stats import binom

from imgkit.metrics import wilson
from imgkit.selective import DOUBT, GRID, answered, area_of, risk_curve, threshold_for

PROB = np.array([0.9, 0.6, 0.9, 0.4, 0.8])
RIGHT = np.array([True, False, False, True, True])


def test_what_a_threshold_leaves_by_hand() -> None:
    got = answered(PROB >= 0.8, RIGHT)
    assert got == (5, 3, 2)
    assert got.accuracy == pytest.approx(2 / 3)
    assert got.interval == wilson(2, 3)
    nothing = answered(PROB > 1, RIGHT)
    assert nothing.interval is None
    assert np.isnan(nothing.accuracy)


def test_the_curve_by_hand_has_a_point_for_each_probability() -> None:
    curve = risk_curve(PROB, RIGHT)
    assert curve.threshold.tolist() == [0.9, 0.8, 0.6, 0.4]
    assert curve.coverage.tolist() == pytest.approx([2 / 5, 3 / 5, 4 / 5, 1])
    assert curve.risk.tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 4, 2 / 5])
    assert (curve.low[1], curve.high[1]) == pytest.approx(wilson(1, 3))


def test_the_area_by_hand() -> None:
    area = area_of(PROB, RIGHT)
    assert area.value == pytest.approx((1 / 2 + 1 / 2 + 1 / 3 + 2 / 4 + 2 / 5) / 5)
    assert area.chance == 0.4
    assert area.best == pytest.approx((1 / 4 + 2 / 5) / 5), "three right ones first, then the two mistakes"


def test_the_area_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    prob, right = rng.integers(1, 6, 200) / 5, rng.random(200) < 0.8
    order = rng.permutation(200)
    found, expected = area_of(prob[order], right[order]), area_of(prob, right)
    assert found.value == pytest.approx(expected.value)
    assert found.interval == pytest.approx(expected.interval)


@pytest.mark.parametrize("right", [True, False])
def test_an_area_without_mistakes_or_with_nothing_else_has_no_interval(right: bool) -> None:
    area = area_of(PROB, np.full(5, right))
    assert (area.value, area.interval, area.best) == (float(not right), None, pytest.approx(float(not right)))


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are right as often as they are sure, roughly: the more the surer, from 0.55 to 1."""
    sure = 0.5 + 0.5 * rng.beta(3, 1, n)
    return sure, rng.random(n) < sure**0.7


def test_the_interval_of_the_area_holds_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = area_of(*draw(rng, 400_000)).value
    ends = [area_of(*draw(rng, 300)).interval for _ in range(600)]
    held = np.mean([low <= truth <= high for low, high in filter(None, ends)])
    assert 0.92 <= held <= 0.98


def test_a_promised_accuracy_is_missed_as_seldom_as_was_said() -> None:
    rng = np.random.default_rng(2)
    prob, right = draw(rng, 400_000)
    true_of = {threshold: right[prob >= threshold].mean() for threshold in GRID}
    goal, chosen = 0.93, []
    assert true_of[0.0] < goal < true_of[0.95]
    for _ in range(300):
        chosen.append(threshold_for(*draw(rng, 600), goal))
    known = [threshold for threshold in chosen if threshold is not None]
    assert len(known) > 200, "most draws are enough for a promise"
    missed = sum(true_of[threshold] < goal for threshold in known) / len(chosen)
    assert missed <= DOUBT + 2 * np.sqrt(DOUBT * (1 - DOUBT) / len(chosen))


def test_the_threshold_by_hand_is_the_lowest_one_rejected() -> None:
    prob, right = np.array([0.97] * 200 + [0.6] * 200), np.array([True] * 200 + [False] * 200)
    assert threshold_for(prob, right, 0.95) == 0.7, "the lowest of the grid that leaves out the answers at 0.6"
    assert binom.cdf(0, 200, 0.05) < DOUBT / len(GRID)
    few = slice(150, 250)
    assert binom.cdf(0, 50, 0.05) > DOUBT / len(GRID)
    assert threshold_for(prob[few], right[few], 0.95) is None


def test_a_rejected_threshold_hands_its_doubt_on() -> None:
    """The sure answers pass at several thresholds; all answers pass with the doubt of these, and not with their own."""
    sure, less = np.full(200, 0.97), np.full(40, 0.66)
    prob, right = np.concatenate([sure, less]), np.array([True] * 200 + [True] * 34 + [False] * 6)
    p_value, passed = binom.cdf(6, 240, 0.06), sum(0.66 <= threshold <= 0.97 for threshold in GRID)
    assert DOUBT / len(GRID) < p_value < (passed + 1) * DOUBT / len(GRID)
    assert threshold_for(prob, right, 0.94) == 0.0
