from dataclasses import replace

import pytest
import torch
from torch import nn

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DivergedError
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
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
