"""`[augment]`: what may happen to a training image."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from imgkit.recipe.fields import Area, Length, Probability, Range, Share, Strict


def _check_jitter(jitter: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if min(jitter) < 0 or jitter[3] > 0.5:
        raise ValueError(f"needs numbers >= 0 and a hue (the last) of at most 0.5, got {list(jitter)}")
    return jitter


Byte = Annotated[int, Field(ge=0, le=255)]


class AugmentSettings(Strict):
    """`[augment]`: what happens to a training image, keyed by (seed, epoch, sample), in the order of these keys."""

    # gives values to the keys below that have none of their own: imgkit/recipe/presets.py
    preset: Literal["none", "light", "medium", "strong"] | None = None
    # area share of a random resized crop; None: `scale_jitter`, or else the evaluation crop
    crop: Area | None = (0.5, 1.0)
    scale_jitter: Range | None = None  # of the evaluation's scale; random place
    ratio: Range = (
        3 / 4,
        4 / 3,
    )  # aspect ratio of that crop; under another fit than crop, relative to the picture's
    hflip: Probability = 0.5  # probability of a mirror image
    vflip: Probability = 0.0  # probability of an image upside down
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0  # degrees, at most, either way
    translate: Share = 0.0  # share of each side, at most, either way
    scale: Range | None = None  # times the size, about the centre
    shear: Annotated[float, Field(ge=0.0, lt=90.0)] = 0.0  # degrees, at most, along both sides, either way
    fill: Literal["mean"] | tuple[Byte, Byte, Byte] = "mean"  # colour (RGB) of what is moved in from outside
    policy: Literal["randaugment", "trivialaugment", "augmix"] | None = None  # a published set of operations
    policy_p: Probability = 1.0  # probability of the policy
    policy_ops: Annotated[int, Field(ge=1, le=14)] = 2  # of randaugment, one after another
    policy_magnitude: Annotated[int, Field(ge=0, le=30)] = 9  # of randaugment; a third of it is augmix's severity
    jitter: Annotated[tuple[float, float, float, float], AfterValidator(_check_jitter)] | None = None  # at most, of
    # brightness, contrast, saturation, hue
    jitter_p: Probability = 1.0  # probability of the jitter
    gray: Probability = 0.0  # probability of taking the colour away
    blur: Probability = 0.0  # probability of a Gaussian blur, sigma up to 2 pixels of 224
    erase: Probability = 0.0  # probability of a box of noise, 2 to 33 % of the area
    mixup: Annotated[float, Field(ge=0.0)] = 0.0  # alpha of its Beta(alpha, alpha); 0: off
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0  # alpha likewise; with both, each mixes every second batch or so
    mix_p: Probability = 1.0  # probability that a batch is mixed
    ramp: Length = "0%"  # of the phase; strength grows from 0 to full over it, epoch by epoch

    @property
    def moves(self) -> bool:
        """Whether pictures are rotated, moved, scaled or sheared."""
        return self.rotate > 0 or self.translate > 0 or self.scale is not None or self.shear > 0

    @property
    def mixes(self) -> bool:
        """Whether pictures and targets of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def can_ramp(self) -> bool:
        """Whether anything is on that has a strength; framing and flips have none."""
        chances = self.gray, self.blur, self.erase
        return self.moves or self.mixes or self.policy is not None or self.jitter is not None or max(chances) > 0


@dataclass(frozen=True)
class Ramp:
    """How strong the augmentation of a phase is, a pure function of the epoch.

    Args:
        first_epoch: of the phase.
        epochs: over which the strength grows; 0: none, it is full from the start.
    """

    first_epoch: int = 0
    epochs: float = 0.0

    def strength(self, epoch: int) -> float:
        """In [0, 1]: 0 in the first epoch, then linear in the number of epochs done."""
        return 1.0 if self.epochs == 0 else min(1.0, (epoch - self.first_epoch) / self.epochs)
