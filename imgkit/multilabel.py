"""Metrics of a scored split whose images have sets of labels, which may be empty: what metrics.json says of it.

Average precision, precision, recall, F1 and the share of wrong labels are scikit-learn's; averages are over the labels
that have support in the split, with `zero_division=0`. A label is answered where its probability is at least its
threshold. All shares are fractions in [0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.metrics import DRAWS, FEWEST, Shares, check_finite, check_labelled, shares, wilson, wilson_of_draws
from imgkit.probabilities import Floats, calibration_error

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

USUAL_THRESHOLD = 0.5
NEAREST = 1e-12  # of a probability to 0 or 1, in the loss: as near as predictions.csv tells
_CELLS = 20_000_000  # redrawn labels that the interval of mAP may cost: about a second
_FEWEST_DRAWS = 100  # of mAP
_BLOCK = 4_000_000  # redrawn images at once


class ScoredSets(NamedTuple):
    """What the metrics need of each image, all (N, K)."""

    targets: Bools  # whether the image has the label
    predicted: Bools  # whether the label is answered
    probs: Floats  # of each label, in [0, 1]


def log_loss(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """Mean binary cross-entropy of logits (N, K) against zeros and ones (N, K)."""
    return float((np.maximum(logits, 0.0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))).mean())


def score_sets(probs: Floats, targets: npt.NDArray[Any], thresholds: Floats | None = None) -> ScoredSets:
    """Answers of probs (N, K) for targets (N, K), zeros and ones, at thresholds (K,); None: 0.5 for each.

    Raises:
        DataError: if there is no image.
        DivergedError: if a probability is not finite.
    """
    check_labelled(len(probs), 0)
    check_finite(probs)
    least = np.full(probs.shape[1], USUAL_THRESHOLD) if thresholds is None else thresholds
    return ScoredSets(targets.astype(np.bool_), probs >= least, probs)


def summarise_multilabel(
    probs: Floats,
    targets: npt.NDArray[Any],
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics of probs (N, K) against targets (N, K), zeros and ones, ready for JSON.

    `loss` is the mean binary cross-entropy over all labels, probabilities no nearer than NEAREST to 0 or 1; `map` the
    mean average precision; `hamming` the share of wrong labels; `samples` averages are over images, 0 for one without
    label and answer. `cardinality` is the mean number of labels, `empty` the share of images without one. Averages
    over labels are 0 where no label has support. `chance` is what guessing gives (see `chance_of`). `ece` and `brier`
    are over all N x K probabilities. `intervals` hold 95 %: Wilson's (1927) for `subset_accuracy`; for `f1_macro` and
    `map` those of `bootstrap_sets`, or None where that says nothing.

    Raises:
        DataError: if there is no image.
        DivergedError: if a probability is not finite.
    """
    least = None if thresholds is None else np.array([thresholds[name] for name in classes])
    return summarise_sets(score_sets(probs, targets, least), classes, draws=draws, seed=seed)


