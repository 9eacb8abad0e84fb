"""The trunk as a fixed function: the features that the head sees, computed once; and the head that they are for."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from imgkit.ahead import Ahead
from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.device import memory_format
from imgkit.errors import UsageError
from imgkit.models.freeze import classifier_names
from imgkit.recipe.heads import by_sgd
from imgkit.solve import Solution

BATCH = 32
"""Images at once where features are computed."""

BY_SGD = f"Train the head by gradients (here where its phase is called head):\n{by_sgd('head')}"


class Features(NamedTuple):
    """What the head sees of N images."""

    values: torch.Tensor  # float32 (N, D)
    targets: torch.Tensor  # int64 (N,), or float32 (N, K) in a multi-label task
    ids: torch.Tensor  # int64 (N,), rows of the index


def extract(
    model: nn.Module, batches: Iterable[Batch], *, preprocessing: Preprocessing, device: torch.device
) -> Iterator[torch.Tensor]:
    """The pooled features that the head layer sees, float32 (B, D), batch by batch.

    The whole model is left in evaluation mode. What it says of an image is the same to the last bit whichever images
    are beside it, since it is always given `BATCH` of them: with fewer, kernels may add up in another order.

    Args:
        model: a timm model.
        batches: the images, at most `BATCH` at a time.
        preprocessing: normalises them.
        device: where the model is.

    Raises:
        UsageError: if the model has no single linear head.
    """
    head_layer(model)
    model.eval()
    coming = Ahead(iter(batches), device)
    for batch in coming:
        n = len(batch.ids)
        with torch.inference_mode():
            images = filled(preprocessing.normalise(batch.images.to(device, non_blocking=True)))
            values = pooled(model, images)[:n].float()
            coming.fetch()
        yield values.cpu()  # device sync


def filled(images: torch.Tensor) -> torch.Tensor:
    """At most `BATCH` images (B, C, H, W) as just so many: the last one again where there are fewer.

    In the device's memory format.
    """
    if len(images) < BATCH:
        images = torch.cat([images, images[-1:].expand(BATCH - len(images), -1, -1, -1)])
    return images.contiguous(memory_format=memory_format(images.device))


def digest(model: nn.Module) -> str:
    """SHA-256, hex, over names, types, shapes and bytes of all tensors of the trunk: all but the head layer's."""
    head = {id(tensor) for tensor in head_layer(model).parameters()}
    found = hashlib.sha256(type(model).__qualname__.encode())
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in head:
            values = tensor.detach().cpu().contiguous()
            found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            found.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def together(chunks: Iterable[Features]) -> Features:
    """Features that came batch by batch (at least one batch) as one."""
    values, targets, ids = zip(*chunks, strict=True)
    return Features(torch.cat(values), torch.cat(targets), torch.cat(ids))


def pooled(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Normalised images (B, C, H, W) -> what the head layer multiplies, (B, D)."""
    trunk: Any = model
    found: torch.Tensor = trunk.forward_head(trunk.forward_features(images), pre_logits=True)
    return found.flatten(1)  # (B, D, 1, 1) -> (B, D) where the head is a convolution


def answer(
    model: nn.Module, images: torch.Tensor, run: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> torch.Tensor:
    """Logits (B, K) of normalised images (B, C, H, W), or of the features (B, D) that `extract` gave of them.

    Images go through `run`, if it is given: the model, compiled.
    """
    if images.dim() == 4:
        logits: torch.Tensor = (run or model)(images.contiguous(memory_format=memory_format(images.device)))
        return logits
    head = head_layer(model)
    shaped = images if isinstance(head, nn.Linear) else images[:, :, None, None]
    found: torch.Tensor = head(shaped)
    return found.flatten(1)


def head_layer(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last layer: a linear one, or a 1 x 1 convolution that amounts to one.

    Raises:
        UsageError: if the model has another kind of head, several heads, or none.
    """
    timm_like: Any = model
    known = hasattr(model, "get_classifier") and hasattr(model, "forward_head")
    head = timm_like.get_classifier() if known else None
    if isinstance(head, nn.Linear):
        return head
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        return head
    kind = "no head of its own" if head is None or isinstance(head, nn.Identity) else f"a head of {type(head).__name__}"
    kind = "a head of several layers" if isinstance(head, nn.Sequential) else kind
    raise UsageError(f"{type(model).__name__} has {kind}; only a single linear head can be solved", BY_SGD)


def left_by_a_solve(model: nn.Module) -> list[str]:
    """Layers that count as head and are not the last one: a solve leaves them as they are."""
    solved = {id(parameter) for parameter in head_layer(model).parameters()}
    parameters = dict(model.named_parameters())
    left = (name for name in classifier_names(model) if id(parameters[name]) not in solved)
    return list(dict.fromkeys(name.rpartition(".")[0] for name in left))


def check_solvable(model: nn.Module, images: torch.Tensor) -> None:
    """See that `load_solution` would make the network answer what was solved. It is left in evaluation mode.

    Some networks answer with more than their head: VOLO adds half of what a second one says.

    Args:
        model: a timm model.
        images: normalised, (B, C, H, W), on its device; random ones will do.

    Raises:
        UsageError: as `head_layer`, and if the head has no bias or the network adds to what it answers.
    """
    head = head_layer(model)
    if head.bias is None:
        raise UsageError(f"the head of {type(model).__name__} has no bias; it cannot be solved", BY_SGD)
    model.eval()
    with torch.inference_mode():
        answer = model(images)
        weight = head.weight.flatten(1)  # a convolution's (K, D, 1, 1) -> (K, D)
        expected = pooled(model, images) @ weight.T + head.bias
    if not torch.allclose(answer, expected, rtol=1e-2, atol=1e-2 * float(answer.abs().max())):
        raise UsageError(f"{type(model).__name__} adds to what its head answers; it cannot be solved", BY_SGD)


def load_solution(model: nn.Module, solution: Solution) -> None:
    """Copy a solved head into the model, in place; `check_solvable` had nothing against it."""
    head = head_layer(model)
    assert head.bias is not None
    with torch.no_grad():
        head.weight.copy_(solution.weight.view_as(head.weight))
        head.bias.copy_(solution.bias)
