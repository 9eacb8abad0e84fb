"""Schedules: the learning rate's factor as a pure function of progress.

Progress is the share of the phase that is done, in [0, 1]; the factor is in [0, 1]. Lengths of a recipe ("3 epochs")
become shares of the phase while a schedule is made; the schedule itself knows no steps, epochs or optimizer. What a
plateau has lowered the rate by is no function of progress but state: `plateau.py`.
"""

import math
from collections.abc import Callable
from typing import Any

from imgkit.duration import Duration
from imgkit.recipe.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Linear,
    Multistep,
    OneCycle,
    Plateau,
    Polynomial,
    ScheduleSettings,
    Step,
)
from imgkit.registry import Registry

Schedule = Callable[[float], float]

SCHEDULES: Registry[Callable[[Any, int, int], Schedule]] = Registry("schedule")

WARMUP_START = 0.01  # factor at progress 0 of a warm-up
_ROUNDING = 1e-8  # of a step: 0.7 / 0.1 must not fall just before a whole number


def make_schedule(settings: ScheduleSettings, *, steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule that `settings` describes, for a phase of `steps` updates.

    Raises:
        UsageError: if no schedule has that name.
    """
    factor = SCHEDULES[settings.name](settings, steps, steps_per_epoch)
    return factor if settings.step_on == "update" else _held(factor, steps_per_epoch / steps)


def _held(factor: Schedule, epoch: float) -> Schedule:
    """`factor` as it is at the first update of each epoch, which takes the share `epoch` of the phase."""

    def held(progress: float) -> float:
        return factor(min(1.0, math.floor(progress / epoch + _ROUNDING) * epoch))

    return held


@SCHEDULES.register("constant")
def constant(settings: Constant, steps: int, steps_per_epoch: int) -> Schedule:
    """1 throughout, after the warm-up."""
    return _after_warmup(_share(settings.warmup, steps, steps_per_epoch), lambda elapsed: 1.0)


@SCHEDULES.register("plateau")
def plateau(settings: Plateau, steps: int, steps_per_epoch: int) -> Schedule:
    """1 throughout, after the warm-up; `plateau.Standstill` lowers it."""
    return _after_warmup(_share(settings.warmup, steps, steps_per_epoch), lambda elapsed: 1.0)


@SCHEDULES.register("linear")
def linear(settings: Linear, steps: int, steps_per_epoch: int) -> Schedule:
    """A straight line from 1 to `end` over what the warm-up leaves."""
    return _power(_share(settings.warmup, steps, steps_per_epoch), settings.end, 1.0)


@SCHEDULES.register("polynomial")
def polynomial(settings: Polynomial, steps: int, steps_per_epoch: int) -> Schedule:
    """`end` + (1 - `end`) * left**power, where left falls from 1 to 0 after the warm-up (Chen et al. 2018)."""
    return _power(_share(settings.warmup, steps, steps_per_epoch), settings.end, settings.power)


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
    """
    first = max(_share(settings.first, steps, steps_per_epoch), 1.0 / steps)  # a cycle has one update at least

    def rest(elapsed: float) -> float:
        return _half_cosine(1.0, settings.end, _cycle_position(elapsed / first, settings.mult))

    return _after_warmup(_share(settings.warmup, steps, steps_per_epoch), rest)


@SCHEDULES.register("step")
def step(settings: Step, steps: int, steps_per_epoch: int) -> Schedule:
    """Times `gamma` after each `every` of the phase, the warm-up included (He et al. 2016 divide by ten)."""
    every = max(_share(settings.every, steps, steps_per_epoch), 1.0 / steps)
    warmup = _share(settings.warmup, steps, steps_per_epoch)
    return _after_warmup(warmup, lambda elapsed: settings.gamma ** math.floor((warmup + elapsed) / every + _ROUNDING))


@SCHEDULES.register("multistep")
def multistep(settings: Multistep, steps: int, steps_per_epoch: int) -> Schedule:
    """Times `gamma` at each milestone of the phase, the warm-up included."""
    milestones = [_share(length, steps, steps_per_epoch) for length in settings.milestones]
    warmup = _share(settings.warmup, steps, steps_per_epoch)

    def rest(elapsed: float) -> float:
        return settings.gamma ** sum(warmup + elapsed > place - _ROUNDING / steps for place in milestones)

    return _after_warmup(warmup, rest)


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
        if progress < warmup and not math.isclose(progress, warmup, rel_tol=1e-12):  # an epoch's end is a product
            return WARMUP_START + (1.0 - WARMUP_START) * progress / warmup
        return rest(max(0.0, progress - warmup))

    return factor


def _power(warmup: float, end: float, power: float) -> Schedule:
    """After the warm-up, from 1 to `end` as a power of what is left of the phase."""

    def rest(elapsed: float) -> float:
        left = max(0.0, 1.0 - elapsed / (1.0 - warmup)) if warmup < 1.0 else 1.0
        return end + (1.0 - end) * math.pow(left, power)

    return _after_warmup(warmup, rest)


def _half_cosine(start: float, end: float, position: float) -> float:
    """From `start` at position 0 to `end` at 1."""
    return end + (start - end) * (1.0 + math.cos(math.pi * position)) / 2.0


def _cycle_position(cycles: float, mult: int) -> float:
    """Where in its cycle a point lies, in [0, 1); `cycles` is its distance from the start in first cycles."""
    if abs(cycles - round(cycles)) < _ROUNDING:
        cycles = float(round(cycles))
    if mult == 1:
        return cycles - math.floor(cycles)
    start, length = 0, 1
    while cycles >= start + length:
        start, length = start + length, length * mult
    return (cycles - start) / length
