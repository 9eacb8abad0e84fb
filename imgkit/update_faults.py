"""What can be wrong with an update, and what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imgkit.errors import DivergedError, UsageError
from imgkit.loss_scale import WIDER
from imgkit.recipe.plan import PhasePlan

_SMALLEST = 32  # px: most networks halve an image five times, so nothing is left of a smaller one


def finite(number: float) -> bool:
    """Whether it is neither infinite nor NaN."""
    return number - number == 0.0


@contextmanager
def one_image_told(phase: PhasePlan) -> Iterator[None]:
    """Batch norm has no variance of a single number: say which part of a batch has one image, and what to do."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        batch, micro = phase.settings.batch_size, phase.settings.micro_batch
        parts = f"a batch of {batch}" if micro is None else f"a batch of {batch} in parts of {micro}"
        raise UsageError(
            f"Batch norm in training mode needs two images at once where maps are 1×1, and phase {phase.name!r} takes "
            f"{parts}.",
            f"Keep its statistics: --set phases.{phase.name}.batch_norm=frozen; or take other parts, or larger images.",
        ) from error


def diverged(
    loss: float,
    norm: float,
    step: int,
    phase: PhasePlan,
    lr: float,
    size: tuple[int, int],
    autocast: torch.dtype | None,
) -> DivergedError:
    """The error for a loss or a gradient that is not finite, at a rate `lr` and with images of (height, width) px."""
    what, value = ("gradient", norm) if finite(loss) else ("loss", loss)
    small = f" Images of {size[0]}×{size[1]} px are likely too small: try --image-size {_SMALLEST} or more."
    # A loss scale acts on gradients alone: what overflows on the way to the loss, no smaller scale mends.
    narrow = f"\nIn float16 numbers above 65504 overflow. {WIDER}" * (autocast is torch.float16)
    rate = f"--set phases.{phase.name}.lr={(phase.lr or lr) / 10:.1g}"
    kind = "float32" if autocast is None else str(autocast).removeprefix("torch.")
    exact = "" if autocast in (None, torch.float16) else ", or with more exact numbers: --set train.precision=float32"
    return DivergedError(
        f"The {what} is {value} at step {step + 1} of phase {phase.name!r}, lr {lr:.3g}, in {kind}.",
        f"Start again with a tenth of the rate: {rate}{exact}{small * (min(size) < _SMALLEST)}{narrow}",
    )
