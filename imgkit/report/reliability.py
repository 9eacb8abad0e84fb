"""How far probabilities can be believed: the bins of the calibration error, and what the temperature changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgkit.multilabel import Bools
from imgkit.probabilities import BINS, Floats, bins_of
from imgkit.report.stored import Answers, AnswersOfSets


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence; fractions in [0, 1].

    Args:
        low: lowest confidence, which is not in the bin (but 0 in the first one).
        high: highest.
        n: how many answers.
        sure: their mean confidence.
        right: share of right ones.
    """

    low: float
    high: float
    n: int
    sure: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """What the page says of probabilities.

    Args:
        bins: those that have answers; empty where predictions.csv has no probabilities.
        ece: calibration error.
        brier: mean squared distance from the truth.
        loss: mean negative log-likelihood.
        temperature: what logits are divided by; None: not calibrated.
        before: the same numbers without the temperature, by name; empty where there are none.
        notes: what was not fitted, and why.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    loss: float
    temperature: float | None
    before: Mapping[str, float]
    notes: tuple[str, ...]


def reliability_of(answers: Answers | AnswersOfSets, metrics: Mapping[str, Any]) -> Reliability:
    """From what was answered, and metrics.json."""
    fitted = metrics.get("calibration") or {}
    temperature = fitted.get("temperature")
    return Reliability(
        bins=_bins_of(answers),
        ece=float(metrics["ece"]),
        brier=float(metrics["brier"]),
        loss=float(metrics["loss"]),
        temperature=None if temperature is None else float(temperature),
        before={name: float(value) for name, value in (metrics.get("uncalibrated") or {}).items()},
        notes=tuple(map(str, fitted.get("notes", ()))),
    )


def bins(confidence: Floats, right: Bools) -> tuple[Bin, ...]:
    """The bins of `probabilities.calibration_error` that have answers, confidence (M,) against right (M,)."""
    place = bins_of(confidence)
    n = np.bincount(place, minlength=BINS)
    sure = np.bincount(place, weights=confidence, minlength=BINS)
    good = np.bincount(place, weights=right.astype(np.float64), minlength=BINS)
    return tuple(
        Bin(one / BINS, (one + 1) / BINS, int(n[one]), float(sure[one] / n[one]), float(good[one] / n[one]))
        for one in np.flatnonzero(n)
    )


def _bins_of(answers: Answers | AnswersOfSets) -> tuple[Bin, ...]:
    if isinstance(answers, Answers):
        return bins(answers.prob, answers.right)
    return () if answers.probs is None else bins(answers.probs.ravel(), answers.targets.ravel())
