"""Scores of one evaluation in words, for either task."""

from collections.abc import Mapping, Sequence
from typing import Any

from imgkit.report.collect import SHOWN
from imgkit.terminal import percent

NO_INTERVAL = "too few images or mistakes for an interval"


def with_interval(value: float, interval: Sequence[float] | None) -> str:
    """`92.5 % (91.2 to 93.8)` for fractions, or why there is no interval."""
    return f"{percent(value)} ({interval_words(interval).removeprefix('95 % interval ')})"


def interval_words(interval: Sequence[float] | None) -> str:
    """`95 % interval 91.2 to 93.8` for fractions, or why there is none."""
    return NO_INTERVAL if interval is None else f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def scores(metrics: Mapping[str, Any]) -> str:
    """`top-1 85.3 % (82.1 to 88.1) · macro F1 84.0 % (80.5 to 87.2) · 525 images`."""
    ends, titles = metrics["intervals"], SHOWN[metrics["task"]]
    names = ["top1", "f1_macro"] if metrics["task"] == "single" else ["map", "f1_macro", "subset_accuracy"]
    parts = [f"{titles[name]} {with_interval(metrics[name], ends[name])}" for name in names]
    return " · ".join([*parts, f"{metrics['n']:,} images"])


def guessing(metrics: Mapping[str, Any]) -> str:
    """`always answering 'cat' gives 41.2 %`, or the most frequent set of labels in a multi-label task."""
    chance = metrics["chance"]
    if metrics["task"] == "single":
        return f"always answering {chance['majority_class']!r} gives {percent(chance['majority'])}"
    answer = " + ".join(map(repr, chance["set"])) or "no label"
    return f"always answering {answer} gives {percent(chance['subset_accuracy'])} exact sets"


def no_better_than_chance(metrics: Mapping[str, Any]) -> bool:
    """Whether the interval of top-1, or of mAP, holds what guessing gives."""
    ends, chance = metrics["intervals"], metrics["chance"]
    if "map" not in metrics:
        return bool(ends["top1"][0] <= chance["majority"])
    low = metrics["map"] if ends["map"] is None else ends["map"][0]
    return bool(low <= chance["map"])
