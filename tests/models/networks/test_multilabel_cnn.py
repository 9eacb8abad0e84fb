from typing import Any

import pytest
import timm
import torch
from torch.nn import functional

from imgkit.errors import UsageError
from imgkit.models.create import create_model
from imgkit.models.networks.multilabel_cnn import MultilabelCnn
from imgkit.recipe.schema import ModelSettings

COUNTS = {"multilabel_cnn": 67_692_288}
"""Parameters for 14 labels at 128 px."""


def test_parameters_and_sides() -> None:
    with torch.device("meta"):
        model = timm.create_model("multilabel_cnn")
        assert sum(weight.numel() for weight in model.parameters()) == COUNTS["multilabel_cnn"]
        assert (model.num_classes, model.pre_logits[1].in_features) == (14, 32_400)
        x, sides = torch.empty(1, 3, 128, 128), [128]
        for layer in (layer for block in model.features for layer in block):
            x = layer(x)
            sides += [x.shape[-1]] if not isinstance(layer, torch.nn.ReLU) else []
    assert sides == [128, 126, 63, 61, 30, 30, 26, 25, 19, 18]


@torch.no_grad()
def test_it_is_the_one_written_out() -> None:
    model = MultilabelCnn(num_classes=5, img_size=64, fc=(12, 8)).eval()
    state = model.state_dict()
    x = images = torch.randn(2, 3, 64, 64)
    for number, pool in enumerate((2, 2, None, 1, 1)):
        x = functional.relu(
            functional.conv2d(x, state[f"features.{number}.0.weight"], state[f"features.{number}.0.bias"])
        )
        x = functional.max_pool2d(x, 2, stride=pool) if pool else x
    x = x.flatten(1)
    for layer in (1, 3):
        x = functional.relu(x @ state[f"pre_logits.{layer}.weight"].T + state[f"pre_logits.{layer}.bias"])
    assert torch.allclose(model(images), x @ state["head.weight"].T + state["head.bias"], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "size", "hidden"),
    [
        ({"fc": ()}, 128, 32_400),
        ({"fc": (64,)}, 128, 64),
        ({"widths": (8,), "kernels": (5,), "pools": (0,), "fc": ()}, 9, 8 * 5 * 5),
        ({"widths": (4, 6), "kernels": (3, 3), "pools": (3, 2), "fc": (7, 5, 3)}, (20, 31), 3),
        ({"pools": (2, 2, 0, 2, 0)}, 128, 512),
    ],
)
def test_other_sizes_of_everything(options: dict[str, Any], size: int | tuple[int, int], hidden: int) -> None:
    with torch.device("meta"):
        model = timm.create_model("multilabel_cnn", num_classes=3, img_size=size, **options)
        height, width = (size, size) if isinstance(size, int) else size
        assert model(torch.empty(2, 3, height, width)).shape == (2, 3)
    assert model.head_hidden_size == hidden


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (0, 1, 1, 1, 1)}, "widths must be whole numbers from 1 up, got (0, 1, 1, 1, 1)"),
        ({"pools": (2, 2, -1, 1, 1)}, "pools must be whole numbers from 0 up, got (2, 2, -1, 1, 1)"),
        ({"kernels": (3, 3, 1, 5, 7.0)}, "kernels must be whole numbers from 1 up, got (3, 3, 1, 5, 7.0)"),
        ({"fc": 512}, "fc must be whole numbers from 1 up, got 512"),
        (
            {"widths": (8, 8)},
            "each convolution has a width, a kernel and a pool (0 for none), but their numbers are widths 2, "
            "kernels 5, pools 5",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        create_model(ModelSettings(name="multilabel_cnn", weights="none", options=options), 3, 0)
    assert caught.value.message.endswith(f": {message}")
    assert caught.value.hint == "Its options: widths, kernels, pools, fc."


def test_an_image_of_which_nothing_is_left() -> None:
    settings = ModelSettings(name="multilabel_cnn", weights="none", image_size=32)
    with pytest.raises(
        UsageError, match=r"cannot take images of 32 px \(of 32 px nothing is left after conv.* 5\)"
    ) as caught:
        create_model(settings, 3, 0)
    assert caught.value.hint == "It was made for 128 px:  --image-size 128"
    options = {"kernels": (3, 3, 1, 3, 1), "fc": (8,)}
    assert create_model(settings.model_copy(update={"options": options}), 3, 0).preprocessing.size == (32, 32)


def test_pixels_are_scaled_and_no_more() -> None:
    config = timm.get_pretrained_cfg("multilabel_cnn")
    assert (config.mean, config.std, config.crop_pct) == ((0.0,) * 3, (1.0,) * 3, 1.0)
