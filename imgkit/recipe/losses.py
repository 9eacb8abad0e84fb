"""`[loss]`: the losses and their values, by name."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from imgkit.recipe.fields import Share, Strict, Task


class LossSettings(Strict):
    """What a loss table holds, whichever loss it names.

    Attributes:
        TASKS: the tasks that the loss serves.
    """

    TASKS: ClassVar[tuple[Task, ...]] = ()

    name: str


class CrossEntropy(LossSettings):
    """Cross-entropy over a softmax, with label smoothing (Szegedy et al. 2016). Task: single."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single",)

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class Focal(LossSettings):
    """Focal loss (Lin et al. 2017) over a softmax: alpha * (1 - p)**gamma * -log p. Task: single."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single",)

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0.0)] = 2.0
    alpha: PositiveFloat = 1.0  # one weight for every class; class weights are a key of their own


class Bce(LossSettings):
    """Binary cross-entropy of each label by itself, on logits. Task: multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multilabel",)

    name: Literal["bce"]
    label_smoothing: Share = 0.0  # moves 0 and 1 by half of this towards 0.5


LOSS_TYPES: dict[str, type[LossSettings]] = {"cross_entropy": CrossEntropy, "focal": Focal, "bce": Bce}
"""The values of each loss, by name."""
