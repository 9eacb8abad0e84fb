"""Losses: what an update makes smaller.

A factory takes the loss's table of the recipe and what may be known of the training labels. It gives a function of
logits (B, K), float, and targets that returns the mean over the batch as a scalar. Targets are int64 (B,) in [0, K) in
the task "single", or after mixing float (B, K), shares that sum to 1; in the task "multilabel" float (B, K) in [0, 1].

Where timm has the loss, its code is used. A class weight multiplies the whole loss of an image, as a sample weight does
in a solved head, and not the terms of its smoothed target one by one; the mean stays one over the images, so that parts
of a batch add up to the batch. After mixing, the weight is the mean of the classes' weights by their shares.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.loss import (
    AsymmetricLossMultiLabel,
    AsymmetricLossSingleLabel,
    BinaryCrossEntropy,
    DistributionBalancedLoss,
    PolyBinaryCrossEntropy,
    PolyCrossEntropy,
    TwoWayLoss,
    ZlprLoss,
)
from torch import Tensor
from torch.nn import functional

from imgkit.class_weights import log_shares
from imgkit.data.index import Index, Ints
from imgkit.recipe.fields import Task
from imgkit.recipe.losses import (
    Asymmetric,
    Bce,
    CrossEntropy,
    DistributionBalanced,
    Focal,
    LogitAdjusted,
    LossSettings,
    Poly,
    TwoWay,
    Zlpr,
)
from imgkit.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """What a loss may know of the training labels.

    Attributes:
        task: of the data.
        counts: training images with each label, int64 (K,).
        images: training images.
        weights: of classes ("single") or of labels that are there ("multilabel"), float32 (K,); None: all are 1.
        device: where the logits are.
    """

    task: Task
    counts: Ints
    images: int
    weights: Tensor | None = None
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, index: Index, weights: Mapping[str, float] | None, device: torch.device) -> "LabelFacts":
        """Those of the training images of an index; `weights` by class name."""
        values = None if weights is None else torch.tensor([weights[name] for name in index.classes], device=device)
        return cls(index.task, index.counts("train"), len(index.rows("train")), values, device)


LOSSES: Registry[Callable[[Any, LabelFacts], Loss]] = Registry("loss")


def make_loss(settings: LossSettings, labels: LabelFacts) -> Loss:
    """The loss that `settings` describes, for the task of `labels`, which is one of `settings.TASKS`.

    Raises:
        UsageError: if no loss has that name.
    """
    return LOSSES[settings.name](settings, labels)


@LOSSES.register("cross_entropy")
def cross_entropy(settings: CrossEntropy, labels: LabelFacts) -> Loss:
    """Cross-entropy; smoothing mixes the label with the uniform distribution (Szegedy et al. 2016)."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = settings.label_smoothing
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")

    return _weighted(loss, labels.weights)


@LOSSES.register("logit_adjusted")
def logit_adjusted(settings: LogitAdjusted, labels: LabelFacts) -> Loss:
    """Cross-entropy of logits + tau * log(share of train) (Menon et al. 2021); logits alone answer later."""
    shift = torch.from_numpy(settings.tau * log_shares(labels.counts)).float().to(labels.device)  # (K,)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits + shift, targets, label_smoothing=settings.label_smoothing)

    return loss


@LOSSES.register("bce")
def bce(settings: Bce, labels: LabelFacts) -> Loss:
    """Binary cross-entropy, the mean over labels and images: timm's; smoothing moves each target towards 1/2."""
    loss: Loss = BinaryCrossEntropy(settings.label_smoothing, pos_weight=labels.weights, smooth_dense=True)
    return loss


