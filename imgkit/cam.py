"""Grad-CAM: from which places of a picture the score of a class came.

Selvaraju et al. 2017 (https://arxiv.org/abs/1610.02391). Of the maps A_k that the head reads, each weighs by the mean
over its places of the gradient of the class's logit, and what is negative of their weighted sum is cut off. No layer is
named: the maps are what timm's `forward_features` gives and `forward_head` takes.

A head that reads the class token alone has no gradient at the other tokens, and the map would be blank. For such
networks the maps are what the last block takes in, where the class token still looks at the others: what is usual for
transformers (Gildenblat et al., pytorch-grad-cam, which takes the first norm of that block).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class NoMap(Exception):
    """A network of which no map can be made; the text says why."""


def grad_cam(model: nn.Module, images: Tensor, codes: Tensor) -> Tensor:
    """Where in each image the logit of a class came from.

    The network is left as it was: modes, gradients, buffers. Only the head, or what follows the input of the last
    block, is differentiated, so that little memory is taken beyond that of a prediction.

    Args:
        model: a network with timm's `forward_features` and `forward_head`, on its device.
        images: normalised, (B, C, H, W), on that device.
        codes: the class of each image, int64 (B,).

    Returns:
        Maps (B, h, w) in [0, 1], the greatest value of each 1, or all of it 0 where no place speaks for the class; as
        many places as the network has left, on the CPU.

    Raises:
        NoMap: if the network has no maps, leaves a single place of the image, or reads no token that stands for one.
    """
    network: Any = model
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise NoMap(f"{type(model).__name__} has no forward_features and forward_head")
    with _in_evaluation(model), torch.no_grad(), _input_of_last_block(model, len(images)) as taken:
        found = network.forward_features(images)
        if not isinstance(found, Tensor):
            raise NoMap(f"{type(model).__name__} gives its head {type(found).__name__}, which is no map")
        torch.set_grad_enabled(True)  # until no_grad ends
        read = found if found.requires_grad else found.requires_grad_()
        # A layer of the head may write into what it is given, which is not allowed where a gradient is asked for.
        logits: Tensor = network.forward_head(read.clone())
        score = logits.gather(1, codes[:, None]).sum()  # no image sees another one in evaluation
        candidates = [read, *taken]
        gradients = torch.autograd.grad(score, candidates, allow_unused=True)
    size = (images.shape[2], images.shape[3])
    for maps, gradient in zip(candidates, gradients, strict=True):
        values = _in_places(maps.detach(), model, size)
        slopes = torch.zeros_like(values) if gradient is None else _in_places(gradient, model, size)
        if values.shape[2] * values.shape[3] == 1:
            raise NoMap(f"{type(model).__name__} leaves a single place of {size[0]} × {size[1]} pixels to its head")
        if maps.ndim == 4 or slopes.any():  # device sync
            weights = slopes.mean(dim=(2, 3), keepdim=True)  # (B, K, 1, 1)
            cam = (weights * values).sum(dim=1).relu().float().cpu()  # (B, K, h, w) -> (B, h, w)
            return cam / cam.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(cam.dtype).tiny)
    raise NoMap(f"the head of {type(model).__name__} reads no token that stands for a place")


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module's own mode afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def _input_of_last_block(model: nn.Module, images: int) -> Iterator[list[Tensor]]:
    """While inside, what the last block of tokens takes in is put into the list, and gradients are recorded from it on.

    Nothing is, where the network has no `blocks` or these take no tokens (B, N, K) of so many images.
    """
    blocks, taken = getattr(model, "blocks", None), list[Tensor]()

    def take(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if not (given and isinstance(given[0], Tensor) and given[0].ndim == 3 and len(given[0]) == images):
            return given
        torch.set_grad_enabled(True)
        taken.append(given[0].detach().requires_grad_())
        return (taken[-1].clone(), *given[1:])

    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        yield taken
        return
    handle = blocks[-1].register_forward_pre_hook(take)
    try:
        yield taken
    finally:
        handle.remove()


def _in_places(found: Tensor, model: nn.Module, size: tuple[int, int]) -> Tensor:
    """Maps in any layout -> (B, K, h, w): (B, K, h, w), (B, h, w, K), or tokens (B, N, K) in rows of the image.

    Raises:
        NoMap: if they are not in places.
    """
    channels = getattr(model, "num_features", None)
    if found.ndim == 4:
        last = found.shape[3] == channels and found.shape[1] != channels
        return found.permute(0, 3, 1, 2) if last else found
    if found.ndim == 3:
        for others in dict.fromkeys((getattr(model, "num_prefix_tokens", 0), 0, 1)):  # CaiT's blocks have one fewer
            height, width = _grid(found.shape[1] - others, size)
            if height:
                places: Tensor = found[:, others:].unflatten(1, (height, width))  # (B, h * w, K) -> (B, h, w, K)
                return places.permute(0, 3, 1, 2)
    raise NoMap(f"{type(model).__name__} gives its head {tuple(found.shape[1:])} numbers an image, not by place")


def _grid(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of so many tokens over an image of `size`, in its proportions; (0, 0): they are no grid."""
    ratio, tokens = size[0] / size[1], max(tokens, 0)
    height, width = round((tokens * ratio) ** 0.5), round((tokens / ratio) ** 0.5)
    return (height, width) if height * width == tokens else (0, 0)
