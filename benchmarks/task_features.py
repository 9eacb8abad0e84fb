"""Features and labels of a benchmark task, for the benchmarks of `imgkit data label-errors` and `learning-curve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

DATA = Path.home() / ".cache" / "imgkit-bench"  # written by benchmarks/datasets.py
MODEL = "tf_efficientnet_lite0"
SIZE_PX = {"solar2": 224, "solar8": 224, "digits": 64, "fashion": 64}


@dataclass(frozen=True, eq=False)
class Task:
    """Images of a task as the trunk sees them: features (n, D), labels (n,), positions in train, val, test (n,)."""

    features: torch.Tensor
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    classes: int


def load_task(name: str) -> Task:
    """Features of all images of TASK-0.csv; those that an earlier run has kept are not computed again."""
    from imgkit.api import prepared

    options = {"data": DATA / f"{name}-0.csv", "image_size": SIZE_PX[name], "out": DATA.parent / "nothing-is-written"}
    with prepared("probe", MODEL, "probe", options) as (setup, _, screen):
        from imgkit.trunk import Trunk

        index = setup.index
        features = Trunk(setup).plain(range(len(index)), screen.progress)
        return Task(features.values, index.labels(), index.splits, len(index.classes))
