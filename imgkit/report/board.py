"""What the page of many runs says of each ladder, as words: rows of tables, and what a reader has to know."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from imgkit.data.rows import count
from imgkit.duration import format_seconds
from imgkit.report.collect import SHOWN, Measured, RunSummary
from imgkit.report.compare import Gap
from imgkit.report.configurations import Configuration
from imgkit.report.differences import Difference, Differences
from imgkit.report.headline import WIDE
from imgkit.report.leaderboard import millions
from imgkit.report.recipe_diff import Differing
from imgkit.report.trials import Ladder, Trial, Tried
from imgkit.report.words import NO_INTERVAL
from imgkit.terminal import percent

_SHORT = 2  # keys named beside a run's name
RIGHT: Mapping[str, str] = {"single": "top-1", "multilabel": "exact sets"}
"""What McNemar's test is of, by task."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: as shown; the page makes control characters visible.
        value: that the column is sorted by; None: by its text.
        small: in smaller letters under it.
        link: where it leads, below the page's folder; "" for nowhere.
    """

    text: str
    value: float | None = None
    small: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows below titles; a title that begins with "#" is of numbers."""

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def leaderboard(ladder: Ladder, means: Iterable[tuple[RunSummary, Sequence[str]]]) -> Table:
    """The runs of a ladder by rank, then the means over seeds of the same split, with the names of their runs."""
    task, tested = ladder.best.run.task, ladder.split == "test"
    titles = ["#rank", "run", *(f"#{title}" for title in SHOWN[task].values()), *["#macro F1 on val"] * tested]
    titles += ["network", "recipe", "seed", "#parameters", "#size", "#time", "status", "date"]
    rows = [
        _row(Cell(str(rank), rank), trial.run, trial, tested)
        for rank, trial in zip(ladder.ranks, ladder.trials, strict=True)
    ]
    return Table(titles, rows + [_row(Cell(""), run, None, tested, names) for run, names in means])


def _row(rank: Cell, run: RunSummary, trial: Trial | None, tested: bool, names: Sequence[str] = ()) -> list[Cell]:
    assert run.score is not None
    val = None if trial is None or trial.val is None else trial.val.measured["f1_macro"]
    size = None if trial is None else trial.size_bytes
    return [
        rank,
        Cell(run.name, small=", ".join(names)) if trial is None else named(trial),
        *(scored(run.score.measured[name]) for name in SHOWN[run.task]),
        *[Cell("") if val is None else scored(val)] * tested,
        Cell(run.model),
        Cell(run.recipe),
        Cell(" ".join(map(str, run.seeds)), float(run.seeds[0]) if len(run.seeds) == 1 else None),
        Cell(millions(run.parameters), run.parameters),
        Cell("" if size is None else f"{size / 2**20:.1f} MiB", size),
        Cell("" if run.seconds is None else format_seconds(run.seconds), run.seconds),
        Cell(run.status),
        Cell(run.created[:10]),
    ]


def differences(found: Differences) -> Table:
    """Each run against the baseline, in points of a hundred."""
    right = RIGHT[found.baseline.run.task]
    titles = ["run", "verdict", "#macro F1", f"#{right}", "#won", "#lost", "#p", "#p by Holm"]
    return Table(titles, [_difference(row) for row in found.rows])


def _difference(row: Difference) -> list[Cell]:
    verdict = Cell(row.verdict, small=row.problem)
    name = named(row.trial, in_short(row.changes or ()))
    if row.found is None:
        return [name, verdict, *[Cell("")] * 6]
    test = row.found.test
    return [
        name,
        verdict,
        points(row.found.f1),
        points(row.found.right),
        Cell(f"{test.gained:,}", test.gained),
        Cell(f"{test.lost:,}", test.lost),
        Cell(p_words(test.p), test.p, "exact" if test.exact else "chi-squared"),
        Cell("" if row.corrected is None else p_words(row.corrected), row.corrected),
    ]


def over_seeds(configurations: Sequence[Configuration], found: Differences) -> Table:
    """Configurations as means over seeds, and against that of the baseline in pairs of one seed."""
    titles = ["runs", "verdict", "#macro F1", "#to the baseline’s", "seeds", "network", "recipe"]
    asked = {row.trial.run.name: row.changes or () for row in found.rows}
    return Table(titles, [_configuration(one, asked) for one in configurations])


def _configuration(one: Configuration, asked: Mapping[str, Sequence[Differing]]) -> list[Cell]:
    newest, scores, pairs = one.trials[-1].run, one.scores, one.against
    names = [trial.run.name for trial in one.trials]
    keys = next((asked[name] for name in names if name in asked), ()) if pairs is not None else ()
    return [
        Cell(", ".join(names), small=in_short([key for key in keys if key.key != "seed"])),
        Cell(one.verdict),
        scored(Measured(scores.mean, one.interval), none="no interval" if len(scores.values) == 1 else "seeds agree"),
        Cell("") if pairs is None else points(Gap(pairs.mean, pairs.ends), small=count(len(pairs.values), "pair")),
        Cell(" ".join(map(str, scores.values)), float(len(scores.values))),
        Cell(newest.model),
        Cell(newest.recipe),
    ]


