"""The power law: known curves are found again, intervals hold as often as they say, and misfits are refused."""

import numpy as np
import pytest

from imgkit.curve_fit import Extrapolation, Floats, PowerLaw, extrapolate, fit_power_law

SIZES = np.array([100.0, 200.0, 400.0, 600.0, 800.0, 1000.0])
LAW = PowerLaw(0.95, 0.08, 0.6, 1000.0)


@pytest.mark.parametrize("law", [LAW, PowerLaw(0.7, 0.2, 0.3, 1000.0), PowerLaw(1.0, 0.02, 1.2, 1000.0)])
def test_a_law_is_found_again(law: PowerLaw) -> None:
    found = fit_power_law(SIZES, law(SIZES), np.full(6, 0.01))
    assert found(2000) == pytest.approx(law(2000), abs=5e-4), "c is one of a grid"
    assert found(SIZES) == pytest.approx(law(SIZES), abs=5e-4)


def test_bounds() -> None:
    for scores in (LAW(SIZES)[::-1], np.full(6, 0.5), np.full(6, 1.0), np.linspace(0.1, 1.0, 6)):
        found = fit_power_law(SIZES, scores, np.full(6, 0.01))
        assert 0 <= found.a <= 1
        assert found.b >= 0
        assert found(2000) <= 1


def drawn_curve(law: PowerLaw, seed: int, *, spread: float = 0.01, seeds: int = 5) -> tuple[Floats, Floats]:
    """Scores (J, S) of shares of one data set, and its score with twice the images.

    Each data set is a walk: images come one after another, and each adds its own part to the mean.
    """
    rng, step = np.random.default_rng(seed), 20
    parts = rng.normal(0.0, spread * np.sqrt(1000 / step), 2000 // step)
    first = parts[: 1000 // step]
    orders = [rng.permutation(len(first)) for _ in range(seeds)]
    means = [[first[order[: int(size) // step]].mean() for order in orders] for size in SIZES]
    return law(SIZES)[:, None] + np.array(means), float(law(2000) + parts.mean())


def extrapolated(scores: Floats, images: int = 5000) -> Extrapolation:
    found = extrapolate(SIZES, scores, np.broadcast_to(scores, (60, *scores.shape)), images=images)
    assert not isinstance(found, str)
    return found


def test_the_interval_holds_what_the_next_images_bring() -> None:
    held, widths = [], []
    for seed in range(40):
        scores, later = drawn_curve(LAW, seed)
        low, high = extrapolated(scores).interval
        held.append(low <= later - scores[-1, 0] <= high)
        widths.append(high - low)
    assert np.mean(held) >= 0.85
    # Of the next images alone, were law and spread known: two data sets of 1000, each with a spread of 0.01.
    assert np.mean(widths) < 1.5 * 2 * 1.96 * 0.01 / np.sqrt(2)


def test_a_gain_and_its_interval() -> None:
    scores, _ = drawn_curve(LAW, 0, spread=0.002)
    found = extrapolated(scores)
    assert found.refused == ""
    assert found.interval[0] < found.gain < found.interval[1]
    assert found.gain == pytest.approx(LAW(2000) - LAW(1000), abs=0.01)
    assert extrapolated(scores) == found, "the same scores give the same interval"


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (LAW(SIZES)[::-1], "have not raised the score"),
        (np.full(6, 0.7), "have not raised the score"),
        (np.array([0.5, 0.8, 0.6, 0.85, 0.6, 0.9]), "do not follow a curve"),
        (np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.8]), "do not follow a curve"),
    ],
)
def test_what_does_not_hold_is_refused(scores: Floats, why: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.003, (6, 5)) * (1 - SIZES / 1000)[:, None]
    assert why in extrapolated(scores[:, None] + noise).refused


def test_sizes_that_come_twice_count_once() -> None:
    scores, _ = drawn_curve(LAW, 0)
    drawn, twice = np.broadcast_to(scores, (60, *scores.shape)), [0, 0, 1, 2, 3, 4, 5, 5]
    assert extrapolate(SIZES[twice], scores[twice], drawn[:, twice], images=5000) == extrapolated(scores)


def test_too_little_to_fit() -> None:
    few = extrapolate(SIZES[:3], np.full((3, 5), 0.5), np.full((1, 3, 5), 0.5), images=100)
    assert few == "it takes 4 sizes and two seeds, and there are 3 and 5"
