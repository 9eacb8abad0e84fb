from dataclasses import replace

import pytest
import torch
from torch import nn

from imgkit import trainer as trainer_file
from imgkit.data.batches import Batch
from imgkit.data.transforms import Preprocessing
from imgkit.errors import DivergedError
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.trainer import Trainer

CPU = torch.device("cpu")


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


class Steep(nn.Module):
    """Logits whose gradient overflows in float16 while `steep`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.steep = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.mean(dim=(2, 3)))  # (B, 3, H, W) -> (B, 3) -> (B, 2)
        return logits.float() * (1e38 if self.steep else 1.0)


@pytest.mark.filterwarnings("ignore:.*overflow.*")
def test_an_overflow_in_float16_changes_no_weight_and_no_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_file, "make_loss", lambda settings: lambda logits, targets: (logits * 1e-30).sum())
    model = Steep()
    (*_, phase) = make_plan(load_recipe("scratch"), 4).phases
    colours = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((8, 8), 1.0, "bilinear", colours, colours, "crop")
    trainer = Trainer(model, preprocessing=preprocessing, device=CPU, autocast=torch.float16, seed=0)
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


def test_a_loss_that_is_not_finite_in_float16_names_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_file, "make_loss", lambda settings: lambda logits, targets: logits.sum() * torch.inf)
    (*_, phase) = make_plan(load_recipe("scratch"), 4).phases
    colours = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((8, 8), 1.0, "bilinear", colours, colours, "crop")
    trainer = Trainer(Steep(), preprocessing=preprocessing, device=CPU, autocast=torch.float16, seed=0)
    trainer.begin(replace(phase, train="all"))
    batch = Batch(torch.ones(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(DivergedError, match="The loss is") as caught:
        next(trainer.train(phase, iter([batch]), phase.first_step))
    assert "In float16 numbers above 65504 overflow" in caught.value.hint
