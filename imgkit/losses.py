"""Losses: what an update makes smaller.

A factory takes the loss's table of the recipe and gives a function of logits (B, K), float, and targets, that returns
the mean over the batch as a scalar. Targets are int64 (B,) in [0, K), or, where pictures were mixed, float (B, K): the
share of each class.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imgkit.recipe.losses import CrossEntropy, Focal, LossSettings
from imgkit.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Callable[[Any], Loss]] = Registry("loss")


def make_loss(settings: LossSettings) -> Loss:
    """The loss that `settings` describes.

    Raises:
        UsageError: if no loss has that name.
    """
    return LOSSES[settings.name](settings)


@LOSSES.register("cross_entropy")
def cross_entropy(settings: CrossEntropy) -> Loss:
    """Cross-entropy; smoothing mixes the label with the uniform distribution (Szegedy et al. 2016)."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)

    return loss


@LOSSES.register("focal")
def focal(settings: Focal) -> Loss:
    """Focal loss over a softmax: alpha * (1 - p)**gamma * -log p of the label (Lin et al. 2017).

    Of a mixed target, the labels' losses in their shares.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, dim=1)  # (B, K)
        if not targets.is_floating_point():
            log_p = log_p.gather(1, targets[:, None]).squeeze(1)  # (B, K) -> (B,)
        # 1 - p without cancellation. At p = 1 a gamma below 1 has an infinite slope, which times 0 would be NaN.
        missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(logits.dtype).tiny)
        loss = -settings.alpha * missing**settings.gamma * log_p
        return (targets * loss).sum(dim=1).mean() if targets.is_floating_point() else loss.mean()

    return loss
