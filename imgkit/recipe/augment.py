"""`[augment]`: what may happen to a training image."""

from typing import Annotated

from pydantic import AfterValidator

from imgkit.recipe.fields import Area, Probability, Range, Strict


def _check_jitter(jitter: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if min(jitter) < 0 or jitter[3] > 0.5:
        raise ValueError(f"needs numbers >= 0 and a hue (the last) of at most 0.5, got {list(jitter)}")
    return jitter


class AugmentSettings(Strict):
    """`[augment]`: what happens to a training image, keyed by (seed, epoch, sample)."""

    # area share of a random resized crop; None: `scale_jitter`, or else the evaluation crop
    crop: Area | None = (0.5, 1.0)
    scale_jitter: Range | None = None  # of the evaluation's scale; random place
    ratio: Range = (3 / 4, 4 / 3)  # aspect ratio of that crop
    hflip: Probability = 0.5
    vflip: Probability = 0.0
    # brightness, contrast, saturation, hue
    jitter: Annotated[tuple[float, float, float, float], AfterValidator(_check_jitter)] | None = None
    jitter_p: Probability = 1.0  # probability of the jitter
