"""`[loss]`: the losses and their values, by name."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from imgkit.recipe.fields import Share, Strict


class LossSettings(Strict):
    """What a loss table holds, whichever loss it names."""

    SOFT: ClassVar[bool] = True  # whether it takes targets in [0, 1] for each class, as mixing makes them

    name: str


class CrossEntropy(LossSettings):
    """Cross-entropy with label smoothing (Szegedy et al. 2016)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class Focal(LossSettings):
    """Focal loss (Lin et al. 2017) over a softmax: alpha * (1 - p)**gamma * -log p."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0.0)] = 2.0
    alpha: PositiveFloat = 1.0  # one weight for every class; class weights are a key of their own


LOSS_TYPES: dict[str, type[LossSettings]] = {"cross_entropy": CrossEntropy, "focal": Focal}
"""The values of each loss, by name."""
