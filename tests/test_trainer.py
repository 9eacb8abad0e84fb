from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DivergedError
from imgkit.losses import LabelFacts, make_loss
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.recipe.task import for_task
from imgkit.trainer import Trainer


@pytest.mark.parametrize(("side", "told"), [(7, True), (32, False)])
def test_a_loss_that_is_not_finite_on_tiny_images_names_their_size(side: int, told: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 2))
    nn.init.constant_(model[1].weight, float("nan"))
    (*_, phase) = make_plan(load_recipe("scratch"), 4).phases
    colours = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((side, side), 1.0, "bilinear", colours, colours, "crop")
    cpu = torch.device("cpu")
    trainer = Trainer(
        model, preprocessing=preprocessing, device=cpu, autocast=None, seed=0, loss_of=lambda phase: cross_entropy
    )
    trainer.begin(replace(phase, train="all"))
    batch = Batch(torch.zeros(2, 3, side, side, dtype=torch.uint8), torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(DivergedError) as caught:
        next(trainer.train(phase, iter([batch]), phase.first_step))
    assert (f"Images of {side}×{side} px are likely too small" in caught.value.hint) == told
    assert "Start again with a tenth of the rate: --set phases." in caught.value.hint


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_update_on_sets_of_labels_is_that_of_the_mean_over_images_and_labels(micro_batch: int | None) -> None:
    (*_, phase) = make_plan(for_task(load_recipe("scratch"), "multilabel")[0], 6).phases
    settings = phase.settings.model_copy(update={"optimizer": "sgd", "micro_batch": micro_batch, "ema": 0.0})
    phase = replace(phase, train="all", settings=settings)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
    images = torch.randint(256, (6, 3, 4, 4), dtype=torch.uint8)
    targets = torch.randint(2, (6, 3)).float()
    halves = (0.5, 0.5, 0.5)
    trainer = Trainer(
        model,
        preprocessing=Preprocessing((4, 4), 1.0, "bilinear", halves, halves),
        device=torch.device("cpu"),
        autocast=None,
        seed=0,
        loss_of=lambda phase: make_loss(phase.loss, LabelFacts("multilabel", np.ones(3, dtype=np.int64), 6)),
    )
    logits = model((images.float() / 255 - 0.5) / 0.5)
    wanted = targets * (1 - phase.loss.label_smoothing) + 0.5 * phase.loss.label_smoothing
    expected = nn.functional.binary_cross_entropy(logits.sigmoid(), wanted)
    trainer.begin(phase)
    update = next(trainer.train(phase, iter([Batch(images, targets, torch.arange(6))]), phase.first_step))
    assert update.loss == pytest.approx(expected.item(), rel=1e-5)
    assert update.images == 6


@pytest.mark.parametrize("chosen", [{"mixup": 0.4}, {"cutmix": 1.0}])
@pytest.mark.parametrize("sets", [False, True], ids=["classes", "label sets"])
def test_the_whole_batch_is_mixed_whatever_the_micro_batch(chosen: dict[str, float], sets: bool) -> None:
    """Seven pictures, also in parts of three: each is mixed with the one before it in the batch."""
    (*_, phase) = make_plan(load_recipe("scratch", sets=["phases.all.optimizer=sgd", "train.clip_norm=none"]), 7).phases
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (7, 3, 8, 8), generator=draw, dtype=torch.uint8)
    targets = torch.randint(3, (7,), generator=draw)
    given = torch.nn.functional.one_hot(targets, 3).float() if sets else targets
    found = []
    for micro in (None, 3):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        preprocessing = Preprocessing((8, 8), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
        trainer = Trainer(
            model,
            preprocessing=preprocessing,
            device=torch.device("cpu"),
            autocast=None,
            seed=0,
            loss_of=lambda phase: make_loss(phase.loss, LabelFacts("single", np.ones(3, dtype=np.int64), 7)),
        )
        settings = phase.settings.model_copy(update={"micro_batch": micro, "batch_size": 7})
        own = replace(phase, settings=settings, augment=phase.augment.model_copy(update=chosen))
        before = model(preprocessing.normalise(images))
        trainer.begin(own)
        update = next(trainer.train(own, iter([Batch(images, given, torch.arange(7))]), own.first_step))
        found.append((update.loss, model[1].weight.detach().clone()))
        plain = torch.nn.functional.cross_entropy(before, targets, label_smoothing=0.1)
        assert abs(update.loss - plain.item()) > 1e-3
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])
