"""What `model.drop_rate` does: dropout before the head, also where only the head trains."""

import pytest
import timm
import torch

from imgkit.models.create import create_model
from imgkit.models.freeze import set_trainable, train_mode
from imgkit.recipe.schema import ModelSettings

NETWORKS = sorted(timm.list_models("test_*"))


def answers(name: str, rate: float, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of one picture sixteen times over, while `what` trains and in evaluation: (16, 8) each."""
    settings = ModelSettings(name=name, weights="none", drop_rate=rate)
    model = create_model(settings, 8, seed=0).model
    size = model.pretrained_cfg["input_size"]
    torch.manual_seed(0)
    images = torch.randn(1, *size).expand(16, -1, -1, -1)
    set_trainable(model, what)
    with torch.no_grad():
        train_mode(model, batch_norm="frozen")
        training = model(images)
        return training, model.eval()(images)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_of_a_frozen_trunk_sees_dropout(name: str) -> None:
    dropped, whole = answers(name, 0.5, "head")
    assert not torch.allclose(dropped[0], dropped[1]), "each image has its own units dropped"
    assert torch.allclose(whole[0], whole[1], atol=1e-5), "none in evaluation"
    kept, whole = answers(name, 0.0, "head")
    assert torch.allclose(kept, whole, atol=1e-5), "and nothing else is random in a frozen trunk"