def summarise_sets(scored: ScoredSets, classes: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """`summarise_multilabel` of images that are scored already."""
    n = len(scored.targets)
    support = scored.targets.sum(axis=0)
    exact = int((scored.targets == scored.predicted).all(axis=1).sum())
    intervals = bootstrap_sets(scored, draws=draws, seed=seed)
    return {
        "n": n,
        "classes": len(classes),
        "classes_with_support": int((support > 0).sum()),
        "classes_without_support": [name for name, count in zip(classes, support, strict=True) if count == 0],
        "cardinality": float(scored.targets.sum(axis=1).mean()),
        "empty": float((~scored.targets.any(axis=1)).mean()),
        **reliability(scored),
        "map": mean_average_precision(scored),
        "subset_accuracy": exact / n,
        "hamming": float((scored.targets != scored.predicted).mean()),
        **_averages(scored),
        "chance": chance_of(scored.targets, classes),
        "intervals": {"subset_accuracy": list(wilson(exact, n)), **intervals},
        "bootstrap": {"draws": draws, "map_draws": map_draws(scored.targets, draws), "seed": seed},
    }


def reliability(scored: ScoredSets) -> dict[str, float]:
    """`loss`, `ece` and `brier` over all N x K probabilities."""
    near = np.clip(scored.probs, NEAREST, 1.0 - NEAREST)
    loss = -np.log(np.where(scored.targets, near, 1.0 - near))
    return {
        "loss": float(loss.mean()),
        "ece": calibration_error(scored.probs.ravel(), scored.targets.ravel()),
        "brier": float(np.square(scored.probs - scored.targets).mean()),
    }


def chance_of(targets: Bools, classes: Sequence[str]) -> dict[str, Any]:
    """What guessing gives, by the metric that it is to be compared with.

    `subset_accuracy` is that of always answering the most frequent set of labels, `set` (the first in the order of
    zeros and ones, if equal); `hamming` that of the more frequent answer to each label; `map` that of equal scores, the
    mean share of images with the label; `f1_macro` that of answering every label of every image.
    """
    sets, counts = np.unique(targets, axis=0, return_counts=True)
    most = int(counts.argmax())
    share = targets.mean(axis=0)
    kept = share[share > 0]
    return {
        "set": [name for name, one in zip(classes, sets[most], strict=True) if one],
        "subset_accuracy": int(counts[most]) / len(targets),
        "hamming": float(np.minimum(share, 1.0 - share).mean()),
        "map": float(kept.mean()) if len(kept) else 0.0,
        "f1_macro": float((2 * kept / (1 + kept)).mean()) if len(kept) else 0.0,
    }


def per_label(
    scored: ScoredSets, classes: Sequence[str], thresholds: Mapping[str, float] | None
) -> list[dict[str, str | int | float]]:
    """One row a label; average precision `ap` is 0 without support, a share with denominator 0 is 0."""
    found = _per_label_shares(scored)
    support, predicted = scored.targets.sum(axis=0), scored.predicted.sum(axis=0)
    return [
        {
            "class": name,
            "support": int(support[k]),
            "predicted": int(predicted[k]),
            "ap": average_precision(scored.probs[:, k], scored.targets[:, k]) if support[k] else 0.0,
            "precision": float(found.precision[k]),
            "recall": float(found.recall[k]),
            "f1": float(found.f1[k]),
            "threshold": USUAL_THRESHOLD if thresholds is None else thresholds[name],
        }
        for k, name in enumerate(classes)
    ]


def mean_average_precision(scored: ScoredSets) -> float:
    """Mean average precision over the labels with support; 0 where there is none."""
    kept = np.flatnonzero(scored.targets.any(axis=0))
    found = [average_precision(scored.probs[:, k], scored.targets[:, k]) for k in kept]
    return float(np.mean(found)) if found else 0.0


def average_precision(probs: Floats, present: Bools) -> float:
    """Average precision of one label with support, probs (N,) against present (N,): precision over recall gained."""
    return float(_average_precisions(probs, present, np.ones((1, len(probs)), dtype=np.int64))[0])


def map_draws(targets: Bools, draws: int) -> int:
    """How many of `draws` redraws the interval of mAP is made from: fewer for many images and labels."""
    return min(draws, max(_FEWEST_DRAWS, _CELLS // max(1, targets.size)))


def bootstrap_sets(scored: ScoredSets, *, draws: int = DRAWS, seed: int = 0) -> dict[str, list[float] | None]:
    """Intervals, 95 %, of `f1_macro` and `map`: Wilson's, with the deviation of a bootstrap over images.

    With `rng = numpy.random.default_rng(seed)`, each draw is `rng.integers(0, n, size=n)`: the images that it measures,
    over the labels that have support in the split; one without support in the draw keeps its value. mAP takes the first
    `map_draws`. The ends are `metrics.wilson_of_draws`, with the mean of the draws less the value as bias. Percentiles
    of draws hold the truth too seldom: these see n - 1 of n images with a label, and of a label without mistakes
    nothing. `unseen` is therefore what one image more of each of K labels would vary by if it were right by chance q =
    (sum of the labels' values + 1/2) / (K + 1): q * (1 - q) * sum(w**2) / K**2, where it moves a label's value by at
    most w = 2 / (images that have it + answers), that of its average precision by 1 / images that have it.

    None below FEWEST images, where no label has support, where every draw is the same, and of a value of 0 or 1.
    """
    n, kept = len(scored.targets), scored.targets.any(axis=0)
    if n < FEWEST or not kept.any():
        return {"f1_macro": None, "map": None}
    told = ScoredSets(scored.targets[:, kept], scored.predicted[:, kept], scored.probs[:, kept])
    f1, ap = (measure(told, np.ones((1, n), dtype=np.int64)) for measure in (_f1_of, _ap_of))
    f1_means, ap_means = np.empty(draws), np.empty(map_draws(scored.targets, draws))
    for start, times in redraws(n, draws, seed):
        f1_means[start : start + len(times)] = _means(_f1_of(told, times), f1)
        rest = times[: max(0, len(ap_means) - start)]
        ap_means[start : start + len(rest)] = _means(_ap_of(told, rest), ap)
    support, predicted = told.targets.sum(axis=0), told.predicted.sum(axis=0)
    return {
        "f1_macro": _interval(f1[0], f1_means, 2 / (support + predicted)),
        "map": _interval(ap[0], ap_means, 1 / support),
    }


def redraws(n: int, draws: int, seed: int) -> Iterator[tuple[int, Counts]]:
    """How often each of n images is in each draw of n with replacement, in blocks: the first draw, times (block, n)."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield start, np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)


def _interval(values: Floats, means: Floats, most: Floats) -> list[float] | None:
    """Of the mean of values (K,), from its redraws (draws,) and by how much an image more moves a value, (K,)."""
    value, likely = float(values.mean()), float((values.sum() + 0.5) / (len(values) + 1))
    unseen = likely * (1 - likely) * float(np.square(most).sum()) / len(values) ** 2
    ends = wilson_of_draws(value, means, float(means.mean()) - value if len(means) else 0.0, unseen)
    return None if ends is None else list(ends)


def _means(drawn: Floats, values: Floats) -> Floats:
    """Means (draws,) of the numbers of each row of drawn (draws, K), those of values (1, K) in place of NaN."""
    means: Floats = np.where(np.isnan(drawn), values, drawn).mean(axis=1)
    return means


def _f1_of(scored: ScoredSets, times: Counts) -> Floats:
    """F1 (draws, K) of images counted `times` (draws, N); NaN where a label has no support."""
    weights = times.astype(np.float64)
    hits, support, predicted = (
        weights @ part.astype(np.float64)  # (draws, N) @ (N, K), whole numbers
        for part in (scored.targets & scored.predicted, scored.targets, scored.predicted)
    )
    return np.divide(2 * hits, support + predicted, out=np.full_like(hits, np.nan), where=support > 0)


def _ap_of(scored: ScoredSets, times: Counts) -> Floats:
    """Average precision (draws, K) of images counted `times` (draws, N); NaN where a label has no support."""
    each = zip(scored.probs.T, scored.targets.T, strict=True)
    return np.stack([_average_precisions(probs, present, times) for probs, present in each], axis=1)


def _average_precisions(probs: Floats, present: Bools, times: Counts) -> Floats:
    """Average precision (draws,) of one label where image i counts times[draw, i]; NaN without support in a draw."""
    order = np.argsort(-probs, kind="stable")
    last = np.append(np.diff(probs[order]) != 0, True)  # of equal probabilities: they are answered together
    sorted_times = times[:, order]
    answered = sorted_times.cumsum(axis=1)[:, last]
    hits = (sorted_times * present[order]).cumsum(axis=1)[:, last]
    precision = np.divide(hits, answered, out=np.zeros(hits.shape), where=answered > 0)
    gained = np.diff(hits, axis=1, prepend=0)
    total = hits[:, -1]
    sums = (gained * precision).sum(axis=1)
    found: Floats = np.divide(sums, total, out=np.full(len(times), np.nan), where=total > 0)
    return found


def _per_label_shares(scored: ScoredSets) -> Shares:
    both = scored.targets & scored.predicted
    return shares(*(part.sum(axis=0) for part in (both, scored.targets, scored.predicted)))


def _averages(scored: ScoredSets) -> dict[str, float]:
    """Precision, recall and F1 over labels (macro, weighted), over all answers (micro) and over images (samples)."""
    kept = scored.targets.any(axis=0)
    targets, predicted = scored.targets[:, kept], scored.predicted[:, kept]
    parts = (targets & predicted, targets, predicted)
    by_label = shares(*(part.sum(axis=0) for part in parts))
    by_image = shares(*(part.sum(axis=1) for part in parts))
    pooled = shares(*(np.array([part.sum()]) for part in parts))
    support = targets.sum(axis=0)
    found = {}
    for name in Shares._fields:
        values = getattr(by_label, name)
        found[f"{name}_macro"] = float(values.mean()) if kept.any() else 0.0
        found[f"{name}_micro"] = float(getattr(pooled, name)[0])
        found[f"{name}_weighted"] = float(np.average(values, weights=support)) if kept.any() else 0.0
        found[f"{name}_samples"] = float(getattr(by_image, name).mean())
    return found
