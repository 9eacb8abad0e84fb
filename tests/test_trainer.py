from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DivergedError, UsageError
from imgkit.hits import Hits
from imgkit.losses import LabelFacts, Loss, make_loss
from imgkit.metrics import score
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.recipe.task import for_task
from imgkit.trainer import Trainer

CPU = torch.device("cpu")


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
    assert update.hits == Hits()  # sets of labels have no first one


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_hits_are_counted_before_the_update_over_all_parts(micro_batch: int | None) -> None:
    (*_, phase) = make_plan(load_recipe("scratch"), 7).phases
    phase = replace(phase, settings=phase.settings.model_copy(update={"micro_batch": micro_batch, "ema": 0.0}))
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 8))
    images, labels = torch.randint(256, (7, 3, 4, 4), dtype=torch.uint8), torch.randint(8, (7,))
    preprocessing = Preprocessing((4, 4), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    trainer = Trainer(
        model, preprocessing=preprocessing, device=CPU, autocast=None, seed=0, loss_of=lambda phase: cross_entropy
    )
    ranks = score(model(preprocessing.normalise(images)).detach().double().numpy(), labels.numpy()).label_rank
    trainer.begin(phase)
    update = next(trainer.train(phase, iter([Batch(images, labels, torch.arange(7))]), phase.first_step))
    assert update.hits == Hits(7, int((ranks == 1).sum()), int((ranks <= 5).sum()))
    assert 0 < update.hits.top1 < update.hits.topk < 7


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
        assert update.hits == Hits()  # a mixed picture has no one label
        plain = torch.nn.functional.cross_entropy(before, targets, label_smoothing=0.1)
        assert abs(update.loss - plain.item()) > 1e-3
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])


class Steep(nn.Module):
    """Logits whose gradient overflows in float16 while `steep`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.steep = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.mean(dim=(2, 3)))  # (B, 3, H, W) -> (B, 3) -> (B, 2)
        return logits.float() * (1e38 if self.steep else 1.0)


def in_float16(model: nn.Module, preprocessing: Preprocessing, loss: Loss) -> Trainer:
    return Trainer(
        model, preprocessing=preprocessing, device=CPU, autocast=torch.float16, seed=0, loss_of=lambda phase: loss
    )


@pytest.mark.filterwarnings("ignore:.*overflow.*")
def test_an_overflow_in_float16_changes_no_weight_and_no_average() -> None:
    model = Steep()
    (*_, phase) = make_plan(load_recipe("scratch"), 4).phases
    colours = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((8, 8), 1.0, "bilinear", colours, colours, "crop")
    trainer = in_float16(model, preprocessing, lambda logits, targets: (logits * 1e-30).sum())
    trainer.begin(replace(phase, train="all", settings=phase.settings.model_copy(update={"ema": 0.5})))
    images = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
    batch = Batch(images, torch.tensor([0, 1]), torch.tensor([0, 1]))
    updates = trainer.train(phase, iter([batch] * 3), phase.first_step)
    before = [tensor.clone() for tensor in (*model.state_dict().values(), *trainer.scored_model.state_dict().values())]
    update = next(updates)
    assert update.skipped
    assert update.step == phase.first_step + 1, "the position goes on"
    after = [*model.state_dict().values(), *trainer.scored_model.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert trainer.numbers()["loss_scale"]["in_row"] == 1
    model.steep = False
    assert not next(updates).skipped
    assert trainer.numbers()["loss_scale"]["in_row"] == 0


def test_a_loss_that_is_not_finite_in_float16_names_the_format() -> None:
    (*_, phase) = make_plan(load_recipe("scratch"), 4).phases
    colours = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((8, 8), 1.0, "bilinear", colours, colours, "crop")
    trainer = in_float16(Steep(), preprocessing, lambda logits, targets: logits.sum() * torch.inf)
    trainer.begin(replace(phase, train="all"))
    batch = Batch(torch.ones(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(DivergedError, match="The loss is") as caught:
        next(trainer.train(phase, iter([batch]), phase.first_step))
    assert "In float16 numbers above 65504 overflow" in caught.value.hint


def test_a_part_of_one_image_under_batch_norm_is_told() -> None:
    (*_, phase) = make_plan(load_recipe("scratch", sets=["train.batch_size=3", "train.micro_batch=2"]), 3).phases
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    trainer = Trainer(
        model,
        preprocessing=Preprocessing((8, 8), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3),
        device=CPU,
        autocast=None,
        seed=0,
        loss_of=lambda phase: make_loss(phase.loss, LabelFacts("single", np.ones(2, dtype=np.int64), 3)),
    )
    trainer.begin(phase)
    batch = Batch(torch.ones(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0]), torch.arange(3))
    with pytest.raises(UsageError, match="phase 'all' takes a batch of 3 in parts of 2") as caught:
        next(trainer.train(phase, iter([batch]), phase.first_step))
    assert "--set phases.all.batch_norm=frozen" in caught.value.hint
