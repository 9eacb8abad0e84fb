"""Metrics of a scored split, with intervals: everything that metrics.json says.

Precision, recall and F1 are scikit-learn's, with `labels` = the classes that have support in the split and
`zero_division=0`, computed from the int64 confusion matrix. All shares are fractions in [0, 1].
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.errors import DataError, DivergedError
from imgkit.probabilities import Floats, calibration_error, squared_distance
from imgkit.recipe.monitors import TOPK

Ints = npt.NDArray[np.int64]

DRAWS = 2000  # of the bootstrap
FEWEST = 30  # images below which a bootstrap says nothing; assumed, the usual rule of thumb
_Z = 1.959963984540054  # 97.5 % point of the normal distribution
_BLOCK = 4_000_000  # scores ranked at once


class Scored(NamedTuple):
    """What the metrics need of each image, all (N,)."""

    targets: Ints  # true class
    predicted: Ints  # class of the greatest score, the first of equal ones
    prob: Floats  # probability of that class
    label_prob: Floats  # probability of the true class
    label_rank: Ints  # 1 + classes with a greater score + classes of lower number with an equal one
    distance: Floats  # squared, from the probabilities to 1 for the true class and 0 for the others


class Shares(NamedTuple):
    """Of each class or image, 0 where the denominator is 0."""

    precision: Floats
    recall: Floats
    f1: Floats


def score(probs: Floats, targets: Ints) -> Scored:
    """Predictions and ranks of probs (N, K) for targets (N,).

    Raises:
        DataError: if there is no image, or one without a label.
        DivergedError: if a probability is not finite: it would rank first.
    """
    n, classes = probs.shape
    check_labelled(n, int((targets < 0).sum()))
    check_finite(probs)
    predicted, rank = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    distance = np.empty(n)
    block = max(1, _BLOCK // classes)
    numbers = np.arange(classes)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        part, labels = probs[rows], targets[rows]
        own = np.take_along_axis(part, labels[:, None], axis=1)
        before = (part > own) | ((part == own) & (numbers < labels[:, None]))  # (rows, K)
        predicted[rows], rank[rows] = part.argmax(axis=1), 1 + before.sum(axis=1)
        distance[rows] = squared_distance(part, labels)
    images = np.arange(n)
    return Scored(targets, predicted, probs[images, predicted], probs[images, targets], rank, distance)


def confusion_matrix(scored: Scored, classes: int) -> Ints:
    """Counts (K, K): true class by predicted class."""
    counts = np.bincount(scored.targets * classes + scored.predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def summarise(
    probs: Floats,
    targets: Ints,
    classes: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics of probs (N, K) against targets (N,), ready for JSON.

    `loss`, `ece` and `brier` are those of `reliability`. `topk` counts labels of rank <= `k` = min(TOPK, K). Macro and
    weighted values average over the classes with support; micro ones pool them. `chance` is what guessing gives.
    `intervals` hold 95 %: Wilson's (1927) for `top1`; for `f1_macro` a percentile bootstrap of `draws` draws stratified
    by true class, or None where that says nothing (see `bootstrap_f1`).

    Raises:
        DataError: if there is no image, or one without a label.
        DivergedError: if a probability is not finite.
    """
    return summarise_scored(score(probs, targets), classes, draws=draws, seed=seed)


