"""The head solved exactly on features: logistic regression, multinomial or one for each label."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from imgkit import machine
from imgkit.errors import WeightsError
from imgkit.keys import key, splitmix64
from imgkit.logistic import Fit, FitEach
from imgkit.scaled import Floats, Ints, Scaled, finite_rows

MAX_BYTES = 4 * 2**30  # of float32 features
SAMPLE = 20_000  # images on which C is chosen, where there are more; its folds take most of the time
_SHARE = 0.5  # of the machine's memory that a solve may take
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C, from strong to weak regularisation
USUAL = 1e-2  # the C that won every time on solar cells; for data too small to choose by cross-validation
FOLDS = 5
TOLERANCE = 1e-4  # of the solve, on the gradient; scikit-learn's own
ROUGH = 1e-3  # of cross-validation: losses within 0.005 where neighbouring C differ by 0.03 or more
_ROUGH_TIME = 0.4  # share of the time of a fit at TOLERANCE


class HeldOut(NamedTuple):
    """What heads answered to images that they were not fitted to, each image once.

    Attributes:
        rows: of the features, int64 (n,), ascending.
        logits: float32 (n, K), at the chosen C.
    """

    rows: Ints
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Solution:
    """A solved head: logits = features @ weight.T + bias.

    Attributes:
        weight: float32 (K, D).
        bias: float32 (K,).
        c: the chosen inverse strength of the L2 penalty (scikit-learn's C).
        cv_loss: mean log-loss by cross-validation for each C tried; where the data are too few to be divided, the
            log-loss on the training images for the one C used, which after mini-batches is that of the last pass.
        converged: whether the last fit reached its tolerance within MAX_ITERATIONS; mini-batches have none.
        held_out: of the cross-validation, where it was asked for and there was one.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    c: float
    cv_loss: dict[float, float]
    converged: bool
    held_out: HeldOut | None = None


def solve_bytes(images: int, width: int, classes: int) -> int:
    """What `solve_head` takes at its peak: features in float32 and float64, and three float64 for each logit."""
    return images * (12 * width + 24 * classes)


def fits(images: int, width: int, classes: int, memory: int | None = None) -> bool:
    """Whether features (images, width) are few enough for `solve_head`.

    At most MAX_BYTES in float32, and the solve at most half of the machine's memory. Not of what is free of it: that
    changes from minute to minute, and a run that is killed and resumed has to take the same way again.

    Args:
        images: N.
        width: D.
        classes: K.
        memory: of the machine, in bytes; None: as `machine_memory` finds it.
    """
    room = machine_memory() if memory is None else memory
    return images * width * 4 <= MAX_BYTES and solve_bytes(images, width, classes) <= _SHARE * room


def machine_memory() -> int:
    """Bytes of memory of this machine; where the system does not say, enough for MAX_BYTES of features."""
    return machine.memory() or 6 * MAX_BYTES


def not_finite(bad: int, images: int) -> WeightsError:
    """The error for features that hold NaN or infinity."""
    return WeightsError(
        f"the network's features of {bad:,} of {images:,} images are not finite",
        "Use other weights (--weights), or check those of this network.",
    )


def solve_head(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    groups: Ints | None = None,
    weights: Floats | None = None,
    plain: int | None = None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    left: Callable[[float], None] | None = None,
    held_out: bool = False,
) -> Solution:
    """Logistic regression with an L2 penalty, on scaled features, as weights of a linear layer.

    Targets int64 (N,) ask for a multinomial one. With two classes the two rows are opposite. A class without images
    gets zero weights and a bias that makes it about as likely as one image in N + 1. Targets (N, K), zeros and ones,
    ask for one regression a label, all of the same C. A label that all images have, or none, gets zero weights and a
    bias that makes the other answer as likely as one image in N + 1.

    C is the one of STRENGTHS with the smallest log-loss in 5-fold cross-validation (over labels the mean one), the
    smaller one if equal. Of more than SAMPLE images it is chosen on a keyed draw of them, in whole groups. The
    scaling is folded into the weights.

    Args:
        features: float32 (N, D), N >= 1; `fits` said yes.
        targets: int64 (N,), each in 0..classes - 1; or float32 (N, K).
        classes: K, rows of the head.
        groups: int64 (N,); images of one group are in the same fold.
        weights: float64 (N,), how much each image counts in all losses; None: once.
        plain: the first so many rows are pictures as evaluation sees them and judge C; the others, augmented, are
            fitted alone: their loss would ask for a stronger penalty than new pictures do. None: all are plain.
        seed: of the folds.
        progress: called with (done, total) before each fit; it may raise, to stop.
        left: called once, after the fits of the first fold, with about how many seconds the others will take.
        held_out: also return what the heads of the cross-validation answered.

    Raises:
        WeightsError: if the features are not finite.
    """
    from threadpoolctl import threadpool_limits

    y: Ints = targets.numpy().astype(np.int64)
    assert np.isin(y, np.arange(classes)).all() or y.ndim == 2, "every image has a known label"
    bad = len(y) - finite_rows(features)
    if bad:
        raise not_finite(bad, len(y))
    # One thread: the same bits whatever the number of cores, and many times faster where the cores are busy.
    with threadpool_limits(1, user_api="blas"):
        sample = _sample(len(y), groups, seed)
        fold = np.full(len(y), -1, dtype=np.int64)
        fold[sample] = fold_numbers(y[sample], None if groups is None else groups[sample], seed)
        told = _Told(progress or (lambda done, total: None), left or (lambda seconds: None))
        judges = (fold >= 0) & (np.arange(len(y)) < (len(y) if plain is None else plain))
        return _solve(features.numpy(), y, weights, classes, fold, judges, told, held_out=held_out)


def _sample(images: int, groups: Ints | None, seed: int) -> Ints:
    """Rows (n,), in order: all, or keyed groups drawn until they hold SAMPLE images."""
    rows = np.arange(images)
    if images <= SAMPLE:
        return rows
    names, unit, sizes = np.unique(rows if groups is None else groups, return_inverse=True, return_counts=True)
    hashed = splitmix64(names.astype(np.uint64) + np.uint64(key(seed, "sample")))
    drawn = np.argsort(hashed, kind="stable")
    kept = np.zeros(len(names), dtype=np.bool_)
    kept[drawn[: 1 + np.searchsorted(sizes[drawn].cumsum(), SAMPLE)]] = True
    return rows[kept[unit]]


class _Told(NamedTuple):
    """Who hears of a solve: `progress` before each fit, `left` once with the seconds that are still to come."""

    progress: Callable[[int, int], None]
    left: Callable[[float], None]


def fold_numbers(targets: Ints, groups: Ints | None, seed: int) -> Ints:
    """The fold of each image: int64 (N,), keyed, stratified, whole groups.

    A group counts as its most frequent class, or set of labels where targets are (N, K), zeros and ones. Groups are
    dealt out class by class, the largest first and equal ones in keyed order. There are FOLDS folds, or as many as the
    rarest class has groups (of labels that divide the images: as groups have the label, or lack it), at least two; all
    images are in fold 0 where they cannot be divided: one group, one class, or no such label.
    """
    names, unit = np.unique(np.arange(len(targets)) if groups is None else groups, return_inverse=True)
    kinds = targets if targets.ndim == 1 else np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    n, k = len(names), int(kinds.max()) + 1
    pairs, counts = np.unique(unit * k + kinds, return_counts=True)  # sorted by group, then class
    first = np.lexsort((pairs % k, -counts, pairs // k))  # in each group, the most frequent class comes first
    firsts = first[np.unique((pairs // k)[first], return_index=True)[1]]
    label = (pairs % k)[firsts]
    rarest = _rarest(targets, unit) if targets.ndim == 2 else _least(np.bincount(label))
    folds = min(FOLDS, n, max(2, rarest))
    if folds < 2 or len(np.unique(targets, axis=0)) < 2:
        return np.zeros(len(targets), dtype=np.int64)
    hashed = splitmix64(names.astype(np.uint64) + np.uint64(key(seed, "folds")))
    dealt = np.lexsort((hashed, -np.bincount(unit), label))
    fold = np.empty(n, dtype=np.int64)
    fold[dealt] = np.arange(n) % folds
    return fold[unit]


def _rarest(targets: Ints, unit: Ints) -> int:
    """The fewest groups that have a label, or lack it, over labels that some image has and some lacks; else 0."""
    divides = targets.any(axis=0) & ~targets.all(axis=0)
    groups = np.zeros((int(unit.max()) + 1, 2, targets.shape[1]), dtype=np.bool_)
    for answer in (0, 1):
        np.logical_or.at(groups[:, answer], unit, targets == answer)
    return int(groups.sum(axis=0)[:, divides].min(initial=len(groups))) if divides.any() else 0


def _least(counts: Ints) -> int:
    return int(counts[counts > 0].min())


def log_loss(logits: Floats, targets: Ints, weights: Floats | None = None) -> float:
    """Mean of -log softmax(logits)[target], each image counted by its weight; logits float64 (N, K).

    With targets (N, K), zeros and ones: the mean binary cross-entropy over labels.
    """
    from scipy.special import logsumexp

    if targets.ndim == 2:
        losses = (np.logaddexp(0.0, logits) - logits * targets).mean(axis=1)
    else:
        losses = logsumexp(logits, axis=1) - logits[np.arange(len(targets)), targets]
    return float(np.average(losses, weights=weights))


def _solve(
    features: npt.NDArray[np.float32],
    y: Ints,
    weights: Floats | None,
    classes: int,
    fold: Ints,
    judges: npt.NDArray[np.bool_],
    told: _Told,
    *,
    held_out: bool,
) -> Solution:
    """`solve_head` with the fold of each image, int64 (N,), -1 of one on which C is not chosen, and who judges it."""
    taken = Scaled.of(features)
    folds = int(fold.max()) + 1 if (fold > 0).any() else 0
    fits_each = classes if y.ndim == 2 else 1
    total = fits_each * (1 + len(STRENGTHS) * folds)
    done = iter(range(total))

    def make(tolerance: float) -> Fit:
        kind = FitEach if y.ndim == 2 else Fit
        return kind(classes, tolerance, lambda: told.progress(next(done), total))

    answers = {c: np.empty((len(y), classes), np.float32) for c in STRENGTHS} if held_out else None
    cv_loss = _cross_validate(taken, y, weights, fold, folds, judges, make, told.left, answers)
    c = min(cv_loss, key=lambda c: (cv_loss[c], c)) if cv_loss else USUAL
    fit, x = make(TOLERANCE), taken.rows()
    weight, bias = fit(x, y, weights, c)
    loss = cv_loss or {c: log_loss(x @ weight.T + bias, y, weights)}
    weight = taken.back(weight) * taken.scale
    return Solution(
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy((bias - weight @ taken.mean).astype(np.float32)),
        c,
        loss,
        fit.converged,
        HeldOut(np.flatnonzero(judges), answers[c][judges]) if answers and cv_loss else None,
    )


def _cross_validate(
    taken: Scaled,
    y: Ints,
    weights: Floats | None,
    fold: Ints,
    folds: int,
    judges: npt.NDArray[np.bool_],
    make: Callable[[float], Fit],
    left: Callable[[float], None],
    answers: dict[float, npt.NDArray[np.float32]] | None,
) -> dict[float, float]:
    """Log-loss over all images that judge for each C, nothing where there is one fold; fills in `answers` (N, K)."""
    counted = np.ones(len(y)) if weights is None else weights
    sums, began = dict.fromkeys(STRENGTHS, 0.0), time.monotonic()
    for number in range(folds):
        out, into = np.flatnonzero((fold == number) & judges), np.flatnonzero((fold != number) & (fold >= 0))
        for c, logits in _held_out(taken, y, weights, into, out, make(ROUGH)):
            sums[c] += log_loss(logits, y[out], counted[out]) * counted[out].sum()
            if answers is not None:
                answers[c][out] = logits
        if number == 0:
            seconds = time.monotonic() - began
            last = seconds / len(STRENGTHS) / _ROUGH_TIME * len(y) / len(into)  # the fit to all images
            left((folds - 1) * seconds + last)
    return {c: total / counted[judges].sum() for c, total in sums.items()} if folds else {}


def _held_out(
    taken: Scaled, y: Ints, weights: Floats | None, into: Ints, out: Ints, fit: Fit
) -> Iterator[tuple[float, Floats]]:
    """Logits (n, K) of the rows `out` for each C, fitted to the rows `into`; their float64 copies end with the last."""
    inside, outside = taken.rows(into), taken.rows(out)
    counted = None if weights is None else weights[into]
    for c in STRENGTHS:
        weight, bias = fit(inside, y[into], counted, c)
        yield c, outside @ weight.T + bias
