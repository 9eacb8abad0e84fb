"""`[schedule]`: the schedules and their values, by name."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from imgkit.recipe.fields import Length, Milestones, Probability, Share, Span, Strict
from imgkit.recipe.monitors import check_monitor


def _check_watch(text: str) -> str:
    return text if text == "monitor" else check_monitor(text)


class ScheduleSettings(Strict):
    """What a schedule table holds, whichever schedule it names."""

    name: str
    step_on: Literal["update", "epoch"] = "update"  # epoch: one rate an epoch, that of its first update


class Warmed(ScheduleSettings):
    """A schedule that begins with a linear warm-up."""

    warmup: Length = "0%"


class Constant(Warmed):
    """The same rate throughout, after the warm-up."""

    name: Literal["constant"]


class Linear(Warmed):
    """A straight line from 1 to `end`, after the warm-up."""

    name: Literal["linear"]
    end: Probability = 0.0  # factor at the end


class Polynomial(Warmed):
    """From 1 to `end` as (1 - position)**power, after the warm-up (Chen et al. 2018 with power 0.9)."""

    name: Literal["polynomial"]
    power: PositiveFloat = 2.0  # 1: a straight line; above it, the rate falls early
    end: Probability = 0.0


class Cosine(Warmed):
    """Half a cosine from 1 to `end` (Loshchilov and Hutter 2017), after the warm-up."""

    name: Literal["cosine"] = "cosine"
    end: Probability = 0.0  # factor at the end


class CosineRestarts(Warmed):
    """Cosine warm restarts (SGDR, Loshchilov and Hutter 2017): each cycle `mult` times as long as the one before."""

    name: Literal["cosine_restarts"]
    first: Span  # length of the first cycle
    mult: PositiveInt = 1
    end: Probability = 0.0


class Step(Warmed):
    """Times `gamma` after each `every`, counted from the start of the phase (He et al. 2016 divide by ten)."""

    name: Literal["step"]
    every: Span
    gamma: Share = 0.1


class Multistep(Warmed):
    """Times `gamma` at each of `milestones`, counted from the start of the phase."""

    name: Literal["multistep"]
    milestones: Milestones  # rising, in one unit: ["50%", "75%"]
    gamma: Share = 0.1


class OneCycle(ScheduleSettings):
    """One cycle (Smith 2018): cosine from `start` up to 1 over `rise`, then cosine down to `end`."""

    name: Literal["one_cycle"]
    rise: Length = "30%"
    start: Probability = 0.04  # 1/25, as in fastai
    end: Probability = 0.0001


class Plateau(Warmed):
    """Times `factor` where a score of validation stands still; the count begins after the warm-up."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    patience: NonNegativeInt = 1  # evaluations without gain that are let pass; the next one lowers the rate
    threshold: Share = 1e-4  # a gain is more than this share of the best value
    watch: Annotated[str, AfterValidator(_check_watch)] = "monitor"  # the recipe's; or another, as "val/loss"
    end: Probability = 0.0  # the factor falls no lower


SCHEDULE_TYPES: dict[str, type[ScheduleSettings]] = {
    "constant": Constant,
    "linear": Linear,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "cosine_restarts": CosineRestarts,
    "step": Step,
    "multistep": Multistep,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}
"""The values of each schedule, by name."""
