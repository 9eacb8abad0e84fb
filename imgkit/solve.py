"""The head solved exactly on features: logistic regression, multinomial or one for each label."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from imgkit.errors import WeightsError
from imgkit.keys import key, splitmix64

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_BYTES = 4 * 2**30  # of float32 features
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C, from strong to weak regularisation
USUAL = 1e-2  # the C that won every time on solar cells; for data too small to choose by cross-validation
FOLDS = 5
MAX_ITERATIONS = 1000
TOLERANCE = 1e-4  # of the solve, on the gradient; scikit-learn's own
ROUGH = 1e-3  # of cross-validation: 0.4 of the time, losses within 0.005 where neighbouring C differ by 0.03 or more


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
    """

    weight: torch.Tensor
    bias: torch.Tensor
    c: float
    cv_loss: dict[float, float]
    converged: bool


def fits(images: int, width: int) -> bool:
    """Whether features (images, width) are few enough for `solve_head`: at most MAX_BYTES in float32."""
    return images * width * 4 <= MAX_BYTES


def finite_rows(features: torch.Tensor) -> int:
    """How many rows of features (N, D) are finite."""
    return int(torch.isfinite(features).all(dim=1).sum())


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
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """Logistic regression with an L2 penalty, on standardised features, as weights of a linear layer.

    Targets int64 (N,) ask for a multinomial one. With two classes the two rows are opposite. A class without images
    gets zero weights and a bias that makes it about as likely as one image in N + 1. Targets (N, K), zeros and ones,
    ask for one regression a label, all of the same C. A label that all images have, or none, gets zero weights and a
    bias that makes the other answer as likely as one image in N + 1.

    C is the one of STRENGTHS with the smallest log-loss in 5-fold cross-validation (over labels the mean one), the
    smaller one if equal. The standardisation is folded into the weights.

    Args:
        features: float32 (N, D), N >= 1; `fits` said yes.
        targets: int64 (N,), each in 0..classes - 1; or float32 (N, K).
        classes: K, rows of the head.
        groups: int64 (N,); images of one group are in the same fold.
        weights: float64 (N,), how much each image counts in all losses; None: once.
        seed: of the folds.
        progress: called with (done, total) before each fit; it may raise, to stop.

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
        fold, told = fold_numbers(y, groups, seed), progress or (lambda done, total: None)
        return _solve(features.numpy(), y, weights, classes, fold, told)


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


def inverse_spread(std: Floats, largest: Floats) -> Floats:
    """1 / standard deviation of each feature (D,); 0 for one that varies by no more than the rounding of float32."""
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * largest)


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
    progress: Callable[[int, int], None],
) -> Solution:
    x, mean, scale = _standardised(features)
    x, back = _narrowed(x)
    fits_each = classes if y.ndim == 2 else 1
    total = fits_each * (1 + (len(STRENGTHS) * (int(fold.max()) + 1) if fold.any() else 0))
    done = iter(range(total))

    def make(tolerance: float) -> "_Fit":
        kind = _FitEach if y.ndim == 2 else _Fit
        return kind(classes, tolerance, lambda: progress(next(done), total))

    cv_loss = _cross_validate(x, y, weights, fold, make)
    c = min(cv_loss, key=lambda c: (cv_loss[c], c)) if cv_loss else USUAL
    fit = make(TOLERANCE)
    weight, bias = fit(x, y, weights, c)
    loss = cv_loss or {c: log_loss(x @ weight.T + bias, y, weights)}
    weight = (weight if back is None else weight @ back.T) * scale
    return Solution(
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy((bias - weight @ mean).astype(np.float32)),
        c,
        loss,
        fit.converged,
    )


class _Fit:
    """Fits of a multinomial regression one after another, each starting from the one before; `begin` before each."""

    def __init__(self, classes: int, tolerance: float, begin: Callable[[], None]) -> None:
        self.classes, self.tolerance, self.begin, self.converged = classes, tolerance, begin, True
        self._models: dict[int, Any] = {}

    def __call__(self, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) on x (N, D) and y (N,), each image counted by weights (N,)."""
        weight, bias = np.zeros((self.classes, x.shape[1])), np.zeros(self.classes)
        present = np.unique(y)
        self.converged = True
        self.begin()
        if len(present) > 1:
            rows, shifts = self._regress(0, x, y, weights, c)
            if len(present) == 2:  # scikit-learn has one row: the difference of the two
                rows, shifts = np.concatenate([-rows, rows]) / 2, np.concatenate([-shifts, shifts]) / 2
            weight[present], bias[present] = rows, shifts
        if len(present) < self.classes:
            from scipy.special import logsumexp

            absent = np.setdiff1d(np.arange(self.classes), present)
            level = logsumexp(x @ weight[present].T + bias[present], axis=1).mean()
            bias[absent] = level - np.log(len(y) + 1)
        return weight, bias

    def _regress(self, number: int, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        """Rows and shifts of scikit-learn's regression; `number` says which one it starts from."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        made = LogisticRegression(tol=self.tolerance, max_iter=MAX_ITERATIONS, warm_start=True)
        model = self._models.setdefault(number, made).set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported in Solution.converged
            model.fit(x, y, sample_weight=weights)
        self.converged = self.converged and bool(model.n_iter_.max() < MAX_ITERATIONS)
        return model.coef_, model.intercept_


class _FitEach(_Fit):
    """The same with one regression a label: y is (N, K), zeros and ones."""

    def __call__(self, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        weight, bias = np.zeros((self.classes, x.shape[1])), np.zeros(self.classes)
        self.converged = True
        for k in range(self.classes):
            self.begin()
            if y[:, k].min() < y[:, k].max():
                rows, shifts = self._regress(k, x, y[:, k], weights, c)
                weight[k], bias[k] = rows[0], shifts[0]
            else:  # a prior of 1 in N + 1, or of N in N + 1
                bias[k] = np.log(len(y)) * (1 if y[0, k] else -1)
        return weight, bias


def _cross_validate(
    x: Floats, y: Ints, weights: Floats | None, fold: Ints, make: Callable[[float], _Fit]
) -> dict[float, float]:
    """Log-loss over all held-out images for each C; nothing where there is one fold."""
    if not fold.any():
        return {}
    counted = np.ones(len(y)) if weights is None else weights
    sums = dict.fromkeys(STRENGTHS, 0.0)
    for number in range(int(fold.max()) + 1):
        out = fold == number
        inside, outside, fit = x[~out], x[out], make(ROUGH)
        for c in STRENGTHS:
            weight, bias = fit(inside, y[~out], None if weights is None else weights[~out], c)
            sums[c] += log_loss(outside @ weight.T + bias, y[out], counted[out]) * counted[out].sum()
    return {c: total / counted.sum() for c, total in sums.items()}


def _standardised(features: npt.NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    """(x - mean) * scale in float64, with mean (D,) and scale (D,); a column that does not vary becomes zeros."""
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    scale = inverse_spread(x.std(axis=0), np.abs(x).max(axis=0))
    x -= mean
    x *= scale
    return x, mean, scale


def _narrowed(x: Floats) -> tuple[Floats, Floats | None]:
    """With fewer images than features: x (N, D) -> coordinates (N, N) and the basis (D, N) they are in.

    The penalised optimum lies in the span of the images, and a rotation keeps the penalty: nothing is lost.
    """
    if x.shape[0] >= x.shape[1]:
        return x, None
    basis, coordinates = np.linalg.qr(x.T)  # x.T = basis @ coordinates
    return np.ascontiguousarray(coordinates.T), basis
