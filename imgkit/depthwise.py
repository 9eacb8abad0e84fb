"""Gradients of depthwise convolutions in bfloat16 on a CPU, which take longer there than all other layers together.

oneDNN, by which torch computes convolutions, has no quick kernel for two of them (measured with torch 2.14, an AVX-512
processor, two threads): of the weights of kernels larger than 3 x 3, and of the input where the stride is not 1. An
update of tf_efficientnet_lite0 spends more than half of its time on eleven such layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

_BLOCK = 3  # the largest kernel whose weights' gradient is quick
_LARGEST = 5  # from 7 x 7 on, the nine blocks of a kernel take as long as it does (convnext_atto)
_BACKWARD = torch.ops.aten.convolution_backward.default


@contextmanager
def quick_depthwise(device: torch.device, autocast: torch.dtype | None) -> Iterator[None]:
    """Within it, a backward pass in bfloat16 on a CPU computes these gradients in another way; others are as they are.

    That of a kernel of 5 x 5 is put together from blocks of 3 x 3, each of which belongs to a convolution of shifted
    images; that of the input is computed in float32 and rounded once. Sums are the same but for their order.
    """
    if device.type != "cpu" or autocast is not torch.bfloat16:
        yield
        return
    with _Quick():  # type: ignore[no-untyped-call]
        yield


class _Quick(TorchDispatchMode):
    """Every operation on tensors passes here; all but the backward passes of convolutions go on as they are."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if func is _BACKWARD and not kwargs and _is_depthwise(args):
            return _gradients(args)
        return func(*args, **(kwargs or {}))


def _is_depthwise(args: Sequence[Any]) -> bool:
    """Whether these are arguments of an undilated depthwise convolution in bfloat16."""
    gradient, images, weight, _, _, _, dilation, transposed, _, groups, _ = args
    return (
        images.dim() == 4
        and not transposed
        and set(dilation) == {1}
        and groups == images.shape[1] == weight.shape[0]
        and weight.shape[1] == 1
        and {tensor.dtype for tensor in (gradient, images, weight)} == {torch.bfloat16}
    )


def _gradients(args: Sequence[Any]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of the images (B, C, H, W), the weights (C, 1, KH, KW) and the bias (C,), those that are asked for."""
    gradient, images, weight, bias, stride, padding, *rest, (of_images, of_weight, of_bias) = args
    sides = weight.shape[2:]
    in_blocks = of_weight and min(sides) >= _BLOCK < max(sides) <= _LARGEST
    widened = of_images and set(stride) != {1}
    asked = [of_images and not widened, of_weight and not in_blocks, of_bias]
    found: list[Tensor | None] = [None, None, None]
    if any(asked):
        found[:] = _BACKWARD(gradient, images, weight, bias, stride, padding, *rest, asked)
    if widened:
        like = torch.empty_like(images, dtype=torch.float32)  # its values do not matter
        wide = _BACKWARD(gradient.float(), like, weight.float(), bias, stride, padding, *rest, [True, False, False])
        found[0] = wide[0].to(images.dtype)
    if in_blocks:
        found[1] = _weights_in_blocks(gradient, images, weight, stride, padding, rest)
    return found[0], found[1], found[2]


def _weights_in_blocks(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], rest: Sequence[Any]
) -> Tensor:
    """The gradient of `weight` (C, 1, KH, KW), from blocks of 3 x 3 that may overlap."""
    if any(padding):
        images = pad(images, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = (step * (size - 1) + _BLOCK for step, size in zip(stride, gradient.shape[2:], strict=True))
    block = weight[:, :, :_BLOCK, :_BLOCK]
    found = torch.empty_like(weight)
    for top in _starts(weight.shape[2]):
        for left in _starts(weight.shape[3]):
            seen = images[:, :, top : top + rows, left : left + columns]
            part = _BACKWARD(gradient, seen, block, None, stride, [0, 0], *rest, [False, True, False])[1]
            found[:, :, top : top + _BLOCK, left : left + _BLOCK] = part
    return found


def _starts(size: int) -> list[int]:
    """Where blocks begin that cover so many places."""
    return sorted({*range(0, size - _BLOCK + 1, _BLOCK), size - _BLOCK})
