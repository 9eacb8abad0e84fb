"""Selective classification: leaving open what a model is not sure of, and what that gains.

An answer is given where its probability is at least a threshold. *Coverage* is the share of images that are answered,
*risk* the share of wrong ones among them (El-Yaniv & Wiener 2010).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.metrics import wilson
from imgkit.probabilities import Floats

Bools = npt.NDArray[np.bool_]

DOUBT = 0.05
"""How often, over validation sets drawn anew, `threshold_for` may promise an accuracy that is not reached."""
GRID: tuple[float, ...] = (
    *(0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.925, 0.9),
    *(0.875, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.0),
)
"""Thresholds that are tried, before any image is looked at; 0 answers everything."""


class Answered(NamedTuple):
    """What a threshold leaves of scored images."""

    n: int  # images
    answered: int
    right: int  # of the answered ones

    @property
    def accuracy(self) -> float:
        """Share of right answers among those given; NaN where none is."""
        return self.right / self.answered if self.answered else float("nan")

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's, 95 %, of the accuracy; None where nothing is answered."""
        return wilson(self.right, self.answered) if self.answered else None


class RiskCurve(NamedTuple):
    """Risk against coverage: a point for each probability that occurs, the greatest first; all (M,)."""

    threshold: Floats  # answers of at least this probability are given
    coverage: Floats
    risk: Floats
    low: Floats  # 95 % of the risk, Wilson's, for each point by itself
    high: Floats


class Area(NamedTuple):
    """The area under a risk-coverage curve, and what it would be in other orders; fractions in [0, 1]."""

    value: float
    interval: tuple[float, float] | None  # 95 %; None where nothing or everything is wrong
    best: float  # if all mistakes had the smallest probabilities
    chance: float  # if probabilities said nothing: the share of mistakes


def answered(given: Bools, right: Bools) -> Answered:
    """What is left where the answers `given` (N,) are given, and `right` (N,) says which are right."""
    return Answered(len(right), int(given.sum()), int((given & right).sum()))


def threshold_for(prob: Floats, right: Bools, accuracy: float, doubt: float = DOUBT) -> float | None:
    """The lowest threshold of GRID above which answers are right with at least `accuracy`, as far as can be promised.

    For each threshold the hypothesis is that the risk among the answered is above 1 - accuracy. Given how many are
    answered, the mistakes are binomial, so the test is exact: it is that of Clopper & Pearson's upper limit (1934).
    All thresholds are tested together from the highest on by the fallback procedure (Wiens 2003): each has an equal
    share of `doubt`, and hands what it had to the next one when it is rejected. That a threshold is returned whose
    risk is above 1 - accuracy then has a probability of at most `doubt`, whatever the dependence between the tests; so
    "learn then test" (Angelopoulos et al. 2021) chooses one.

    Args:
        prob: of the answers, (N,), from images that chose neither the weights nor the temperature.
        right: whether each answer is right, (N,).
        accuracy: wanted among the answers, in (0, 1).
        doubt: see above.

    Returns:
        the threshold; None where none can be promised.
    """
    from scipy.stats import binom

    found, budget = None, 0.0
    for threshold in GRID:
        budget += doubt / len(GRID)
        got = answered(prob >= threshold, right)
        wrong = got.answered - got.right
        # P(this few mistakes) at the greatest risk allowed; without answers it is 1
        if binom.cdf(wrong, got.answered, 1 - accuracy) <= budget:
            found = threshold
        else:
            budget = 0.0
    return found


def risk_curve(prob: Floats, right: Bools) -> RiskCurve:
    """The curve of answers with probabilities prob (N,), N > 0, of which `right` (N,) are right.

    Answers of one probability are given together, as a threshold does it, so the order of rows does not matter.
    """
    order = np.argsort(-prob, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(prob[order]) != 0, True))  # the last answer of each probability
    count = ends + 1
    wrong = np.cumsum(~right[order])[ends]
    intervals = np.array([wilson(int(k), int(n)) for k, n in zip(wrong, count, strict=True)])
    return RiskCurve(prob[order][ends], count / len(prob), wrong / count, intervals[:, 0], intervals[:, 1])


def area_of(prob: Floats, right: Bools) -> Area:
    """The area under the risk-coverage curve (AURC, Geifman et al. 2019) of N answers.

    It is the mean over the images of the risk that a threshold at their own probability gives: smaller is better. The
    interval is Wilson's with the deviation of the influence function: with p_j, w_j (1: wrong) of an image, coverage
    C(t) and risk R(t) at a threshold t,

        R(p_j) - AURC + mean over images i of [p_i <= p_j] (w_j - R(p_i)) / C(p_i).
    """
    n, curve = len(prob), risk_curve(prob, right)
    block = np.searchsorted(-curve.threshold, -prob)  # of each image
    share = np.diff(curve.coverage, prepend=0.0)  # of the images, in each block
    value = float((share * curve.risk).sum())
    below = np.cumsum((share / curve.coverage)[::-1])[::-1]  # over this block and all of smaller probability
    weighed = np.cumsum((share * curve.risk / curve.coverage)[::-1])[::-1]
    influence = curve.risk[block] - value + ~right * below[block] - weighed[block]
    wrong, variance = int((~right).sum()), float(influence.var()) / n
    best = float(np.sum(np.arange(1, wrong + 1) / (n - wrong + np.arange(1, wrong + 1)))) / n
    interval = None
    if 0 < wrong < n and variance > 0:
        effective = value * (1 - value) / variance
        interval = wilson(value * effective, effective)
    return Area(value, interval, best, wrong / n)
