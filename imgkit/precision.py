"""The number formats of training by name, and which one a run gets."""

from collections.abc import Sequence

import torch
from torch import nn

from imgkit.device import choose_precision
from imgkit.recipe.plan import PhasePlan
from imgkit.recipe.schema import Recipe

FORMATS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in, by the words of `train.precision` and run.json; None: no autocast."""


def format_name(autocast: torch.dtype | None) -> str:
    """The word for a format."""
    return next(name for name, dtype in FORMATS.items() if dtype is autocast)


def choose_format(
    phases: Sequence[PhasePlan],
    recipe: Recipe,
    model: nn.Module,
    device: torch.device,
    image_size: tuple[int, int],
    *,
    smoke: bool,
) -> tuple[torch.dtype | None, str]:
    """The number format of updates, decided once, and why; a `smoke` run is too short to measure for.

    `phases` are those whose updates go through the network.
    """
    if recipe.train.precision != "auto":
        return FORMATS[recipe.train.precision], f"{recipe.train.precision}: asked for"
    if recipe.run.deterministic:
        return None, "float32: deterministic runs do not choose by a measurement"
    if smoke:
        return None, "float32: a smoke run does not choose by a measurement"
    batches = [phase.settings.micro_batch or phase.settings.batch_size for phase in phases]
    if not batches:
        return None, "float32: no update goes through the network"
    return choose_precision(model, device, image_size, max(batches), recipe.model.in_chans)
