"""Scores of one evaluation in words, for either task."""

from collections.abc import Mapping, Sequence
from typing import Any

from imgkit.data.rows import count
from imgkit.report.collect import SHOWN
from imgkit.terminal import percent

FEW = 100
"""Images, below which an interval is wider than most differences."""
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
    missing = len(metrics["classes_without_support"])
    nouns = ("class", "classes") if metrics["task"] == "single" else ("label", "labels")
    left_out = [f"{count(missing, *nouns)} without images left out"] if missing else []
    return " · ".join([*parts, count(metrics["n"], "image"), *left_out])


def parent_words(parent: Mapping[str, Any]) -> str:
    """`NAME · epoch 20 (step 2,400) · weights 3f9a5c…`: the checkpoint of another run where one started."""
    step = f"step {parent['step']:,}"
    when = step if parent["epoch"] is None else f"epoch {parent['epoch']} ({step})"
    return f"{parent['run']} · {when} · weights with SHA-256 {parent['sha256'][:12]}…"


def guessing(metrics: Mapping[str, Any]) -> str:
    """`always answering 'cat' gives 41.2 %`, or the most frequent set of labels in a multi-label task."""
    chance = metrics["chance"]
    if metrics["task"] == "single":
        return f"always answering {chance['majority_class']!r} gives {percent(chance['majority'])}"
    answer = " + ".join(map(repr, chance["set"])) or "no label"
    return f"always answering {answer} gives {percent(chance['subset_accuracy'])} exact sets"


def no_better_than_chance(metrics: Mapping[str, Any]) -> bool:
    """Whether guessing may give what was measured.

    With one label an image: the interval of top-1 holds the share of the largest class, and that of macro F1 holds what
    guessing gives, the better of answering the largest class and of answers as frequent as the classes (1/K). Macro F1
    counts because a model that weighs rare classes up may know them and yet be right less often than the largest class
    is frequent. With several labels: the interval of mAP holds the mAP of equal scores.
    """
    ends, chance = metrics["intervals"], metrics["chance"]
    if "map" in metrics:
        low = metrics["map"] if ends["map"] is None else ends["map"][0]
        return bool(low <= chance["map"])
    known = metrics["classes"] - len(metrics["classes_without_support"])
    largest = 2 * chance["majority"] / (1 + chance["majority"]) / known
    f1 = ends["f1_macro"]
    return bool(ends["top1"][0] <= chance["majority"] and (f1 is None or f1[0] <= max(largest, 1 / known)))
