"""How often an epoch draws each training image: by class, by a column of the table, or each once."""

import numpy as np

from imgkit.data.index import Index, Ints, Weights
from imgkit.errors import DataError


def row_weights(index: Index, rows: Ints, sampler: str) -> Weights | None:
    """How often to draw each of `rows`, relative to the others, float64 (n,); None for "uniform".

    "balanced": 1 / n of an image's class, so that every class comes equally often; "sqrt": 1 / sqrt(n), half way
    there (Mikolov et al. 2013 draw words so; Mahajan et al. 2018 hashtags); "weighted": the index's own weights. An
    image with several labels has the mean over them, and images without a label are a class of their own.

    Args:
        index: labels and weights.
        rows: the training rows, int64 (n,).
        sampler: of `[train]`.

    Raises:
        DataError: if every weight is 0.
    """
    if sampler == "uniform":
        return None
    if sampler == "weighted":
        assert index.weights is not None, "the recipe names their column, and the reader found it"
        if not index.weights[rows].any():
            raise DataError(
                "Every training image has the weight 0, so none would be drawn.",
                "Give a column with weights above 0 as --weight-col.",
            )
        return index.weights[rows]
    numbers, codes = _labels(index, rows)
    per_class = np.bincount(codes, minlength=len(index.classes) + 1)
    of_class = 1.0 / np.maximum(per_class, 1)
    if sampler == "sqrt":
        of_class = np.sqrt(of_class)
    # Sums in the order of the labels and quotients, both rounded alike on every machine.
    return np.bincount(numbers, of_class[codes], minlength=len(rows)) / np.bincount(numbers, minlength=len(rows))


def _labels(index: Index, rows: Ints) -> tuple[Ints, Ints]:
    """(position in `rows`, class code) of each label; an image without one has the code K, as if a class of its own."""
    place = np.full(len(index), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    counts = np.diff(index.offsets)
    numbers = np.repeat(place, counts)
    inside = numbers >= 0
    bare = np.flatnonzero(counts[rows] == 0)
    codes = np.concatenate([index.codes[inside], np.full(len(bare), len(index.classes))])
    return np.concatenate([numbers[inside], bare]), codes


def class_counts(index: Index, rows: Ints) -> Ints:
    """Images of `rows` with each label, int64 (K + 1,); the last: those without a label."""
    return np.bincount(_labels(index, rows)[1], minlength=len(index.classes) + 1)


def expected_draws(index: Index, rows: Ints, weights: Weights | None, draws: int) -> Weights:
    """How many images with each label an epoch draws in the mean, float64 (K + 1,); the last: without a label.

    Args:
        index: labels.
        rows: the training rows, int64 (n,).
        weights: from `row_weights`.
        draws: images that an epoch draws.
    """
    numbers, codes = _labels(index, rows)
    shares = np.ones(len(rows)) if weights is None else weights
    shares = shares / shares.sum()
    return np.bincount(codes, draws * shares[numbers], minlength=len(index.classes) + 1).astype(np.float64)
