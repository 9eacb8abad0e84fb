"""Gradient checkpointing: activations that are computed again while the gradient is, instead of being kept.

Chen et al. 2016. Less memory for about a third more time; loss and gradient are the same up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imgkit.errors import UsageError


def set_grad_checkpointing(model: nn.Module, on: bool) -> None:
    """Switch gradient checkpointing of a timm network on or off.

    Raises:
        UsageError: if it is to be on and the network does not have it.
    """
    network: Any = model
    try:
        if on or hasattr(model, "set_grad_checkpointing"):
            network.set_grad_checkpointing(on)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        if not on:
            return
        raise UsageError(
            f"{type(model).__name__} has no gradient checkpointing, which train.grad_checkpointing asks for.",
            "Leave it out, and take smaller parts of a batch to save memory: --micro-batch",
        ) from error


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """While inside, batch norms normalise by their batch as before and leave their running statistics alone.

    A forward pass that is repeated for the gradient would count each batch twice.
    """
    found = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in found if norm.track_running_stats]
    for norm, _, _ in before:
        # The repeated pass has to do what the first one did, so the statistics are updated, by nothing.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
