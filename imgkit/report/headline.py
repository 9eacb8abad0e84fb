"""What a page says first: the score with its interval, what guessing gives, and all that a reader has to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgkit.data.rows import count, listed
from imgkit.errors import DiskError
from imgkit.multilabel import USUAL_THRESHOLD
from imgkit.report.collect import SHOWN
from imgkit.report.leaks import Leak
from imgkit.report.stored import Stored
from imgkit.report.words import FEW, guessing, interval_words, no_better_than_chance, with_interval
from imgkit.run import RunFolder
from imgkit.run_names import is_run
from imgkit.terminal import percent

WIDE = 0.05
"""Half an interval above which it is called wide: two runs that differ by less can hardly be told apart."""
_NAMED = 8  # classes named in a sentence
_BOTH = {"train": "the training images", "val": "the validation images"}


@dataclass(frozen=True)
class Figure:
    """One score: what it is, its value, and its interval in words."""

    title: str
    value: str
    interval: str


@dataclass(frozen=True)
class Headline:
    """The score that a page leads with.

    Args:
        evaluation: "test@1200"; "" where nothing was scored yet.
        split: "test" or "val".
        n: images scored.
        figures: the scores, the leading one first.
        guessing: what guessing gives.
        warnings: what may make these scores worth less than they look.
        notes: what else one should know to read them.
    """

    evaluation: str
    split: str
    n: int
    figures: tuple[Figure, ...]
    guessing: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """Runs of one folder that saw the same images.

    Args:
        validation: runs whose weights were chosen on the same validation images, this one among them.
        test: runs that were scored on the same test images, this one among them.
    """

    validation: int
    test: int


def figures_of(metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The scores of an evaluation that reports show, the one that runs are ranked by first."""
    return tuple(
        Figure(title, percent(float(metrics[name])), interval_words(metrics["intervals"][name]))
        for name, title in SHOWN[metrics["task"]].items()
    )


def tried_of(folder: RunFolder) -> Tried:
    """How many runs beside this one saw the same images, by the fingerprint that each evaluation has of its own."""
    own = {split: _data_of(folder, split) for split in ("val", "test")}
    found = dict.fromkeys(own, 0)
    for place in folder.path.parent.iterdir():
        if place.name.startswith(".") or not is_run(place):
            continue
        for split, data in own.items():
            found[split] += data is not None and _data_of(RunFolder(place), split) == data
    return Tried(found["val"], found["test"])


