"""Indexes without files, for what reads labels and weights only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgkit.data.index import Index, PathTable


def table(labels: Sequence[Sequence[int]], classes: int, weights: Sequence[float] | None = None) -> Index:
    """An index without files; labels of each row."""
    n = len(labels)
    return Index(
        root=Path("/nowhere"),
        paths=PathTable.of(f"{row}.png" for row in range(n)),
        classes=tuple(f"c{code:03d}" for code in range(classes)),
        codes=np.array([code for codes in labels for code in codes], dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(codes) for codes in labels])]).astype(np.int64),
        splits=np.zeros(n, dtype=np.int8),
        groups=None,
        sizes=np.ones(n, dtype=np.int64),
        hashes=np.zeros((n, 32), dtype=np.uint8),
        weights=None if weights is None else np.array(weights),
    )
