"""`[loss]`: the losses and their values, by name."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from imgkit.errors import suggestion
from imgkit.recipe.fields import Probability, Share, Strict, Task

CLASS_RULES = ("none", "inverse", "sqrt", "effective")
"""Values of `class_weights` besides a file."""
POSITIVE_RULES = ("none", "neg_pos", "sqrt")
"""Values of `pos_weight` besides a file."""


def _check_rule(text: str, rules: tuple[str, ...]) -> str:
    if text not in rules and PurePath(text).suffix not in (".csv", ".json"):
        raise ValueError(
            f"must be {', '.join(rules)} or a .csv or .json file of weights by class, got {text!r}"
            f"{suggestion(text, rules)}"
        )
    return text


def _check_focus(value: float) -> float:
    if 0.0 < value < 1.0:
        raise ValueError(f"must be 0 or at least 1 (between them the slope is infinite at certainty), got {value:g}")
    return value


ClassWeights = Annotated[str, AfterValidator(lambda text: _check_rule(text, CLASS_RULES))]
PosWeight = Annotated[str, AfterValidator(lambda text: _check_rule(text, POSITIVE_RULES))]
Focus = Annotated[float, Field(ge=0.0), AfterValidator(_check_focus)]


class LossSettings(Strict):
    """What a loss table holds, whichever loss it names.

    Attributes:
        TASKS: the tasks that the loss serves.
        SOFT: of these, the tasks in which it takes soft targets, as mixing makes them.
        ONLY: keys that one task alone reads.
    """

    TASKS: ClassVar[tuple[Task, ...]] = ()
    SOFT: ClassVar[tuple[Task, ...]] = ()
    ONLY: ClassVar[Mapping[str, Task]] = {}

    name: str

    def unread(self, task: Task) -> dict[str, str]:
        """Keys that the loss does not read in `task`, with the reason."""
        words = {"single": "single-label", "multilabel": "multi-label"}
        return {key: f"a {words[reader]} task alone reads it" for key, reader in self.ONLY.items() if reader != task}


class ClassWeighted(LossSettings):
    """A loss that may weigh each image by its class, in the task "single"."""

    ONLY: ClassVar[Mapping[str, Task]] = {"class_weights": "single", "class_weights_beta": "single"}

    class_weights: ClassWeights = "none"  # none | inverse | sqrt | effective | FILE; see imgkit/class_weights.py
    class_weights_beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999  # of "effective" (Cui et al. 2019)


class CrossEntropy(ClassWeighted):
    """Cross-entropy over a softmax, with label smoothing (Szegedy et al. 2016). Task: single."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single",)
    SOFT: ClassVar[tuple[Task, ...]] = ("single",)

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class LogitAdjusted(LossSettings):
    """Cross-entropy of logits plus tau * log of each class's share of train (Menon et al. 2021). Task: single."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single",)
    SOFT: ClassVar[tuple[Task, ...]] = ("single",)

    name: Literal["logit_adjusted"]
    tau: PositiveFloat = 1.0  # 1: logits as for classes of one size (the paper's choice); below 1: not as far
    label_smoothing: Share = 0.0


class Bce(LossSettings):
    """Binary cross-entropy in each label, with label smoothing towards 1/2. Task: multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multilabel",)
    SOFT: ClassVar[tuple[Task, ...]] = ("multilabel",)

    name: Literal["bce"]
    label_smoothing: Share = 0.0
    pos_weight: PosWeight = "none"  # none | neg_pos | sqrt | FILE: what counts where an image has the label


class Focal(ClassWeighted):
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - p)**gamma. Tasks: single, multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single", "multilabel")
    SOFT: ClassVar[tuple[Task, ...]] = ("single", "multilabel")

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0.0)] = 2.0
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | None = None  # single: times this; multilabel: times this where an
    # image has the label, and times 1 - alpha where it lacks it; None: times 1


class Asymmetric(ClassWeighted):
    """Asymmetric loss (Ridnik et al. 2021): focal, with other powers for absent labels. Tasks: single, multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single", "multilabel")
    SOFT: ClassVar[tuple[Task, ...]] = ("multilabel",)
    ONLY: ClassVar[Mapping[str, Task]] = {**ClassWeighted.ONLY, "clip": "multilabel"}

    name: Literal["asymmetric"]
    gamma_neg: Focus = 4.0  # of labels that the image lacks
    gamma_pos: Focus = 1.0  # of those that it has
    clip: Share = 0.05  # probability below which an absent label costs nothing
    label_smoothing: Share = 0.0

    def unread(self, task: Task) -> dict[str, str]:
        """Keys that the loss does not read in `task`, with the reason."""
        idle = super().unread(task)
        if task == "single" and self.label_smoothing == 0.0:
            idle["gamma_neg"] = "in a single-label task the other classes count with label_smoothing alone"
        return idle


class Poly(ClassWeighted):
    """Poly-1 (Leng et al. 2022): cross-entropy + epsilon * (1 - p). Tasks: single, multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single", "multilabel")
    SOFT: ClassVar[tuple[Task, ...]] = ("single", "multilabel")

    name: Literal["poly"]
    epsilon: Annotated[float, Field(ge=-1.0)] = 2.0  # 2: the paper's choice for images; 0: cross-entropy
    label_smoothing: Share = 0.0


class TwoWay(LossSettings):
    """Two-way loss (Kobayashi 2023): ranks labels within an image, and images within a label. Task: multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multilabel",)

    name: Literal["two_way"]
    positive_temperature: PositiveFloat = 4.0  # of the soft minimum over logits of labels that are there
    negative_temperature: PositiveFloat = 1.0  # of the soft maximum over the others


class Zlpr(LossSettings):
    """ZLPR (Su et al. 2022): every label that is there above 0, every other one below. Task: multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multilabel",)

    name: Literal["zlpr"]


class DistributionBalanced(LossSettings):
    """Distribution-balanced loss (Wu et al. 2020): weights and shifts from the label counts. Task: multilabel."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multilabel",)
    SOFT: ClassVar[tuple[Task, ...]] = ("multilabel",)

    name: Literal["distribution_balanced"]
    negative_scale: Annotated[float, Field(ge=1.0)] = 2.0  # the larger, the less an absent label costs; 1: as much
    prior_shift: Probability = 0.05  # share of its prior's log-odds that a logit is shifted by
    gamma: Focus = 2.0
    label_smoothing: Share = 0.0


LOSS_TYPES: dict[str, type[LossSettings]] = {
    "cross_entropy": CrossEntropy,
    "logit_adjusted": LogitAdjusted,
    "bce": Bce,
    "focal": Focal,
    "asymmetric": Asymmetric,
    "poly": Poly,
    "two_way": TwoWay,
    "zlpr": Zlpr,
    "distribution_balanced": DistributionBalanced,
}
"""The values of each loss, by name."""
