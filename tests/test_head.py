"""What the solve of a head is given."""

import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import write_recipe
from pictures import MakeFolders

import imgkit
from imgkit import head
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, batches_at, train_batches
from imgkit.features import head_layer
from imgkit.models.folder import load_model_folder
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


def test_an_adjusted_head_is_what_an_adjusted_loss_would_end_at() -> None:
    targets = torch.from_numpy(np.repeat(np.arange(3), [120, 60, 20]))
    features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) + torch.eye(3, 4)[targets]
    plain = solve_head(features, targets, classes=3, seed=0)
    shift = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    found = head.adjusted(plain, shift.numpy())

    def slope(solution: Solution, added: torch.Tensor) -> float:
        """The largest derivative of the mean loss by a bias, on which there is no penalty."""
        bias = solution.bias.double().requires_grad_()
        logits = features.double() @ solution.weight.double().T + bias + added
        torch.nn.functional.cross_entropy(logits, targets).backward()
        assert bias.grad is not None
        return float(bias.grad.abs().max())

    assert slope(plain, torch.zeros(3)) < 1e-3
    assert slope(found, shift) < 1e-3
    assert slope(found, torch.zeros(3)) > 0.05, "by themselves its logits answer as for classes of one size"
    assert torch.equal(found.weight, plain.weight)


def test_a_probe_under_the_adjusted_loss_differs_by_its_biases(tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"train/cat": 12, "train/dog": 3, "val/cat": 2, "val/dog": 2})
    heads, text = {}, io.StringIO()
    for sets in (["loss.class_weights=none"], ["loss.name=logit_adjusted", "loss.tau=0.5"]):
        run = imgkit.finetune(
            "test_resnet",
            recipe="probe",
            data=str(data),
            out=tmp_path / "runs",
            screen=Screen(file=text, width=200),
            sets=[*sets, "model.weights=none", "model.image_size=32", "run.workers=0"],
        )
        heads[sets[0]] = head_layer(load_model_folder(run.folder.path / "model").model)
    plain, moved = heads.values()
    assert torch.equal(plain.weight, moved.weight)
    assert (moved.bias - plain.bias).tolist() == pytest.approx([-0.5 * np.log(0.8), -0.5 * np.log(0.2)], abs=1e-6)
    assert "logit shift" in text.getvalue()
