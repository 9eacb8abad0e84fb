"""What the solve of a head is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import write_recipe

import imgkit
from imgkit import head
from imgkit.solve import Floats, Ints, Solution, solve_head


@pytest.mark.parametrize("views", [0, 2])
def test_a_solve_sees_each_image_and_its_views_in_one_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: int
) -> None:
    given: dict[str, Any] = {}

    def spy(
        features: torch.Tensor,
        targets: torch.Tensor,
        *,
        classes: int,
        groups: Ints,
        weights: Floats | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Solution:
        assert weights is None
        given.update(features=features, targets=targets, groups=groups)
        return solve_head(features, targets, classes=classes, groups=groups, seed=seed, progress=progress)

    monkeypatch.setattr(head, "solve_head", spy)
    imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data="synthetic:3x16",
        out=tmp_path / "runs",
        sets=[f"phases.head.views={views}", "run.workers=0", "phases.top.steps=1", "phases.all.steps=1"],
    )
    _, counts = np.unique(given["groups"], return_counts=True)
    assert (counts == 1 + views).all()
    for group in np.unique(given["groups"]):
        rows = given["groups"] == group
        assert len(set(given["targets"][rows].tolist())) == 1, "a view keeps its image's label"
        pictures = given["features"][rows]
        assert len(pictures.unique(dim=0)) == 1 + views, "each view is another picture"
