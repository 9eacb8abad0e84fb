"""Scores of one evaluation in words, for either task."""

from collections.abc import Mapping, Sequence
from typing import Any

from imgkit.data.rows import count
from imgkit.report.collect import SHOWN
from imgkit.terminal import percent

FEW = 100
"""Images, below which an interval is wider than most differences."""
NO_INTERVAL = "too few images or mistakes for an interval"
_NAMED = 5  # labels of a set that are named


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
    """`always answering 'cat' gives top-1 41.2 % · macro F1 19.5 %`: what guessing gives of each score of `SHOWN`."""
    chance, titles = metrics["chance"], SHOWN[metrics["task"]]
    if metrics["task"] == "single":
        scores = {"top1": chance["majority"], "f1_macro": _f1_of_the_largest(metrics)}
        given = " · ".join(f"{titles[name]} {percent(value)}" for name, value in scores.items())
        return f"always answering {chance['majority_class']!r} gives {given}"
    names, most = chance["set"], f"{titles['subset_accuracy']} {percent(chance['subset_accuracy'])}"
    answer = " + ".join(map(repr, names)) if len(names) <= _NAMED else f"the most frequent set ({len(names):,} labels)"
    return (
        f"always answering {answer or 'no label'} gives {most}, every label {titles['f1_macro']} "
        f"{percent(chance['f1_macro'])}, and scores that are all the same {titles['map']} {percent(chance['map'])}"
    )


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
    f1, guessed = ends["f1_macro"], max(_f1_of_the_largest(metrics), 1 / _known(metrics))
    return bool(ends["top1"][0] <= chance["majority"] and (f1 is None or f1[0] <= guessed))


def _f1_of_the_largest(metrics: Mapping[str, Any]) -> float:
    """Macro F1 of always answering the largest class: it finds all of it, with its share as precision."""
    share = float(metrics["chance"]["majority"])
    return 2 * share / (1 + share) / _known(metrics)


def _known(metrics: Mapping[str, Any]) -> int:
    """How many classes have images, which macro F1 is the mean over."""
    return int(metrics["classes"]) - len(metrics["classes_without_support"])