@LOSSES.register("focal")
def focal(settings: Focal, labels: LabelFacts) -> Loss:
    """Focal loss: (1 - p)**gamma * -log p of what is true (Lin et al. 2017), over a softmax or in each label.

    A soft target has the mean of what its classes, or its two answers, would cost.
    """

    def softmax(logits: Tensor, targets: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, dim=1)  # (B, K)
        if targets.dim() == 1:
            log_p = log_p.gather(1, targets[:, None])  # (B, K) -> (B, 1)
        cost = -_power(-torch.expm1(log_p), settings.gamma) * log_p
        return cost.squeeze(1) if targets.dim() == 1 else (targets * cost).sum(dim=1)

    def sigmoid(logits: Tensor, targets: Tensor) -> Tensor:
        there = _power(torch.sigmoid(-logits), settings.gamma) * functional.softplus(-logits)  # (B, K)
        absent = _power(torch.sigmoid(logits), settings.gamma) * functional.softplus(logits)
        if settings.alpha is not None:
            there, absent = settings.alpha * there, (1.0 - settings.alpha) * absent
        return (targets * there + (1.0 - targets) * absent).mean()

    if labels.task == "multilabel":
        return sigmoid
    scale = 1.0 if settings.alpha is None else settings.alpha
    return _weighted(lambda logits, targets: scale * softmax(logits, targets), labels.weights)


@LOSSES.register("asymmetric")
def asymmetric(settings: Asymmetric, labels: LabelFacts) -> Loss:
    """Asymmetric loss (Ridnik et al. 2021): timm's; a sum over labels and a mean over images, as in the paper."""
    there, absent, smoothing = settings.gamma_pos, settings.gamma_neg, settings.label_smoothing
    if labels.task == "multilabel":
        many: Loss = AsymmetricLossMultiLabel(absent, there, settings.clip, smoothing=smoothing)
        return many
    one: Loss = AsymmetricLossSingleLabel(there, absent, smoothing, reduction="none")
    return _weighted(one, labels.weights)


@LOSSES.register("poly")
def poly(settings: Poly, labels: LabelFacts) -> Loss:
    """Poly-1 (Leng et al. 2022): timm's; cross-entropy + epsilon * (1 - p)."""
    if labels.task == "multilabel":
        many: Loss = PolyBinaryCrossEntropy(settings.epsilon, smoothing=settings.label_smoothing)
        return many
    one: Loss = PolyCrossEntropy(settings.epsilon, reduction="none")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        # timm smooths labels but not soft targets; here both are.
        shares = functional.one_hot(targets, logits.shape[1]).float() if targets.dim() == 1 else targets
        smoothing = settings.label_smoothing
        return one(logits, shares * (1.0 - smoothing) + smoothing / logits.shape[1])

    return _weighted(loss, labels.weights)


@LOSSES.register("two_way")
def two_way(settings: TwoWay, labels: LabelFacts) -> Loss:
    """Two-way loss (Kobayashi 2023): timm's. It also compares images, so parts of a batch do not add up to it."""
    loss: Loss = TwoWayLoss(settings.positive_temperature, settings.negative_temperature)
    return loss


@LOSSES.register("zlpr")
def zlpr(settings: Zlpr, labels: LabelFacts) -> Loss:
    """ZLPR (Su et al. 2022): timm's; log(1 + sum of exp(s)) over absent labels, and of exp(-s) over the others."""
    loss: Loss = ZlprLoss()
    return loss


@LOSSES.register("distribution_balanced")
def distribution_balanced(settings: DistributionBalanced, labels: LabelFacts) -> Loss:
    """Distribution-balanced loss (Wu et al. 2020): timm's, with the label counts of train."""
    loss: Loss = DistributionBalancedLoss(
        torch.from_numpy(labels.counts),
        max(2, labels.images),  # timm wants a number that leaves room for a label that is there and absent
        neg_scale=settings.negative_scale,
        init_bias=settings.prior_shift,
        focal_gamma=settings.gamma,
        smoothing=settings.label_smoothing,
    ).to(labels.device)
    return loss


def _weighted(per_image: Loss, weights: Tensor | None) -> Loss:
    """The mean over the batch of a loss (B,) of single-label images, each times the weight of its class."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        values = per_image(logits, targets)
        if weights is None:
            return values.mean()
        return (values * (weights[targets] if targets.dim() == 1 else targets @ weights)).mean()  # (B,) -> ()

    return loss


def _power(missing: Tensor, gamma: float) -> Tensor:
    """(1 - p)**gamma, given 1 - p. At 0 a gamma below 1 has an infinite slope, which times 0 would be NaN."""
    return missing.clamp(min=torch.finfo(missing.dtype).tiny) ** gamma
