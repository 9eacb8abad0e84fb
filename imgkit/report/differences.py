"""The table of differences of a ladder: each run against a baseline on the same images, and what may be said of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgkit.errors import DataError, DiskError
from imgkit.report.answers import Answers, Shas, paired, read_answers
from imgkit.report.compare import Comparison, compare, holm
from imgkit.report.recipe_diff import Asked, Differing, asked_of, differing
from imgkit.report.trials import Ladder, Trial

MOST = 20
"""Runs of a ladder that are compared with its baseline."""
_LEVEL = 0.05  # of p, corrected


@dataclass(frozen=True)
class Difference:
    """One run against the baseline.

    Args:
        trial: the run.
        found: how its answers differ; None where they cannot be compared.
        corrected: the p of McNemar's test by Holm, for all runs of the table.
        problem: why they cannot be compared.
        changes: what it was asked for that the baseline was not; None where a recipe cannot be read.
        whole: whether `changes` knows defaults; else it compares what was given.
    """

    trial: Trial
    found: Comparison | None
    corrected: float | None
    problem: str
    changes: Sequence[Differing] | None
    whole: bool

    @property
    def verdict(self) -> str:
        """What the numbers allow to say: "not distinguishable", "higher" or "lower".

        By macro F1 and by how often a run is right; where these two do not say the same, what each of them says.
        """
        if self.found is None:
            return "not compared"
        if self.found.same_answers:
            return "not distinguishable: the same answer to every image"
        f1, test = self.found.f1, self.found.test
        way = "" if not f1.told_apart else "higher" if f1.value > 0 else "lower"
        if self.corrected is None or self.corrected >= _LEVEL:
            if way:
                return f"{way} macro F1; how often they are right is not distinguishable"
            few = ": too few images or differing answers for an interval"
            return f"not distinguishable{few if f1.interval is None else ''}"
        often = "more" if test.gained > test.lost else "less"
        if way == ("higher" if often == "more" else "lower"):
            return way
        return f"right {often} often; {f'{way} macro F1' if way else 'macro F1 is not distinguishable'}"


@dataclass(frozen=True)
class Differences:
    """All of a ladder.

    Args:
        baseline: that the others are compared with.
        chosen: whether it was named by the user; else it is the best of the ladder.
        rows: the best `MOST` others, best first.
        left_out: how many more there are.
    """

    baseline: Trial
    chosen: bool
    rows: Sequence[Difference]
    left_out: int

    @property
    def tests(self) -> int:
        """How many comparisons were made."""
        return sum(row.found is not None for row in self.rows)


def against(ladder: Ladder, baseline: Trial | None, shas: Shas) -> Differences:
    """The runs of `ladder` against `baseline`, or against its best run where that is None or on another ladder."""
    chosen = baseline is not None and any(trial.run.name == baseline.run.name for trial in ladder.trials)
    base = baseline if chosen and baseline is not None else ladder.best
    others = [trial for trial in ladder.trials if trial.run.name != base.run.name]
    answers, asked = _answers(base, shas), _asked(base)
    rows = [_row(trial, answers, asked, shas) for trial in others[:MOST]]
    tested = [row for row in rows if row.found is not None]
    corrected = holm([row.found.test.p for row in tested if row.found is not None])
    places = {row.trial.run.name: p for row, p in zip(tested, corrected, strict=True)}
    told = [
        Difference(row.trial, row.found, places.get(row.trial.run.name), row.problem, row.changes, row.whole)
        for row in rows
    ]
    return Differences(base, chosen, told, max(0, len(others) - MOST))


def _row(trial: Trial, base: Answers | str, asked: Asked | None, shas: Shas) -> Difference:
    own, wanted = _answers(trial, shas), _asked(trial)
    changes = None if asked is None or wanted is None else differing(asked, wanted)
    whole = asked is not None and wanted is not None and None not in (asked.resolved, wanted.resolved)
    for answers in (base, own):
        if isinstance(answers, str):
            return Difference(trial, None, None, answers, changes, whole)
    assert isinstance(base, Answers)
    assert isinstance(own, Answers)
    try:
        found = compare(*paired(base, own))
    except DataError as error:
        return Difference(trial, None, None, error.message, changes, whole)
    return Difference(trial, found, None, "", changes, whole)


def _answers(trial: Trial, shas: Shas) -> Answers | str:
    """The answers of a run, or why they cannot be had."""
    try:
        return read_answers(trial.folder, trial.evaluation, shas)
    except DiskError as error:
        return error.message


def _asked(trial: Trial) -> Asked | None:
    try:
        return asked_of(trial.folder)
    except DiskError:
        return None
