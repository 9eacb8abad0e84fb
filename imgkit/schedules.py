"""Schedules: the learning rate's factor as a pure function of progress.

Progress is the share of the phase that is done, in [0, 1]; the factor is in [0, 1]. Lengths of a recipe ("3 epochs")
become shares of the phase while a schedule is made; the schedule itself knows no steps, epochs or optimizer.
"""

import math
from collections.abc import Callable
from typing import Any

from imgkit.duration import Duration
from imgkit.errors import RecipeError
from imgkit.recipe.schedules import Constant, Cosine, CosineRestarts, OneCycle, ScheduleSettings
from imgkit.registry import Registry

Schedule = Callable[[float], float]

SCHEDULES: Registry[Callable[[Any, int, int], Schedule]] = Registry("schedule")

WARMUP_START = 0.01  # factor at progress 0 of a warm-up


def make_schedule(settings: ScheduleSettings, *, steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule that `settings` describes, for a phase of `steps` updates.

    Raises:
        UsageError: if no schedule has that name.
        RecipeError: if a length cannot be used.
    """
    return SCHEDULES[settings.name](settings, steps, steps_per_epoch)


@SCHEDULES.register("constant")
def constant(settings: Constant, steps: int, steps_per_epoch: int) -> Schedule:
    """1 throughout, after the warm-up."""
    return _after_warmup(_share(settings.warmup, steps, steps_per_epoch), lambda elapsed: 1.0)


@SCHEDULES.register("cosine")
def cosine(settings: Cosine, steps: int, steps_per_epoch: int) -> Schedule:
    """Half a cosine from 1 to `end` over what the warm-up leaves (Loshchilov and Hutter 2017)."""
    warmup = _share(settings.warmup, steps, steps_per_epoch)

    def rest(elapsed: float) -> float:
        return _half_cosine(1.0, settings.end, elapsed / (1.0 - warmup)) if warmup < 1.0 else 1.0

    return _after_warmup(warmup, rest)


@SCHEDULES.register("cosine_restarts")
def cosine_restarts(settings: CosineRestarts, steps: int, steps_per_epoch: int) -> Schedule:
    """Cosine cycles from 1 towards `end`, each `mult` times as long as the one before (Loshchilov and Hutter 2017).

    The first cycle starts at the end of the warm-up. A cycle holds its start but not its end: there the next
    one starts, at 1.

    Raises:
        RecipeError: if the first cycle has no length.
    """
    if Duration.parse(settings.first).count == 0:
        raise RecipeError(
            f"schedule.first is {settings.first!r}, but a cycle needs a length.", 'Write, say, first = "10 epochs".'
        )
    first = max(_share(settings.first, steps, steps_per_epoch), 1.0 / steps)  # a cycle has one update at least

    def rest(elapsed: float) -> float:
        return _half_cosine(1.0, settings.end, _cycle_position(elapsed / first, settings.mult))

    return _after_warmup(_share(settings.warmup, steps, steps_per_epoch), rest)


@SCHEDULES.register("one_cycle")
def one_cycle(settings: OneCycle, steps: int, steps_per_epoch: int) -> Schedule:
    """Cosine from `start` up to 1 over `rise`, then cosine down to `end` (Smith 2018; the form of fastai)."""
    rise = _share(settings.rise, steps, steps_per_epoch)

    def factor(progress: float) -> float:
        if progress < rise:
            return _half_cosine(settings.start, 1.0, progress / rise)
        return _half_cosine(1.0, settings.end, (progress - rise) / (1.0 - rise)) if rise < 1.0 else 1.0

    return factor


def _share(length: str, steps: int, steps_per_epoch: int) -> float:
    """A length of the recipe as a share of the phase; above 1 where it is longer than the phase."""
    return Duration.parse(length).steps(steps, steps_per_epoch) / steps


def _after_warmup(warmup: float, rest: Schedule) -> Schedule:
    """Linear from WARMUP_START to 1 over the share `warmup`, then `rest` of the progress made since."""

    def factor(progress: float) -> float:
        if progress < warmup:
            return WARMUP_START + (1.0 - WARMUP_START) * progress / warmup
        return rest(progress - warmup)

    return factor


def _half_cosine(start: float, end: float, position: float) -> float:
    """From `start` at position 0 to `end` at 1."""
    return end + (start - end) * (1.0 + math.cos(math.pi * position)) / 2.0


def _cycle_position(cycles: float, mult: int) -> float:
    """Where in its cycle a point lies, in [0, 1); `cycles` is its distance from the start in first cycles."""
    # Cycles start at whole numbers; 0.7 / 0.1 must not fall just before one.
    if abs(cycles - round(cycles)) < 1e-8:
        cycles = float(round(cycles))
    if mult == 1:
        return cycles - math.floor(cycles)
    start, length = 0, 1
    while cycles >= start + length:
        start, length = start + length, length * mult
    return (cycles - start) / length
