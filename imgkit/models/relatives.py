"""Networks of one family: those whose names differ in a size alone, and how large each is with a given head."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import timm
import torch
from timm.models import get_pretrained_cfg, split_model_name_tag
from torch import nn

from imgkit.models.create import size_options
from imgkit.models.heads import set_head
from imgkit.recipe.schema import ModelSettings

_WORDS = (
    "(?:atto|femto|pico|nano|xtiny|tiny|mini|xsmall|small|base|medium|large|xlarge|huge|giant|xxs|xs|t|s|m|b|l|xl|xxl)"
)


class Weight(NamedTuple):
    """What a network weighs."""

    parameters: int
    size_bytes: int  # of parameters and stored buffers, in float32


class Relative(NamedTuple):
    """A network, or the same one with other options."""

    name: str
    options: Mapping[str, Any]
    weight: Weight


def weigh(model: nn.Module) -> Weight:
    """Parameters and bytes; what is shared is counted once, what a file would not hold (some buffers) not at all."""
    stored = {id(value): value for value in model.state_dict(keep_vars=True).values()}.values()
    counted = sum(value.numel() * (4 if value.is_floating_point() else value.element_size()) for value in stored)
    return Weight(sum(parameter.numel() for parameter in model.parameters()), counted)


def lighter(name: str, settings: ModelSettings, classes: int) -> Iterator[Relative]:
    """Smaller networks for the same classes with the same head, in no order: laid out without memory.

    First the network itself with the options that it names in `lighter`, then those of its family: names in which only
    sizes differ (resnet50 and resnet18, vit_base_patch16_224 and vit_tiny_patch16_224).

    Args:
        name: of the network, timm's, with or without tag.
        settings: head, image size and options are read.
        classes: K.
    """
    arch = split_model_name_tag(name)[0]
    own = _lay_out(arch, settings, settings.options, classes)
    if own is None:
        return
    ways = getattr(own, "lighter", ())
    candidates = [(arch, {**settings.options, **way}) for way in ways]
    candidates += [(other, dict(settings.options)) for other in family(arch)]
    most = weigh(own)
    for other, options in candidates:
        model = _lay_out(other, settings, options, classes)
        if model is not None and weigh(model) < most:
            yield Relative(other, options, weigh(model))


def family(arch: str) -> list[str]:
    """Other names of timm's registry that differ from `arch` in sizes of the network alone, not in those of images."""
    config = get_pretrained_cfg(arch)
    side = str(config.input_size[-1]) if config is not None else ""
    form = re.compile("_".join(token if token == side else _pattern(token) for token in arch.split("_")))
    return [other for other in timm.list_models() if other != arch and form.fullmatch(other)]


def _pattern(token: str) -> str:
    """A part of a name with its size free: `resnet50` -> `resnet[0-9]+`, `tiny` -> any word of size."""
    if token.startswith(("patch", "window")):
        return token
    return _WORDS if re.fullmatch(_WORDS, token) else re.sub("[0-9]+", "[0-9]+", token)


def _lay_out(name: str, settings: ModelSettings, options: Mapping[str, Any], classes: int) -> nn.Module | None:
    """The network on the meta device; None where it cannot have these options or this head, or cannot be laid out."""
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name, num_classes=classes, **size_options(name, settings), **options)
            set_head(model, settings.head, classes)
    except Exception:  # networks say in many ways what they cannot be made with; such a one is no suggestion
        return None
    return model
