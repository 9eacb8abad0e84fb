"""The rows of `imgkit models`."""

from dataclasses import dataclass

import timm
import torch
from timm.models import get_pretrained_cfg

from imgkit.model_names import search
from imgkit.models.weights import find_local


@dataclass(frozen=True)
class ModelRow:
    """One network.

    Attributes:
        name: timm's.
        parameters: how many; None where the network cannot be laid out without memory.
        mib: of the parameters in float32, MiB; None likewise.
        size: (height, width) of its input, pixels.
        licence: of its pretrained weights; None where it is not known or there are none.
        pretrained: whether there are any.
        local: where they are on this machine; None where they are not.
    """

    name: str
    parameters: int | None
    mib: float | None
    size: tuple[int, int]
    licence: str | None
    pretrained: bool
    local: str | None


@dataclass(frozen=True)
class Found:
    """The first rows, and how many more names match."""

    rows: list[ModelRow]
    more: int


def find_models(pattern: str, *, limit: int = 40) -> Found:
    """Networks whose name matches `pattern` (see `model_names.search`), at most `limit` of them; about 0.2 s each."""
    names = search(pattern)
    return Found([_row(name) for name in names[:limit]], max(0, len(names) - limit))


def _row(name: str) -> ModelRow:
    config = get_pretrained_cfg(name)
    local = find_local(name)
    count = _parameters(name)
    height, width = config.input_size[1:] if config is not None else (224, 224)
    licence = config.license if config is not None and config.has_weights else None
    return ModelRow(
        name=name,
        parameters=count,
        mib=None if count is None else count * 4 / 2**20,
        size=(height, width),
        licence=licence if local is None else local.licence,
        pretrained=local is not None or (config is not None and bool(config.has_weights)),
        local=None if local is None else local.detail,
    )


def _parameters(name: str) -> int | None:
    """Parameters of a network laid out on the meta device: shapes without memory."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except (RuntimeError, NotImplementedError, TypeError):  # asks its own tensors for values
        return None
    return sum(parameter.numel() for parameter in model.parameters())
