"""Which plots a history has, as numbers: what `drawing.py` draws, and what the tests look at."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from imgkit.plots.history import History

Kind = Literal["train", "val", "delta", "rate"]
TITLES = {
    "loss": "loss",
    "top1": "top-1",
    "top5": "top-5",
    "map": "mAP",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
}
_PANELS = {  # file: title, and what it shows; the second one is dashed
    "loss": ("Loss", ("loss",)),
    "accuracy": ("Accuracy", ("top1", "top5")),
    "map": ("Mean average precision", ("map",)),
    "f1": ("F1", ("f1_macro", "f1_micro")),
}
_LOG_FROM = 10.0  # times that the top rates of two phases differ, from which on rates are drawn on a log scale
_LOWEST = 100.0  # times below the lowest of them: where such a scale begins, since schedules may end at 0


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        label: for the legend.
        kind: of what; decides the colour.
        x: places on the axis of epochs.
        y: values in the plot's unit, NaN where there are none.
        dashed: the second score of a plot.
        stepped: y is in force from x - 0.5 to x + 0.5.
    """

    label: str
    kind: Kind
    x: tuple[float, ...]
    y: tuple[float, ...]
    dashed: bool = False
    stepped: bool = False


@dataclass(frozen=True)
class Mark:
    """The lowest or highest point of a curve."""

    x: float
    y: float
    words: str


@dataclass(frozen=True)
class Plot:
    """One plot.

    Args:
        name: of its files.
        title: above it.
        unit: of the vertical axis; "" for a number without one.
        lines: its curves.
        mark: the point that is marked.
        zero: whether the level 0 is drawn.
        log_from: where a logarithmic vertical axis begins; None: it is linear.
    """

    name: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    mark: Mark | None = None
    zero: bool = False
    log_from: float | None = None


def plots_of(history: History) -> list[Plot]:
    """The plots that the columns of a history allow; empty where there is nothing to draw."""
    found = list[Plot]()
    for name, (title, scores) in _PANELS.items():
        there = [score for score in scores if f"val/{score}" in history.columns or f"train/{score}" in history.columns]
        if there:
            found += [_curves(history, name, title, there), *_delta(history, name, title, there)]
    return found + _rates(history)


def _scale(score: str) -> float:
    """Scores are drawn in percent."""
    return 1.0 if score == "loss" else 100.0


def _curves(history: History, name: str, title: str, scores: Sequence[str]) -> Plot:
    lines = [
        Line(
            label=f"{history.held_out if split == 'val' else split} {TITLES[score]}",
            kind=split,
            x=history.epochs,
            y=tuple(_scale(score) * value for value in history.columns[f"{split}/{score}"]),
            dashed=number > 0,
        )
        for number, score in enumerate(scores)
        for split in _SPLITS
        if f"{split}/{score}" in history.columns
    ]
    return Plot(name, title, "" if name == "loss" else "%", tuple(lines), _mark(lines, lowest=name == "loss"))


_SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")


def _mark(lines: Sequence[Line], *, lowest: bool) -> Mark | None:
    """The best point of the first score on held-out images, else on train; the earliest of equal ones."""
    line = next((line for line in lines if line.kind == "val" and not line.dashed), lines[0])
    points = [(y, x) for x, y in zip(line.x, line.y, strict=True) if not math.isnan(y)]
    if not points:
        return None
    pick: Callable[..., tuple[float, float]] = min if lowest else max
    y, x = pick(points, key=lambda point: point[0])
    what, value = ("lowest", f"{y:.4g}") if lowest else ("highest", f"{y:.1f} %")
    return Mark(x, y, f"{what} {line.label}: {value}, epoch {x:g}")


def _delta(history: History, name: str, title: str, scores: Sequence[str]) -> list[Plot]:
    """Train minus held-out, of the scores that were recorded on both."""
    columns = history.columns
    lines = [
        Line(
            label=TITLES[score],
            kind="delta",
            x=history.epochs,
            y=tuple(
                _scale(score) * (seen - unseen)
                for seen, unseen in zip(columns[f"train/{score}"], columns[f"val/{score}"], strict=True)
            ),
            dashed=number > 0,
        )
        for number, score in enumerate(scores)
        if f"train/{score}" in columns and f"val/{score}" in columns
    ]
    if not lines:
        return []
    unit = "" if name == "loss" else "percentage points"
    return [Plot(f"delta-{name}", f"{title}: train − {history.held_out}", unit, tuple(lines), zero=True)]


def _rates(history: History) -> list[Plot]:
    rates = history.rates
    if rates is None:
        return []
    line = Line("learning rate", "rate", rates.x, rates.y, stepped=rates.by_epoch)
    tops = [
        max((y for x, y in zip(rates.x, rates.y, strict=True) if phase.start < x <= phase.stop and y > 0), default=0)
        for phase in history.spans
    ]
    tops = [top for top in tops if top]
    log_from = None
    if tops and max(tops) >= _LOG_FROM * min(tops):
        log_from = max(min(y for y in rates.y if y > 0), min(tops) / _LOWEST)
    return [Plot("lr", "Learning rate", "", (line,), log_from=log_from)]
