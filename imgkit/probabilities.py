"""Logits as probabilities, and how far these can be believed: calibration error and Brier score."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 15  # of the calibration error, as in Guo et al. 2017


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Probabilities (N, K), float64, of logits (N, K); NaN where a row's greatest logit is not finite."""
    probs = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        probs -= probs.max(axis=1, keepdims=True)
        np.exp(probs, out=probs)
        probs /= probs.sum(axis=1, keepdims=True)
    return probs


def sigmoid(logits: npt.NDArray[np.floating]) -> Floats:
    """Probability of each label, float64 (N, K), of logits (N, K); NaN where a logit is not finite."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))  # in (0, 1]: nothing overflows
    probs: Floats = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return np.where(np.isfinite(values), probs, np.nan)


def bins_of(confidence: Floats) -> npt.NDArray[np.int64]:
    """Which of BINS equally wide bins (low, high] each confidence (M,) is in; 0 is in the first."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al. 2015, Guo et al. 2017), in [0, 1].

    The mean of |share of right ones - mean confidence| over the bins of `bins_of`, each counted by its share of the M
    answers.

    Args:
        confidence: (M,), in [0, 1]: how probable each answer was said to be; M >= 1.
        right: (M,), whether it was right.
    """
    bins = bins_of(confidence)
    gaps = np.bincount(bins, weights=right.astype(np.float64), minlength=BINS)
    gaps -= np.bincount(bins, weights=confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def squared_distance(probs: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    """Squared distance (N,) of probs (N, K) from 1 for the class targets (N,) and 0 for the others; at most 2."""
    own = probs[np.arange(len(targets)), targets]
    # Sums of squares and not 1 - 2 * own + squares, which would cancel where own is near 1.
    others: Floats = np.maximum(np.square(probs).sum(axis=1) - np.square(own), 0.0)
    return others + np.square(1.0 - own)
