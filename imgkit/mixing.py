"""Mixed batches: each picture with the one before it, their targets in the same shares.

mixup (Zhang et al. 2018) adds two pictures up; CutMix (Yun et al. 2019) puts a box of one into the other. What is drawn
is a pure function of a key, and the same for the whole batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from imgkit.keys import uniforms
from imgkit.recipe.augment import AugmentSettings


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed.

    Args:
        share: of a picture's own target, in [0, 1]; the rest is its partner's.
        box: (left, top, right, bottom) of the part that comes from the partner, in pixels; None: all pixels are added
            up in these shares.
    """

    share: float
    box: tuple[int, int, int, int] | None

    def images(self, own: Tensor, others: Tensor) -> Tensor:
        """Mixed pictures: two tensors float (B, C, H, W) -> one; `own` may be changed."""
        if self.box is None:
            return others.lerp(own, self.share)
        left, top, right, bottom = self.box
        own[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return own

    def targets(self, own: Tensor, others: Tensor, classes: int) -> Tensor:
        """Mixed targets, float (B, K).

        Args:
            own: int64 (B,), or float (B, K).
            others: of the same form.
            classes: K.
        """
        return _soft(others, classes).lerp(_soft(own, classes), self.share)


def draw_mix(augment: AugmentSettings, key: int, size: tuple[int, int], strength: float = 1.0) -> Mix | None:
    """How the batch of a step is mixed; None where it stays as it is.

    The share is drawn from Beta(alpha, alpha). Where mixup and CutMix are both on, each has half of the batches. A box
    of CutMix has the share's complement of the area and a uniform centre; the share is that of the pixels after the
    box was cut at the edges.

    Args:
        augment: has the keys `mixup`, `cutmix`, `mix_p`.
        key: 64-bit number of (seed, step).
        size: (height, width) of the pictures, pixels.
        strength: in [0, 1], times the probability.
    """
    if not augment.mixes:
        return None
    happens, which, quantile, across, down = uniforms(key, 5)
    if happens >= augment.mix_p * strength:
        return None
    if augment.cutmix == 0 or (augment.mixup > 0 and which < 0.5):
        return Mix(_beta(quantile, augment.mixup), None)
    height, width = size
    side = math.sqrt(1 - _beta(quantile, augment.cutmix))
    left, right = _span(across, side, width)
    top, bottom = _span(down, side, height)
    return Mix(1 - (right - left) * (bottom - top) / (height * width), (left, top, right, bottom))


def partners(batch: Tensor) -> Tensor:
    """The partner of each picture or target of a batch (B, ...): the one before it; the last one's is the first's."""
    return batch.roll(1, 0)


def _span(centre: float, share: float, length: int) -> tuple[int, int]:
    """A part of a side, cut at its ends: (first pixel, the one after the last)."""
    middle, half = int(centre * length), int(share * length) / 2
    return max(0, round(middle - half)), min(length, round(middle + half))


def _beta(quantile: float, alpha: float) -> float:
    """The quantile of Beta(alpha, alpha)."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, quantile))


def _soft(targets: Tensor, classes: int) -> Tensor:
    if targets.is_floating_point():
        return targets
    return functional.one_hot(targets, classes).to(torch.float32)
