"""Numbers that are no longer finite, put into a training at one step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from imgkit import setup
from imgkit.data.batches import Batch
from imgkit.trainer import Trainer

Change = Callable[[Trainer, float], None]


class Poison(torch.autograd.Function):
    """A value as it is, whose gradient is what is asked for."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: float) -> Tensor:  # noqa: ANN401
        ctx.gradient = gradient
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ANN401
        return torch.full_like(gradients[0], ctx.gradient), None


def soft(targets: Tensor, value: float) -> Tensor:
    """Labels (B,) as shares (B, 3), the first image's of no meaning."""
    shares = one_hot(targets, 3).float()
    shares[0] = value
    return shares


LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "label": lambda logits, targets, value: cross_entropy(logits, soft(targets, value)),
    "loss": lambda logits, targets, value: cross_entropy(logits, targets) + value,
    "gradient": lambda logits, targets, value: Poison.apply(cross_entropy(logits, targets), value),
    "one class": lambda logits, targets, value: cross_entropy(logits, torch.zeros_like(targets)),
}


def in_weights(trainer: Trainer, value: float) -> None:
    next(iter(trainer.model.parameters())).data[0] = value


def in_averages(trainer: Trainer, value: float) -> None:
    assert trainer.averaged is not None
    next(iter(trainer.averaged.module.parameters())).data[0] = value


def in_moments(trainer: Trainer, value: float) -> None:
    assert trainer._optimizer is not None
    next(iter(trainer._optimizer.state.values()))["exp_avg_sq"].fill_(value)


AFTER: dict[str, Change] = {"weights": in_weights, "averages": in_averages, "moments": in_moments}


@contextmanager
def poisoned(fault: str, value: float, at: int) -> Iterator[list[Batch]]:
    """Put `value` somewhere at the update that gives step `at`; the list gets the batch of that update."""
    now, hit = 0, list[Batch]()
    update, pixels, make_loss = Trainer._update, Trainer._pixels, setup.make_loss

    def counted(self: Trainer, phase: Any, batch: Batch, step: int, *more: Any) -> Any:  # noqa: ANN401
        nonlocal now
        now = step + 1
        if now == at:
            hit.append(batch)
        found = update(self, phase, batch, step, *more)
        if now == at and fault in AFTER:
            AFTER[fault](self, value)
        return found

    def seen(self: Trainer, images: Tensor) -> Tensor:
        found = pixels(self, images)
        if now == at and fault == "input":
            found[0] = value
        return found

    def lossy(*given: Any) -> Any:  # noqa: ANN401
        own = make_loss(*given)

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            strange = fault in LOSSES and (now == at or (now > at and fault == "one class"))
            return LOSSES[fault](logits, targets, value) if strange else own(logits, targets)

        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", counted)
        patch.setattr(Trainer, "_pixels", seen)
        patch.setattr(setup, "make_loss", lossy)
        yield hit
