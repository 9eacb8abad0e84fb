"""Means over seeds with Student's interval, differences in pairs, and the effects of a factorial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import prod, sqrt
from statistics import fmean, stdev

_SAME = 1e-12  # between values that agree: what rounding makes of one difference taken twice


@dataclass(frozen=True)
class Estimate:
    """The mean of one value a seed.

    Args:
        values: seed -> value; at least one.
    """

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values.values())

    @property
    def half(self) -> float | None:
        """Half of Student's 95 % interval of the mean.

        None for one seed, and for seeds that agree: an interval without width would read as certainty.
        """
        values = [*self.values.values()]
        if max(values) - min(values) < _SAME:
            return None
        return _quantile(len(values) - 1) * stdev(values) / sqrt(len(values))

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of the interval; not cut at 0 or 1."""
        return None if self.half is None else (self.mean - self.half, self.mean + self.half)


@cache
def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def difference(values: Mapping[int, float], against: Mapping[int, float]) -> Estimate | None:
    """`values` minus `against`, in pairs of one seed; None without a seed in common."""
    common = [seed for seed in values if seed in against]
    return Estimate({seed: values[seed] - against[seed] for seed in common}) if common else None


@dataclass(frozen=True)
class FoldDifference:
    """The mean difference of two networks over the same folds, by the corrected resampled t-test.

    The differences of folds are not independent, since trainings share images, so their variance counts
    1/K + n_test/n_train times instead of 1/K (Nadeau & Bengio 2003, "Inference for the Generalization Error").

    Args:
        values: one a fold, at least one.
        ratio: images that a training is scored on over those that it is trained on.
    """

    values: Sequence[float]
    ratio: float

    @property
    def mean(self) -> float:
        """Over the folds."""
        return fmean(self.values)

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval of the mean; None where the folds agree: no width would read as certainty."""
        error = self._error
        return None if error is None else _quantile(len(self.values) - 1) * error

    @property
    def p(self) -> float | None:
        """Of the two-sided test that there is no difference; None where the folds agree."""
        from scipy.stats import t

        error = self._error
        if error is None:
            return None
        return float(2 * t.sf(abs(self.mean) / error, len(self.values) - 1))

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.half is None:
            return "the same on every fold: no interval"
        if abs(self.mean) <= self.half:
            return "cannot be told apart"
        return "higher" if self.mean > 0 else "lower"

    @property
    def _error(self) -> float | None:
        if max(self.values) - min(self.values) < _SAME:
            return None
        return sqrt(1 / len(self.values) + self.ratio) * stdev(self.values)


def verdict(estimate: Estimate) -> str:
    """What an estimated difference allows to say."""
    if len(estimate.values) == 1:
        return "one seed: no interval"
    if estimate.half is None:
        return "the same on every seed: no interval"
    low, high = estimate.mean - estimate.half, estimate.mean + estimate.half
    if low <= 0 <= high:
        return "cannot be told apart"
    return "higher" if low > 0 else "lower"


Cell = tuple[str, ...]
"""A variant of a grid: its level in each factor, in order."""


@dataclass(frozen=True)
class Effect:
    """A contrast of the cells of a grid.

    Args:
        name: "loss: focal - cross_entropy", or with × for an interaction.
        weights: cell -> weight; cells without weight are left out.
    """

    name: str
    weights: Mapping[Cell, float]

    def of(self, values: Mapping[Cell, Mapping[int, float]]) -> Estimate | None:
        """The effect over the seeds that all its cells have; None where there is none."""
        seeds = [set(values.get(cell, {})) for cell in self.weights]
        common = sorted(set.intersection(*seeds)) if seeds else []
        if not common:
            return None
        return Estimate({s: sum(weight * values[cell][s] for cell, weight in self.weights.items()) for s in common})


def effects(axes: Mapping[str, Sequence[str]]) -> list[Effect]:
    """The main effects of each factor's levels against its first, then the interactions of two.

    A main effect is averaged over the levels of the other factors. An interaction is the difference of differences
    (b2 - b1 where a is its level, minus b2 - b1 where a is its first), not halved, averaged over further factors.
    """
    main = [_effect(axes, {axis: level}) for axis, levels in axes.items() for level in levels[1:]]
    pairs = [
        _effect(axes, {one: first, other: second})
        for one, other in combinations(axes, 2)
        for first in axes[one][1:]
        for second in axes[other][1:]
    ]
    return main + pairs


def _effect(axes: Mapping[str, Sequence[str]], chosen: Mapping[str, str]) -> Effect:
    """The contrast that takes each chosen level against the first level of its factor."""
    weights: dict[Cell, float] = {(): 1.0 / prod(len(levels) for axis, levels in axes.items() if axis not in chosen)}
    for axis, levels in axes.items():
        signs = {chosen[axis]: 1.0, levels[0]: -1.0} if axis in chosen else dict.fromkeys(levels, 1.0)
        weights = {(*cell, level): weight * sign for cell, weight in weights.items() for level, sign in signs.items()}
    return Effect(" × ".join(f"{axis}: {level} − {axes[axis][0]}" for axis, level in chosen.items()), weights)