def headline_of(
    stored: Stored | None,
    about: Mapping[str, Any],
    monitor: str,
    early_stop: int | None,
    tried: Tried,
    leak: Leak | None,
) -> Headline:
    """What the page says first.

    Args:
        stored: the evaluation that it leads with.
        about: run.json.
        monitor: the score that chose the best weights, "val/f1_macro".
        early_stop: epochs without a better score after which training would have ended.
        tried: runs that saw the same images.
        leak: scored images that lie in an earlier split, too.
    """
    smoke = ["This was a smoke run: a few steps to see that everything works. Its scores mean nothing."]
    warnings = smoke if about.get("smoke") else []
    if stored is None:
        return Headline("", "", 0, (), "", (*warnings, "Nothing has been scored yet."), ())
    metrics = stored.metrics
    held = bool(about.get("data", {}).get("n", {}).get("test"))
    warnings += _chosen(metrics, stored.split, monitor, early_stop, held=held)
    warnings += _chance(metrics) + _leaked(leak, stored) + _missing(metrics) + _wide(metrics)
    notes = _tried(tried, stored.split) + _notes(metrics, stored.split, monitor, early_stop)
    return Headline(
        evaluation=stored.name,
        split=stored.split,
        n=int(metrics["n"]),
        figures=figures_of(metrics),
        guessing=_sentence(guessing(metrics)),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _chosen(metrics: Mapping[str, Any], split: str, monitor: str, early_stop: int | None, *, held: bool) -> list[str]:
    """That validation chose, and how to get a score that did not; `held`: there is a test split, not scored yet."""
    if split == "test":
        return []
    stopped = ", and when to stop," if early_stop else ""
    fit = metrics.get("calibration") or {}
    parts = ["the temperature"] * (fit.get("temperature", 1) != 1)
    parts += ["the thresholds"] * any(least != USUAL_THRESHOLD for least in (fit.get("thresholds") or {}).values())
    were = "were" if "the thresholds" in parts else "was"
    fitted = f", and on which {' and '.join(parts)} {were} fitted" if parts else ""
    better = (
        "The test images wait: imgkit evaluate NAME scores them."
        if held
        else "Hold out a test with --set data.test=0.2, or score other data with imgkit evaluate NAME --data OTHER."
    )
    return [
        f"There is no test score. These are the validation images, which chose the weights{stopped} by {monitor}"
        f"{fitted}: the score flatters. {better}"
    ]


def _chance(metrics: Mapping[str, Any]) -> list[str]:
    if not no_better_than_chance(metrics):
        return []
    guess = "guessing by how frequent labels are" if metrics["task"] == "multilabel" else "always giving one answer"
    few = f" Score on more than {count(int(metrics['n']), 'image')}." if metrics["n"] < FEW else ""
    return [f"This cannot be told from {guess}.{few} Check the labels with imgkit data check."]


def _leaked(leak: Leak | None, stored: Stored) -> list[str]:
    if leak is None:
        return []
    titles = SHOWN[stored.task]
    among = " and ".join(f"{n:,} among {_BOTH[split]}" for split, n in leak.among.items())
    what = f"{leak.n:,} of these {leak.of:,} images also lie elsewhere in the data, byte for byte: {among}."
    if not leak.without:
        return [f"{what} None is left to be scored without them."]
    scores = " · ".join(f"{titles[name]} {with_interval(*one)}" for name, one in leak.without.items())
    return [f"{what} Without them: {scores}."]


def _missing(metrics: Mapping[str, Any]) -> list[str]:
    missing = list(map(str, metrics["classes_without_support"]))
    if not missing:
        return []
    kinds = ("label has", "labels have") if metrics["task"] == "multilabel" else ("class has", "classes have")
    which = listed(missing, _NAMED)
    return [
        f"{count(len(missing), *kinds)} no image here, so nothing is known of {'it' if len(missing) == 1 else 'them'}, "
        f"and the averages leave {'it' if len(missing) == 1 else 'them'} out: {which}."
    ]


def _wide(metrics: Mapping[str, Any]) -> list[str]:
    """The leading score's interval is wide, or there is none."""
    name, title = next(iter(SHOWN[metrics["task"]].items()))
    ends = metrics["intervals"][name]
    if ends is None:
        return [
            f"There are too few images or mistakes for an interval of {title}: how far it can be trusted is not known."
        ]
    return _wider((float(ends[1]) - float(ends[0])) / 2, title, int(metrics["n"]))


def _wider(half: float, title: str, n: int) -> list[str]:
    if half <= WIDE:
        return []
    return [
        f"The interval is wide: by {n:,} images {title} is known to ±{100 * half:.0f} points, and "
        "smaller differences between runs tell nothing."
    ]


def _tried(tried: Tried, split: str) -> list[str]:
    notes = []
    if tried.validation > 1:
        notes.append(
            f"{tried.validation:,} runs of this folder chose their weights on the same validation images. The best of "
            "many looks better on them than it is."
        )
    if split == "test" and tried.test > 1:
        notes.append(
            f"{tried.test:,} runs of this folder were scored on these test images. To choose among them by this score "
            "makes it flatter, too."
        )
    return notes


def _notes(metrics: Mapping[str, Any], split: str, monitor: str, early_stop: int | None) -> list[str]:
    notes = []
    if split == "test":
        stopped = (
            f" and would have ended training after {count(early_stop, 'epoch')} without a gain" if early_stop else ""
        )
        notes.append(f"Validation chose the weights by {monitor}{stopped}; the test images chose nothing.")
    drawn = metrics.get("bootstrap") or {}
    if drawn.get("draws"):
        means = "macro F1 and mAP" if metrics["task"] == "multilabel" else "macro F1"
        kind = "over images" if metrics["task"] == "multilabel" else "within each class"
        notes.append(
            f"Intervals are 95 %, Wilson's; for {means} with the deviation of a bootstrap {kind}, "
            f"{int(drawn['draws']):,} draws with seed {drawn['seed']}."
        )
    return notes


def _data_of(folder: RunFolder, split: str) -> str | None:
    """The fingerprint of a run's images of a split, from an evaluation of these; None where there is none."""
    for file in sorted((folder.path / "evaluations").glob(f"{split}@*/metrics.json")):
        try:
            data = folder.read_json(str(file.relative_to(folder.path))).get("data")
        except DiskError:
            continue
        if isinstance(data, str):
            return data
    return None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
