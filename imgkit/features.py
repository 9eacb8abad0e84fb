"""The trunk as a fixed function: features computed once, and the head solved on them exactly."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import UsageError, WeightsError
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
BY_SGD = (
    "Train the head by gradients (here where its phase is called head):\n"
    "--set phases.head.solver=sgd --set phases.head.lr=1e-3 --set phases.head.epochs=2"
)


class Features(NamedTuple):
    """What the head sees of N images."""

    values: torch.Tensor  # float32 (N, D)
    targets: torch.Tensor  # int64 (N,)
    ids: torch.Tensor  # int64 (N,), rows of the index


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


def extract(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    total: int = 0,
) -> Iterator[Features]:
    """The pooled features that the head layer sees, batch by batch; the whole model is left in evaluation mode.

    Args:
        model: a timm model.
        batches: the images.
        preprocessing: normalises them.
        device: where the model is.
        progress: called with (done, total) after each batch.
        total: number of images, for `progress`.

    Raises:
        UsageError: if the model has no single linear head.
    """
    head_layer(model)
    model.eval()
    done = 0
    for batch in batches:
        with torch.inference_mode():
            images = preprocessing.normalise(batch.images.to(device, non_blocking=True))
            values = pooled(model, images).float().cpu()  # device sync
        done += len(batch.ids)
        if progress is not None:
            progress(done, total)
        yield Features(values, batch.targets, batch.ids)


def together(chunks: Iterable[Features]) -> Features:
    """Features that came batch by batch (at least one batch) as one."""
    values, targets, ids = zip(*chunks, strict=True)
    return Features(torch.cat(values), torch.cat(targets), torch.cat(ids))


def pooled(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Normalised images (B, 3, H, W) -> what the head layer multiplies, (B, D)."""
    trunk: Any = model
    found: torch.Tensor = trunk.forward_head(trunk.forward_features(images), pre_logits=True)
    return found.flatten(1)  # (B, D, 1, 1) -> (B, D) where the head is a convolution


