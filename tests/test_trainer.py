from dataclasses import replace

import pytest
import torch
from torch import nn

from imgkit.data.batches import Batch
from imgkit.data.transforms import Preprocessing
from imgkit.errors import DivergedError
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
    trainer = Trainer(model, preprocessing=preprocessing, device=torch.device("cpu"), autocast=None, seed=0)
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
    )
    logits = model((images.float() / 255 - 0.5) / 0.5)
    wanted = targets * (1 - phase.loss.label_smoothing) + 0.5 * phase.loss.label_smoothing
    expected = nn.functional.binary_cross_entropy(logits.sigmoid(), wanted)
    trainer.begin(phase)
    update = next(trainer.train(phase, iter([Batch(images, targets, torch.arange(6))]), phase.first_step))
    assert update.loss == pytest.approx(expected.item(), rel=1e-5)
    assert update.images == 6
