"""Runs that differ in their seed alone, as one row: the mean of their scores over seeds."""

from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import fmean, stdev

from imgkit.report.collect import SHOWN, Measured, RunSummary, Score


def with_means(runs: Iterable[RunSummary]) -> list[RunSummary]:
    """The runs, and a row for the mean of each two or more finished ones that are alike but for their seed.

    Alike: model, weights, recipe, data, split and task, scored on the same split. Of several with one seed the newest
    counts.
    """
    runs = list(runs)
    alike: dict[tuple[str, ...], dict[int, RunSummary]] = {}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.ranked and run.score is not None and run.likeness and run.status == "finished":
            place = (run.fingerprint, run.task, run.likeness, run.score.split)
            alike.setdefault(place, {})[run.seeds[0]] = run
    return [*runs, *(_mean([of[seed] for seed in sorted(of)]) for of in alike.values() if len(of) > 1)]


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two or more fractions, cut to [0, 1]."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def _mean(runs: Sequence[RunSummary]) -> RunSummary:
    newest = max(runs, key=lambda run: run.created)
    scores = [run.score for run in runs if run.score is not None]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    measured = {}
    for name in SHOWN[newest.task]:
        values = [score.measured[name].value for score in scores]
        # Scores that agree say nothing of how training varies: an interval without width would read as certainty.
        measured[name] = Measured(fmean(values), t_interval(values) if len(set(values)) > 1 else None)
    return RunSummary(
        name=f"mean over n = {len(runs)} seeds",
        status="",
        model=newest.model,
        recipe=newest.recipe,
        data=newest.data,
        fingerprint=newest.fingerprint,
        task=newest.task,
        created=newest.created,
        parameters=newest.parameters,
        seconds=fmean(seconds) if seconds else None,
        score=Score(scores[0].split, scores[0].n, measured),
        seeds=tuple(seed for run in runs for seed in run.seeds),
        likeness=newest.likeness,
    )
