"""What the solve of a head is given."""

import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import write_recipe

import imgkit
from imgkit import head
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, batches_at, train_batches
from imgkit.scaled import Floats, Ints
from imgkit.screen import Screen
from imgkit.solve import Solution, solve_head


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
        plain: int,
        seed: int,
        progress: Callable[[int, int], None],
        left: Callable[[float], None],
    ) -> Solution:
        assert weights is None
        left(90.0 if views else 9.0)
        given.update(features=features, targets=targets, groups=groups, plain=plain)
        return solve_head(features, targets, classes=classes, groups=groups, seed=seed, progress=progress)

    monkeypatch.setattr(head, "solve_head", spy)
    text = io.StringIO()
    imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data="synthetic:3x16",
        out=tmp_path / "runs",
        screen=Screen(file=text, width=200),
        sets=[f"phases.head.views={views}", "run.workers=0", "phases.top.steps=1", "phases.all.steps=1"],
    )
    assert ("about 1 min 30 s more to solve the head" in text.getvalue()) == bool(views), "where it is long"
    assert given["plain"] == len(given["targets"]) / (1 + views), "pictures as evaluation sees them judge C"
    _, counts = np.unique(given["groups"], return_counts=True)
    assert (counts == 1 + views).all()
    for group in np.unique(given["groups"]):
        rows = given["groups"] == group
        assert len(set(given["targets"][rows].tolist())) == 1, "a view keeps its image's label"
        pictures = given["features"][rows]
        assert len(pictures.unique(dim=0)) == 1 + views, "each view is another picture"


def test_the_first_epoch_sees_other_pictures_than_the_head_was_solved_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[torch.Tensor]] = {"views": [], "epoch": []}

    def watched(kind: str, made: Callable[..., Iterator[Batch]]) -> Callable[..., Iterator[Batch]]:
        def batches(*args: object, **given: object) -> Generator[Batch, None, None]:
            for batch in made(*args, **given):
                if isinstance(given["transform"], TrainTransform):
                    seen[kind] += list(batch.images.clone())
                yield batch

        return batches

    monkeypatch.setattr("imgkit.trunk.batches_at", watched("views", batches_at))
    monkeypatch.setattr("imgkit.setup.train_batches", watched("epoch", train_batches))
    imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data="synthetic:3x16",
        out=tmp_path / "runs",
        screen=Screen(quiet=True),
        sets=["phases.head.views=1", "run.workers=0", "phases.top.steps=1", "phases.all.steps=1", "augment.rotate=20"],
    )
    assert seen["views"]
    assert seen["epoch"]
    assert not any(torch.equal(one, other) for one in seen["epoch"] for other in seen["views"])
