"""Weights for VGG: those of timm and torchvision under its names, and the layers of A that deeper ones start from."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from imgkit.models.networks.vgg import Vgg

_A = [64, 128, 256, 256, 512, 512, 512, 512]
"""Channels of the convolutions of A, by which it is known."""
_PLACES = ((0, 0), (1, 0), (2, 0), (2, 1))
"""Stage, and place in it, of the first four of them."""


def filter_weights(state: Mapping[str, Tensor], model: "Vgg") -> dict[str, Tensor]:
    """Tensors under the names of `model`, from those of timm or torchvision.

    Where the hidden layers do not fit a head that pools, all of it gives way to the model's own, which is new.
    """
    own = model.state_dict()
    renamed = dict(_renamed(name, value) for name, value in state.items())
    if not model.num_classes:
        renamed = {name: value for name, value in renamed.items() if not name.startswith("head.")}
    hidden = {name: value for name, value in own.items() if name.startswith("pre_logits.")}
    if not model.pre_logits.pooled or all(
        name in renamed and renamed[name].shape == value.shape for name, value in hidden.items()
    ):
        return renamed
    of_head = ("pre_logits.", "head.")
    trunk = {name: value for name, value in renamed.items() if not name.startswith(of_head)}
    return trunk | {name: value for name, value in own.items() if name.startswith(of_head)}


def _renamed(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A tensor of torchvision as timm has it: the hidden layers are convolutions there."""
    layer, _, what = name.rpartition(".")
    if layer == "classifier.0":
        return f"pre_logits.fc1.{what}", value.view(-1, 512, 7, 7) if what == "weight" else value
    if layer == "classifier.3":
        return f"pre_logits.fc2.{what}", value[:, :, None, None] if what == "weight" else value
    return (f"head.fc.{what}" if layer == "classifier.6" else name), value


def start_of_deeper(state: Mapping[str, Tensor], model: "Vgg") -> dict[str, Tensor]:
    """What a deeper network starts from: the first four convolutions and the three fully connected layers of A.

    The paper (section 3.1) does not say where the four go. Each keeps its place in its stage here, the first of stages
    1 and 2 and the first two of stage 3: the first places in B, C, D and E that have their shapes. A batch norm goes
    with its convolution.

    Args:
        state: the weights of A, by the names of imgkit, timm or torchvision.
        model: the network that starts.

    Returns:
        Tensors under the names of `model`.

    Raises:
        ValueError: if they are not those of A, or only one of the two networks has batch norms.
    """
    renamed = dict(_renamed(name, value) for name, value in state.items())
    found = [(int(match[1]), name) for name in renamed if (match := re.fullmatch(r"features\.(\d+)\.weight", name))]
    convs = sorted(number for number, name in found if renamed[name].dim() == 4)
    widths = [len(renamed[f"features.{number}.weight"]) for number in convs]
    wanted = [max(1, round(channels * model.width)) for channels in _A]
    if widths != wanted:
        told = f"convolutions of {', '.join(map(str, widths))} channels" if widths else "no convolutions of a VGG"
        raise ValueError(
            f"it is no configuration A, whose convolutions have {', '.join(map(str, wanted))} channels, but has {told}"
        )
    norm = any(isinstance(layer, nn.BatchNorm2d) for layer in model.features)
    if norm != (f"features.{convs[0] + 1}.running_mean" in renamed):
        raise ValueError(
            "only one of the two networks has batch norms: start vgg_d from a vgg_a, vgg_d_bn from a vgg_a_bn"
        )
    part: dict[str, Tensor] = {}
    stages = [
        [number for number in range(first, last) if isinstance(model.features[number], nn.Conv2d)]
        for first, last in pairwise((0, *model.stage_ends))
    ]
    for number, (stage, place) in zip(convs, _PLACES, strict=False):
        for shift in range(1 + norm):
            old, new = f"features.{number + shift}.", f"features.{stages[stage][place] + shift}."
            part |= {new + name.removeprefix(old): value for name, value in renamed.items() if name.startswith(old)}
    return part | {name: value for name, value in renamed.items() if name.startswith(("pre_logits.", "head."))}
