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
_SAME = 1e-9  # between draws that agree
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
    `intervals` hold 95 %: Wilson's (1927) for `top1`; for `f1_macro` Wilson's with the deviation of `draws` draws
    within each true class, or None where that says nothing (see `bootstrap_f1`).

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


def wilson(k: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927), 95 %, of a share of k in n > 0."""
    share = k / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale))


def wilson_of_draws(value: float, drawn: Floats, bias: float, unseen: float = 0.0) -> tuple[float, float] | None:
    """Wilson's interval of a mean of shares, from its redraws (draws,) and by how much these are too great.

    That is `wilson(c * n, n)` of the centre c = value - bias, no further than 0 or 1, and the effective number of
    images n = value * (1 - value) / (numpy's `var` of the redraws + `unseen`) (Korn & Graubard 1998); moved outwards
    where needed to contain the value itself. None where the redraws do not differ, and of a value of 0 or 1.
    """
    variance = float(drawn.var()) if len(drawn) else 0.0
    if variance < _SAME**2 or not 0.0 < value < 1.0:
        return None
    n = value * (1 - value) / (variance + unseen)
    low, high = wilson(min(1.0, max(0.0, value - bias)) * n, n)
    return min(low, value), max(high, value)


def bootstrap_f1(confusion: Ints, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """Interval, 95 %, of macro F1 from counts (K, K): Wilson's, with the deviation of a bootstrap within each class.

    Percentiles of draws hold the truth too seldom where classes are small: draws of n images vary like n - 1, those of
    a class without mistakes (or hits) not at all, and F1 is biased there and skewed near 0 and 1. So n - 1 images of a
    class are drawn and counted n / (n - 1) times (Rao & Wu 1988), from its row and m more: m = 1, or 3 for a class
    without a hit (the rule of three), of which q = (sum of recalls + 1/2) / (classes + 1), over those with support, are
    hits and the others spread evenly over all other classes. With `rng = numpy.random.default_rng(seed)`, for each
    class with support, in order: `rng.multinomial(max(1, n - 1), [hits + m * q, *mistakes, m * (1 - q)] / (n + m),
    size=draws)` over the row's non-zero mistakes, in order. The bias is the mean F1 of the draws less the F1 of their
    mean counts; the ends are those of `wilson_of_draws`.

    None below `FEWEST` images, and where nothing was confused or nothing hit: a value of 1 or 0.
    """
    support, found = confusion.sum(axis=1), np.diagonal(confusion)
    if support.sum() < FEWEST:
        return None
    rng, kept = np.random.default_rng(seed), np.flatnonzero(support)
    likely = ((found[kept] / support[kept]).sum() + 0.5) / (len(kept) + 1)
    hits, predicted = np.zeros((draws, len(confusion))), np.zeros((draws, len(confusion)))
    anywhere = np.zeros((draws, 1))  # false answers of every class
    for row in kept:
        n, more = int(support[row]), 1 if found[row] else 3
        others = np.flatnonzero(confusion[row] * (np.arange(len(confusion)) != row))
        cells = np.array([found[row] + more * likely, *confusion[row, others], more * (1 - likely)]) / (n + more)
        drawn = rng.multinomial(max(1, n - 1), cells, size=draws) * (n / max(1, n - 1))  # (draws, cells)
        each = drawn[:, -1:] / max(1, len(confusion) - 1)
        hits[:, row] = drawn[:, 0]
        predicted[:, row] += drawn[:, 0] - each[:, 0]
        predicted[:, others] += drawn[:, 1:-1]
        anywhere += each
    hits, size = hits[:, kept], (support + predicted + anywhere)[:, kept]
    means = (2 * hits / size).mean(axis=1)
    bias = means.mean() - (2 * hits.mean(axis=0) / size.mean(axis=0)).mean()
    return wilson_of_draws(_averages(confusion)["f1_macro"], means, float(bias))


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
