"""Scales of charts: where a value lies, and which values are written beside the axis."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # round numbers for the distance between two ticks


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Args:
        label: what is measured, with its unit.
        low: where it begins; None: from the data.
        high: where it ends; None: from the data.
        log: whether equal ratios take equal room; the ends are above 0 then.
        whole: whether there is nothing between whole numbers, as with epochs; no half is written beside it.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Scale:
    """Values to places between `start` and `stop` (in the units of the drawing).

    Args:
        low: the value at `start`.
        high: the value at `stop`.
        start: of the axis.
        stop: of the axis.
        log: as in `Axis`.
        whole: as in `Axis`.
        step: from one tick to the next, of an axis that was fitted to it; 0: by the length of the axis.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    whole: bool = False
    step: float = 0.0

    def __call__(self, value: float) -> float:
        """Where a value lies; one beyond an end lies at that end."""
        low, high, value = (
            (math.log(max(end, 1e-300)) for end in (self.low, self.high, value))
            if self.log
            else (
                self.low,
                self.high,
                value,
            )
        )
        share = (value - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.stop - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values from the low end to the high one, about `most` of them; powers of ten on a log scale."""
        if self.log:
            return _powers(self.low, self.high, most)
        step = self.step or _step((self.high - self.low) / most, whole=self.whole)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def scale_of(axis: Axis, values: Iterable[float], start: float, stop: float) -> Scale:
    """The scale of an axis that holds all finite `values`; open ends are moved outwards to round numbers."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)]
    low = min(finite, default=1.0 if axis.log else 0.0) if axis.low is None else axis.low
    high = max(finite, default=1.0) if axis.high is None else axis.high
    if axis.log:
        high = max(high, low * 10)
        return Scale(low, high, start, stop, log=True)
    if high <= low:
        half = min(0.5, abs(low) / 2) or 0.5  # to either side of a constant, so that a small one is not drawn as 0
        low, high = (low - half if axis.low is None else low), max(high, low + (half if axis.low is None else 1.0))
    step, ends = 0.0, (low, high)
    # Ends that were moved outwards may ask for a longer step, which moves them again.
    while step < (longer := _step((ends[1] - ends[0]) / 5, whole=axis.whole)):
        step = longer
        ends = (
            low if axis.low is not None else math.floor(low / step + 1e-9) * step,
            high if axis.high is not None else math.ceil(high / step - 1e-9) * step,
        )
    return Scale(*ends, start, stop, whole=axis.whole, step=step)


def _step(width: float, *, whole: bool) -> float:
    """The smallest round number, or whole one, that is at least `width` > 0."""
    power = 10.0 ** math.floor(math.log10(width))
    found = next(power * step for step in _STEPS if power * step >= width * (1 - 1e-9))
    if whole and not found.is_integer():
        return max(1.0, 2 * found)  # 2.5 is the one above 1
    return found


def _powers(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first) / most))
    return [10.0**power for power in range(first, last + 1, stride)] or [low, high]
