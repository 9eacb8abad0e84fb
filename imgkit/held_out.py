"""Probabilities of images by heads that were fitted without them, of any number of images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from imgkit.errors import DataError
from imgkit.logistic import Fit
from imgkit.probabilities import softmax
from imgkit.scaled import Floats, Ints, Scaled
from imgkit.solve import ROUGH, fold_numbers, solve_head


def out_of_fold(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    groups: Ints | None,
    weights: Floats | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """The probability of each class for each image, float64 (N, K), by a head of the folds that do not hold it.

    The heads and their folds are those by which `solve_head` chooses C. Of more images than it chooses on, the folds
    are of all images, and their heads are fitted at the C that it found.

    Args:
        features: float32 (N, D); `fits` said yes.
        targets: int64 (N,).
        classes: K.
        groups: int64 (N,); images of one group are in the same fold.
        weights: float64 (N,), how much each image counts; None: once.
        seed: of the folds.
        progress: called with (done, total) before each fit.

    Raises:
        DataError: if the images are too few to hold some out.
        WeightsError: if the features are not finite.
    """
    about: dict[str, Any] = {
        "classes": classes,
        "groups": groups,
        "weights": weights,
        "seed": seed,
        "progress": progress,
    }
    solution = solve_head(features, targets, **about, held_out=True)
    if solution.held_out is None:
        raise DataError(
            "The images are too few to hold some out: no two classes have two images each that do not belong together.",
            "It takes two images, or groups, of each class; better ten.",
        )
    logits = solution.held_out.logits.astype(np.float64)
    if len(logits) < len(targets):
        logits = _of_all(features, targets.numpy(), classes, groups, weights, seed, solution.c, progress)
    return softmax(logits)


def _of_all(
    features: torch.Tensor,
    y: Ints,
    classes: int,
    groups: Ints | None,
    weights: Floats | None,
    seed: int,
    c: float,
    progress: Callable[[int, int], None] | None,
) -> Floats:
    """Logits (N, K) at one C, the folds over all images."""
    fold, logits = fold_numbers(y, groups, seed), np.empty((len(y), classes))
    with threadpool_limits(1, user_api="blas"):  # as `solve_head`: the same bits whatever the number of cores
        taken, folds = Scaled.of(features.numpy()), int(fold.max()) + 1
        for number in range(folds):
            fit = Fit(classes, ROUGH, lambda: None)  # a new one: no fit may start from what has seen this fold
            out, into = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            if progress is not None:
                progress(number, folds)
            weight, bias = fit(taken.rows(into), y[into], None if weights is None else weights[into], c)
            logits[out] = taken.rows(out) @ weight.T + bias
    return logits