def summarise_scored(scored: Scored, classes: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """`summarise` of images that are scored already."""
    n, k = len(scored.targets), min(TOPK, len(classes))
    confusion = confusion_matrix(scored, len(classes))
    support = confusion.sum(axis=1)
    right = int(np.trace(confusion))
    averages = _averages(confusion)
    most = int(support.argmax())
    interval = bootstrap_f1(confusion, draws=draws, seed=seed)
    return {
        "n": n,
        "classes": len(classes),
        "classes_with_support": int((support > 0).sum()),
        "classes_without_support": [name for name, count in zip(classes, support, strict=True) if count == 0],
        **reliability(scored, len(classes)),
        "top1": right / n,
        "k": k,
        "topk": int((scored.label_rank <= k).sum()) / n,
        **averages,
        "chance": {
            "uniform": 1.0 / len(classes),
            "majority": int(support[most]) / n,
            "majority_class": classes[most],
        },
        "intervals": {"top1": list(wilson(right, n)), "f1_macro": None if interval is None else list(interval)},
        "bootstrap": {"draws": draws, "seed": seed},
    }


def reliability(scored: Scored, classes: int) -> dict[str, float]:
    """`loss`, `ece` and `brier`: how far the probabilities can be believed; smaller is better.

    `loss` is the mean of -log p of the label, p no smaller than the smallest normal float64; `ece` the calibration
    error of the answers (see `probabilities.calibration_error`); `brier` the mean squared distance of the probabilities
    from the truth (Brier 1950), halved for two classes, as scikit-learn does.
    """
    return {
        "loss": float(-np.log(np.maximum(scored.label_prob, np.finfo(np.float64).tiny)).mean()),
        "ece": calibration_error(scored.prob, scored.predicted == scored.targets),
        "brier": float(scored.distance.mean()) / (2 if classes == 2 else 1),
    }


def per_class(confusion: Ints, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
    """One row a class from counts (K, K).

    `confused` images of the class, more than of any other wrong class, were taken for `most_confused_with` (empty
    where there was no mistake). A share with denominator 0 is 0.
    """
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = shares(np.diagonal(confusion), support, predicted)
    wrong = confusion - np.diag(np.diagonal(confusion))
    worst = wrong.argmax(axis=1)
    return [
        {
            "class": name,
            "support": int(support[row]),
            "predicted": int(predicted[row]),
            "precision": float(precision[row]),
            "recall": float(recall[row]),
            "f1": float(f1[row]),
            "most_confused_with": classes[worst[row]] if wrong[row, worst[row]] else "",
            "confused": int(wrong[row, worst[row]]),
        }
        for row, name in enumerate(classes)
    ]


def wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927), 95 %, of a share of k in n > 0."""
    share = k / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale))


def bootstrap_f1(confusion: Ints, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap (Efron 1979), 95 %, of macro F1, stratified by true class, from counts (K, K).

    Drawing a class's images with replacement is a multinomial draw on its row of the confusion matrix. The draws are
    `rng = numpy.random.default_rng(seed)`, then for each class with support, in order,
    `rng.multinomial(support, cells / support, size=draws)` over the row's non-zero cells; the ends are numpy's 2.5 and
    97.5 percentiles, moved outwards where needed to contain the value itself (F1 is biased in small classes).

    None below `FEWEST` images, and where every draw is the same: nothing was confused, or one image a class.
    """
    support = confusion.sum(axis=1)
    if support.sum() < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    hits, predicted = np.zeros((draws, len(confusion)), dtype=np.int64), np.zeros((draws, len(confusion)), np.int64)
    kept = np.flatnonzero(support)
    for row in kept:
        cells = np.flatnonzero(confusion[row])
        drawn = rng.multinomial(support[row], confusion[row, cells] / support[row], size=draws)  # (draws, cells)
        predicted[:, cells] += drawn
        if confusion[row, row]:
            hits[:, row] = drawn[:, np.searchsorted(cells, row)]
    f1 = 2 * hits[:, kept] / (support[kept] + predicted[:, kept])  # (draws, classes with support)
    means = f1.mean(axis=1)
    if np.ptp(means) < 1e-9:
        return None
    low, high = np.percentile(means, [2.5, 97.5])
    value = _averages(confusion)["f1_macro"]
    return min(float(low), value), max(float(high), value)


def check_labelled(n: int, unlabelled: int) -> None:
    """See that there are images to score, and that each has a label.

    Raises:
        DataError: if not.
    """
    if n == 0:
        raise DataError("There is no image to score.", "Choose a split that has images, or other data: --data")
    if unlabelled:
        raise DataError(f"{unlabelled} of {n} images to score have no label.", "Label them, or use: imgkit predict")


def check_finite(probs: Floats) -> None:
    """See that probs (N, K) can be ranked.

    Raises:
        DivergedError: if one is not finite.
    """
    if not np.isfinite(probs).all():
        raise DivergedError(
            "The network's scores are not finite, so they cannot be ranked: its weights have diverged.",
            "Train it again with a smaller rate, such as a tenth of this one.",
        )


def _averages(confusion: Ints) -> dict[str, float]:
    support, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)
    kept = support > 0
    pooled = shares(*(counts[kept].sum(keepdims=True) for counts in (hits, support, predicted)))
    found = {}
    for name, values, micro in zip(Shares._fields, shares(hits, support, predicted), pooled, strict=True):
        found[f"{name}_macro"] = float(values[kept].mean())
        found[f"{name}_micro"] = float(micro[0])
        found[f"{name}_weighted"] = float(np.average(values[kept], weights=support[kept]))
    return found


def shares(hits: Ints, support: Ints, predicted: Ints) -> Shares:
    """Precision, recall and F1 from counts (K,): right answers, images that have the class, answers."""
    return Shares(_ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, support + predicted))


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
