"""A search space: what is asked of Optuna, which recipe values its answers are, and points that show what is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from imgkit.recipe.toml import value_text
from imgkit.sweeps.schema import Choices, Domain, Range

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Params = Mapping[str, float | int | str | bool]
"""Key -> what Optuna keeps of a value: a choice that it has no kind for stands there as TOML."""
_MOST = 64  # combinations of choices that are all checked; of more, each choice by itself


def _kept(value: object) -> float | int | str | bool:
    """A choice as Optuna keeps it."""
    return value if isinstance(value, float | int | str | bool) else value_text(value)


def distributions(space: Mapping[str, Domain]) -> "dict[str, BaseDistribution]":
    """What Optuna calls the domains."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, domain in space.items():
        if isinstance(domain, Choices):
            found[key] = CategoricalDistribution([_kept(one) for one in domain.values])
        elif domain.whole:
            found[key] = IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
        else:
            found[key] = FloatDistribution(float(domain.low), float(domain.high), log=domain.log, step=domain.step)
    return found


def suggest(trial: "Trial", space: Mapping[str, Domain]) -> dict[str, object]:
    """The values of a trial; those that it has already are given again."""
    for key, domain in space.items():
        if isinstance(domain, Choices):
            trial.suggest_categorical(key, [_kept(one) for one in domain.values])
        elif domain.whole:
            trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
        else:
            trial.suggest_float(key, float(domain.low), float(domain.high), log=domain.log, step=domain.step)
    return values_of(trial.params, space)


def values_of(params: Params, space: Mapping[str, Domain]) -> dict[str, object]:
    """The recipe values of what Optuna keeps, in the order of the space."""
    return {key: _value(params[key], domain) for key, domain in space.items() if key in params}


def _value(kept: object, domain: Domain) -> object:
    if isinstance(domain, Range):
        return kept
    return next(one for one in domain.values if _same(_kept(one), kept))


def _same(one: object, other: object) -> bool:
    """Whether two choices are one: 1, 1.0 and true are three."""
    return type(one) is type(other) and one == other


def corners(space: Mapping[str, Domain]) -> list[dict[str, object]]:
    """Points at which a recipe shows what it does not take.

    All combinations of choices, where they are few, else each choice beside the first ones; and each end of a range and
    a value within it, beside the first values of all others.
    """
    first = {key: _points(domain)[0] for key, domain in space.items()}
    choices = {key: domain.values for key, domain in space.items() if isinstance(domain, Choices)}
    ranges = {key: _points(domain) for key, domain in space.items() if isinstance(domain, Range)}
    points = [first]
    if prod(map(len, choices.values())) <= _MOST:
        points += [first | dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values())]
    else:
        points += list(_one_at_a_time(first, choices))
    points += list(_one_at_a_time(first, ranges))
    return [point for number, point in enumerate(points) if not any(_alike(point, one) for one in points[:number])]


def _one_at_a_time(first: Mapping[str, object], values: Mapping[str, Sequence[object]]) -> Iterator[dict[str, object]]:
    for key, ones in values.items():
        for one in ones:
            yield {**first, key: one}


def _alike(point: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(_same(value, other[key]) for key, value in point.items())


def _points(domain: Domain) -> Sequence[object]:
    """A choice's values; the ends of a range and, where any number may be drawn, one that is not whole."""
    if isinstance(domain, Choices):
        return domain.values
    if domain.whole:
        return (int(domain.low), int(domain.high))
    within = (
        float(domain.low) + domain.step
        if domain.step
        else float(f"{domain.low + 0.382 * (domain.high - domain.low):.3g}")
    )
    return (float(domain.low), within, float(domain.high))


def domain_words(domain: Domain) -> str:
    """`1e-05 to 0.01, logarithmic` or `16, 32`, for people."""
    if isinstance(domain, Choices):
        return ", ".join(one if isinstance(one, str) else value_text(one) for one in domain.values)
    parts = [f"{domain.low:g} to {domain.high:g}"]
    parts += ["whole numbers"] * domain.whole + ["logarithmic"] * domain.log
    parts += [] if domain.step is None else [f"in steps of {domain.step:g}"]
    return ", ".join(parts)