def head_layer(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last layer: a linear one, or a 1 x 1 convolution that amounts to one.

    Raises:
        UsageError: if the model has another kind of head, several heads, or none.
    """
    timm_like: Any = model
    known = hasattr(model, "get_classifier") and hasattr(model, "forward_head")
    head = timm_like.get_classifier() if known else None
    if isinstance(head, nn.Linear):
        return head
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        return head
    kind = "no head of its own" if head is None or isinstance(head, nn.Identity) else f"a head of {type(head).__name__}"
    raise UsageError(f"{type(model).__name__} has {kind}; only a single linear head can be solved", BY_SGD)


def check_solvable(model: nn.Module, images: torch.Tensor) -> None:
    """See that `load_solution` would make the network answer what was solved. It is left in evaluation mode.

    Some networks answer with more than their head: VOLO adds half of what a second one says.

    Args:
        model: a timm model.
        images: normalised, (B, 3, H, W), on its device; random ones will do.

    Raises:
        UsageError: as `head_layer`, and if the head has no bias or the network adds to what it answers.
    """
    head = head_layer(model)
    if head.bias is None:
        raise UsageError(f"the head of {type(model).__name__} has no bias; it cannot be solved", BY_SGD)
    model.eval()
    with torch.inference_mode():
        answer = model(images)
        weight = head.weight.flatten(1)  # a convolution's (K, D, 1, 1) -> (K, D)
        expected = pooled(model, images) @ weight.T + head.bias
    if not torch.allclose(answer, expected, rtol=1e-2, atol=1e-2 * float(answer.abs().max())):
        raise UsageError(f"{type(model).__name__} adds to what its head answers; it cannot be solved", BY_SGD)


def load_solution(model: nn.Module, solution: Solution) -> None:
    """Copy a solved head into the model, in place; `check_solvable` had nothing against it."""
    head = head_layer(model)
    assert head.bias is not None
    with torch.no_grad():
        head.weight.copy_(solution.weight.view_as(head.weight))
        head.bias.copy_(solution.bias)


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
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """Multinomial logistic regression with an L2 penalty, on standardised features, as weights of a linear layer.

    C is the one of STRENGTHS with the smallest log-loss in 5-fold cross-validation, the smaller one if equal. The
    standardisation is folded into the weights. With two classes the two rows are opposite. A class without images gets
    zero weights and a bias that makes it about as likely as one image in N + 1.

    Args:
        features: float32 (N, D), N >= 1; `fits` said yes.
        targets: int64 (N,), each in 0..classes - 1.
        classes: K, rows of the head.
        groups: int64 (N,); images of one group are in the same fold.
        seed: of the folds.
        progress: called with (done, total) before each fit; it may raise, to stop.

    Raises:
        WeightsError: if the features are not finite.
    """
    from threadpoolctl import threadpool_limits

    y: Ints = targets.numpy()
    assert np.isin(y, np.arange(classes)).all(), "every image has a known label"
    bad = len(y) - finite_rows(features)
    if bad:
        raise not_finite(bad, len(y))
    # One thread: the same bits whatever the number of cores, and many times faster where the cores are busy.
    with threadpool_limits(1, user_api="blas"):
        return _solve(
            features.numpy(), y, classes, fold_numbers(y, groups, seed), progress or (lambda done, total: None)
        )


def fold_numbers(targets: Ints, groups: Ints | None, seed: int) -> Ints:
    """The fold of each image: int64 (N,), keyed, stratified, whole groups.

    A group counts as its most frequent class. Groups are dealt out class by class, the largest first and equal ones
    in keyed order. There are FOLDS folds, or as many as the rarest class has groups, at least two; all images are in
    fold 0 where they cannot be divided: one group or one class.
    """
    names, unit = np.unique(np.arange(len(targets)) if groups is None else groups, return_inverse=True)
    n, k = len(names), int(targets.max()) + 1
    pairs, counts = np.unique(unit * k + targets, return_counts=True)  # sorted by group, then class
    first = np.lexsort((pairs % k, -counts, pairs // k))  # in each group, the most frequent class comes first
    firsts = first[np.unique((pairs // k)[first], return_index=True)[1]]
    label = (pairs % k)[firsts]
    members = np.bincount(label)
    folds = min(FOLDS, n, max(2, int(members[members > 0].min())))
    if folds < 2 or len(np.unique(targets)) < 2:
        return np.zeros(len(targets), dtype=np.int64)
    hashed = splitmix64(names.astype(np.uint64) + np.uint64(key(seed, "folds")))
    dealt = np.lexsort((hashed, -np.bincount(unit), label))
    fold = np.empty(n, dtype=np.int64)
    fold[dealt] = np.arange(n) % folds
    return fold[unit]


def inverse_spread(std: Floats, largest: Floats) -> Floats:
    """1 / standard deviation of each feature (D,); 0 for one that varies by no more than the rounding of float32."""
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * largest)


def log_loss(logits: Floats, targets: Ints) -> float:
    """Mean of -log softmax(logits)[target]; logits float64 (N, K)."""
    from scipy.special import logsumexp

    return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(targets)), targets]))


def _solve(
    features: npt.NDArray[np.float32], y: Ints, classes: int, fold: Ints, progress: Callable[[int, int], None]
) -> Solution:
    x, mean, scale = _standardised(features)
    x, back = _narrowed(x)
    total = 1 + (len(STRENGTHS) * (int(fold.max()) + 1) if fold.any() else 0)
    done = iter(range(total))

    def begin() -> None:
        progress(next(done), total)

    cv_loss = _cross_validate(x, y, classes, fold, begin)
    c = min(cv_loss, key=lambda c: (cv_loss[c], c)) if cv_loss else USUAL
    fit = _Fit(c, TOLERANCE)
    begin()
    weight, bias = fit(x, y, classes)
    loss = cv_loss or {c: log_loss(x @ weight.T + bias, y)}
    weight = (weight if back is None else weight @ back.T) * scale
    return Solution(
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy((bias - weight @ mean).astype(np.float32)),
        c,
        loss,
        fit.converged,
    )


class _Fit:
    """Fits one after another, each starting from the one before."""

    def __init__(self, c: float, tolerance: float) -> None:
        from sklearn.linear_model import LogisticRegression

        self.model = LogisticRegression(C=c, tol=tolerance, max_iter=MAX_ITERATIONS, warm_start=True)
        self.converged = True

    def __call__(self, x: Floats, y: Ints, classes: int) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) on x (N, D)."""
        from sklearn.exceptions import ConvergenceWarning

        weight, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
        present = np.unique(y)
        if len(present) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # reported in Solution.converged
                self.model.fit(x, y)
            self.converged = bool(self.model.n_iter_.max() < MAX_ITERATIONS)
            rows, shifts = self.model.coef_, self.model.intercept_
            if len(present) == 2:  # scikit-learn has one row: the difference of the two
                rows, shifts = np.concatenate([-rows, rows]) / 2, np.concatenate([-shifts, shifts]) / 2
            weight[present], bias[present] = rows, shifts
        if len(present) < classes:
            from scipy.special import logsumexp

            absent = np.setdiff1d(np.arange(classes), present)
            level = logsumexp(x @ weight[present].T + bias[present], axis=1).mean()
            bias[absent] = level - np.log(len(y) + 1)
        return weight, bias


def _cross_validate(x: Floats, y: Ints, classes: int, fold: Ints, begin: Callable[[], None]) -> dict[float, float]:
    """Log-loss over all held-out images for each C; nothing where there is one fold. Calls `begin` before each fit."""
    if not fold.any():
        return {}
    sums = dict.fromkeys(STRENGTHS, 0.0)
    for number in range(int(fold.max()) + 1):
        out = fold == number
        inside, outside = x[~out], x[out]
        fit = _Fit(STRENGTHS[0], ROUGH)
        for c in STRENGTHS:
            begin()
            fit.model.set_params(C=c)
            weight, bias = fit(inside, y[~out], classes)
            sums[c] += log_loss(outside @ weight.T + bias, y[out]) * len(outside)
    return {c: total / len(y) for c, total in sums.items()}


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
