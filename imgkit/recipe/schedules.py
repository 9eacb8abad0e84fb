"""`[schedule]`: the schedules and their values, by name."""

from typing import Literal

from pydantic import PositiveInt

from imgkit.recipe.fields import Length, Probability, Strict


class ScheduleSettings(Strict):
    """What a schedule table holds, whichever schedule it names."""

    name: str


class Warmed(ScheduleSettings):
    """A schedule that begins with a linear warm-up."""

    warmup: Length = "0%"


class Constant(Warmed):
    """The same rate throughout, after the warm-up."""

    name: Literal["constant"]


class Cosine(Warmed):
    """Half a cosine from 1 to `end` (Loshchilov and Hutter 2017), after the warm-up."""

    name: Literal["cosine"] = "cosine"
    end: Probability = 0.0  # factor at the end


class CosineRestarts(Warmed):
    """Cosine warm restarts (SGDR, Loshchilov and Hutter 2017): each cycle `mult` times as long as the one before."""

    name: Literal["cosine_restarts"]
    first: Length  # length of the first cycle
    mult: PositiveInt = 1
    end: Probability = 0.0


class OneCycle(ScheduleSettings):
    """One cycle (Smith 2018): cosine from `start` up to 1 over `rise`, then cosine down to `end`."""

    name: Literal["one_cycle"]
    rise: Length = "30%"
    start: Probability = 0.04  # 1/25, as in fastai
    end: Probability = 0.0001


SCHEDULE_TYPES: dict[str, type[ScheduleSettings]] = {
    "constant": Constant,
    "cosine": Cosine,
    "cosine_restarts": CosineRestarts,
    "one_cycle": OneCycle,
}
"""The values of each schedule, by name."""
