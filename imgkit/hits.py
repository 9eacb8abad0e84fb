"""Right answers on training images, counted while they are trained on."""

from typing import NamedTuple

import torch
from torch import Tensor

from imgkit.recipe.monitors import TOPK


class Hits(NamedTuple):
    """Of `images` images, how many had their label first, and how many among the first min(TOPK, K)."""

    images: int = 0
    top1: int = 0
    topk: int = 0

    def plus(self, more: "Hits") -> "Hits":
        """The sum of both."""
        return Hits(self.images + more.images, self.top1 + more.top1, self.topk + more.topk)


NO_HITS = Hits()


def hits_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels (B,) that logits (B, K) have first, and among the first min(TOPK, K), as float32 (2,) on their device.

    Of equal logits the class of the lower number comes first, as in `metrics.score`.
    """
    own = logits.gather(1, labels[:, None])
    numbers = torch.arange(logits.shape[1], device=logits.device)
    before = ((logits > own) | ((logits == own) & (numbers < labels[:, None]))).sum(dim=1)
    return torch.stack([(before < 1).sum(), (before < min(TOPK, logits.shape[1])).sum()]).float()
