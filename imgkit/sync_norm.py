"""Batch norm over the images of all ranks: `train.batch_norm = "sync"`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from imgkit.world import World


@contextmanager
def synced(world: World | None) -> Iterator[None]:
    """Within it, a batch norm in training mode takes mean and variance over the images of all ranks.

    So they do what one process does with the whole batch (Ioffe and Szegedy 2015), for two exchanges a layer and pass.
    torch.nn.SyncBatchNorm does so on GPUs alone, and would change the network's layers.
    """
    if world is None:
        yield
        return
    with _Synced(world):
        yield


class _Synced(TorchFunctionMode):
    """Every function of torch passes here; all but batch norms go on as they are."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  (whatever the function returns)
        if func is functional.batch_norm:
            return _batch_norm(self._world, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    world: World,
    input: Tensor,  # noqa: A002  (torch's name)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch's, of maps (B, C, ...), with statistics over all ranks where it is `training`."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values, dims = input.float(), [0, *range(2, input.dim())]
    shape = [1, -1, *[1] * (input.dim() - 2)]  # (C,) -> (1, C, 1, ...)
    n = values.numel() // values.shape[1] * world.size
    mean = _total(world, values.sum(dims)) / n  # (C,)
    centred = values - mean.view(shape)
    variance = _total(world, (centred * centred).sum(dims)) / n
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (n / max(1, n - 1))).to(running_var.dtype), momentum)
    found = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        found = found * weight.view(shape)
    if bias is not None:
        found = found + bias.view(shape)
    return found.to(input.dtype)


def _total(world: World, values: Tensor) -> Tensor:
    """The sum of the tensors of all ranks; its gradient is the sum of their gradients."""
    found: Tensor = _Total.apply(world, values)
    return found


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, world: World, values: Tensor) -> Tensor:  # noqa: ANN401
        ctx.world = world
        total = values.clone()
        world.add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        total = gradients[0].clone()
        ctx.world.add_up(total)
        return None, total