def changes(row: Difference, base: str) -> tuple[str, Sequence[Differing]]:
    """What is said of how a run was asked for otherwise than the baseline `base`, and the keys that differ."""
    if row.changes is None:
        return "The recipe of one of the two cannot be read.", ()
    if not row.changes:
        return f"Nothing: the same network, weights, recipe, seed and versions as {base}.", ()
    text = "" if row.whole else "A recipe with parts of a plugin or of another version: only given values are compared."
    return text, row.changes


def notes_of(ladder: Ladder, found: Differences, tried: Tried) -> list[str]:
    """What a reader has to know about the scores of a ladder."""
    notes, n = [], ladder.best.score.n
    many = count(len(ladder.trials), "run")
    tries = _tries(tried)
    if ladder.split == "test":
        notes.append(f"{many} scored on the same {count(n, 'test image')}, which chose no weights. {tries}")
        if len(ladder.trials) > 1:
            notes.append(
                "Taking the best of several runs by its test score is a choice by test: that score flatters, the more "
                "so the more runs there are. Images that no run was scored on would tell."
            )
    else:
        notes.append(
            f"{many} scored on the same {count(n, 'validation image')}, which chose the weights: these scores flatter, "
            f"and are no test scores. {tries}"
        )
    interval = ladder.best.score.measured["f1_macro"].interval
    if interval is None:
        notes.append(f"The best run has no interval: {NO_INTERVAL}.")
    elif interval[1] - interval[0] > 2 * WIDE:
        notes.append(
            f"The interval of the best run is wide, {100 * (interval[1] - interval[0]):.0f} points: with {n:,} images "
            "runs have to be far apart to be told apart."
        )
    notes.append(f"Without a model, {ladder.best.guessing}.")
    return [*notes, *_of_the_baseline(found)]


def _tries(tried: Tried) -> str:
    if not tried.runs:
        return "Which validation images chose the weights is not known any more."
    return (
        f"{count(tried.runs, 'run')} of {count(tried.configurations, 'configuration')} "
        f"{'were' if tried.runs > 1 else 'was'} tried against the same validation images, and "
        f"{count(tried.epochs, 'evaluation')} on them chose among checkpoints (runs that were deleted are not counted)."
    )


def _of_the_baseline(found: Differences) -> list[str]:
    if not found.rows:
        return []
    notes = []
    if not found.chosen:
        notes.append(
            "The baseline is the run that is best on these very images, so its lead is partly luck. Name another one "
            "with --baseline."
        )
    if found.tests > 1:
        notes.append(
            f"{found.tests} comparisons were made: of intervals of 95 %, one in twenty leaves zero out by chance. "
            "p by Holm is corrected for their number, intervals are not."
        )
    if found.left_out:
        notes.append(f"{count(found.left_out, 'more run')} further down were not compared.")
    return notes


def named(trial: Trial, small: str = "") -> Cell:
    """A run's name; it leads to the run's page where there is one."""
    page = trial.folder.path / "report.html"
    there = quote(os.fsencode(trial.folder.path.name))  # bytes, which need not be UTF-8
    return Cell(trial.run.name, small=small, link=f"./{there}/report.html" * page.is_file())


def in_short(changes: Sequence[Differing]) -> str:
    """`phases.all.lr 0.003, seed 1 and 4 more`."""
    first = ", ".join(f"{one.key} {one.other}" for one in changes[:_SHORT])
    more = len(changes) - _SHORT
    return f"{first} and {more:,} more" if more > 0 else first


def scored(measured: Measured, none: str = "no interval") -> Cell:
    """`92.5 %` and under it `91.2 to 93.8`."""
    ends = measured.interval
    small = none if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    return Cell(percent(measured.value), measured.value, small)


def points(gap: Gap, small: str = "") -> Cell:
    """`−1.2` and under it `−2.4 to +0.1`, in points of a hundred."""
    ends = "no interval" if gap.interval is None else " to ".join(_signed(end, near="−0.0") for end in gap.interval)
    return Cell(_signed(gap.value), gap.value, f"{ends}, {small}" if small else ends)


def p_words(p: float) -> str:
    """`0.013`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _signed(value: float, near: str = "0.0") -> str:
    """Points with their sign; `near` is what stands for less than nothing that rounds to it.

    An end of an interval keeps its sign there: whether it lies below zero is what the verdict hangs on.
    """
    text = f"{100 * value:+.1f}"
    if text in ("+0.0", "-0.0"):
        return near if value < 0 else "0.0"
    return text.replace("-", "−")
