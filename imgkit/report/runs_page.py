"""runs/report.html: many runs as one page, made from their text files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from imgkit.data.rows import count
from imgkit.report import board
from imgkit.report.answers import Shas
from imgkit.report.board import Table
from imgkit.report.collect import RunSummary
from imgkit.report.configurations import configurations
from imgkit.report.differences import Differences, against
from imgkit.report.html.shell import render
from imgkit.report.leaderboard import group_title, split_words
from imgkit.report.recipe_diff import Differing
from imgkit.report.runs_charts import CURVES, draw_costs, draw_curves, draw_more_data
from imgkit.report.seeds import with_means
from imgkit.report.sweep import sweep_part
from imgkit.report.trials import Group, Ladder, Trial, arrange, find_baseline, tried
from imgkit.run import replace_text
from imgkit.sweeps.record import read_record

FILE = "report.html"
REFRESH_S = 5  # from one look of the browser to the next, while a run goes on


class Change(NamedTuple):
    """What one run was asked for otherwise than the baseline."""

    run: str
    text: str
    keys: Sequence[Differing]


@dataclass(frozen=True)
class Section:
    """A ladder as the page shows it.

    Args:
        anchor: its id on the page.
        label: what names its tables apart from those of other sections.
        title: which images its runs are scored on.
        notes: what a reader has to know.
        leaderboard: the runs by rank.
        baseline: the run that the others are compared with.
        differences: the others; None where there is none.
        changes: how they were asked for otherwise.
        seeds: configurations over seeds; None where each has one.
        curves: over each other.
        undrawn: names of the runs whose curves are not among them.
        costs: macro F1 against size, time and data.
    """

    anchor: str
    label: str
    title: str
    notes: Sequence[str]
    leaderboard: Table
    baseline: str
    differences: Table | None
    changes: Sequence[Change]
    seeds: Table | None
    curves: Sequence[Markup]
    undrawn: Sequence[str]
    costs: Sequence[Markup]


class Unranked(NamedTuple):
    """A run without a rank, and why."""

    run: str
    network: str
    why: str


@dataclass(frozen=True)
class Part:
    """A group as the page shows it."""

    number: int
    title: str
    runs: int
    ranked: str
    sections: Sequence[Section]
    unranked: Sequence[Unranked]


def write_runs_page(
    out: Path, runs: Sequence[RunSummary], baseline: str | None = None, *, watched: bool = False
) -> Path:
    """Write `out`/report.html of the `runs` under `out`.

    Args:
        out: the folder of runs.
        runs: as `collect` gives them.
        baseline: the run that the others of its group are compared with; None: the best one of each.
        watched: whether the page is written again as runs go on, so that a browser is to look again.

    Returns:
        The file.

    Raises:
        UsageError: if there is no such baseline, or it cannot be one.
        DiskError: if the page cannot be written.
    """
    replace_text(out / FILE, runs_page(out, runs, baseline, watched=watched))
    return out / FILE


def runs_page(out: Path, runs: Sequence[RunSummary], baseline: str | None = None, *, watched: bool = False) -> str:
    """The page as HTML.

    Raises:
        UsageError: if there is no such baseline, or it cannot be one.
    """
    place = out.resolve().name if out.name in {"", ".."} else out  # the page may be read elsewhere
    groups = arrange(out, runs)
    base = None if baseline is None else find_baseline(groups, baseline, out)
    means, shas = [run for run in with_means(runs) if run.is_mean], Shas()
    parts = [_part(group, groups, base, means, shas) for group in groups]
    broken = [Unranked(run.name, "", run.status) for run in runs if not run.fingerprint]
    record = read_record(out)
    going = [run.name for run in runs if run.status.startswith("running")]
    return render(
        "runs.html.j2",
        title=f"Runs in {place}",
        heading=f"Runs in {place}",
        summary=_summary(runs, groups, len(broken)),
        apart=_apart(groups, base),
        sweep=None if record is None else sweep_part(out, record),
        going=going,
        parts=parts,
        more_data=draw_more_data(groups),
        broken=broken,
        refresh_s=REFRESH_S if going or watched else None,
    )


def _part(group: Group, groups: Sequence[Group], base: Trial | None, means: Sequence[RunSummary], shas: Shas) -> Part:
    sections = [
        _section(group, number, ladder, groups, base, means, shas) for number, ladder in enumerate(group.ladders, 1)
    ]
    on_ladders = {trial.run.name for ladder in group.ladders for trial in ladder.trials}
    unranked = [
        Unranked(run.name, run.model, group.problems.get(run.name) or split_words(run) or "no score yet: " + run.status)
        for run in group.runs
        if run.name not in on_ladders
    ]
    ranked = (
        " · ".join(count(ladder.best.score.n, f"{ladder.split} image") for ladder in group.ladders) or "nothing yet"
    )
    return Part(group.number, group_title(group.runs), len(group.runs), ranked, sections, unranked)


def _section(
    group: Group,
    number: int,
    ladder: Ladder,
    groups: Sequence[Group],
    base: Trial | None,
    means: Sequence[RunSummary],
    shas: Shas,
) -> Section:
    found = against(ladder, base, shas)
    seeds = configurations(ladder, found.baseline)
    of = {one.trials[0].run.likeness: [trial.run.name for trial in one.trials] for one in seeds}
    of_ladder = [
        (mean, of[mean.likeness])
        for mean in means
        if mean.fingerprint == group.fingerprint
        and mean.likeness in of
        and mean.score is not None
        and mean.score.split == ladder.split
    ]
    return Section(
        anchor=f"group-{group.number}-{number}",
        label=f"group {group.number}, {ladder.split}{f', {number}' if number > 1 else ''}",
        title="Scored on test" if ladder.split == "test" else "Scored on validation, which chose the weights",
        notes=board.notes_of(ladder, found, tried(groups, ladder.best.watched)),
        leaderboard=board.leaderboard(ladder, of_ladder),
        baseline=found.baseline.run.name,
        differences=board.differences(found) if found.rows else None,
        changes=_changes(found),
        seeds=board.over_seeds(seeds, found) if seeds else None,
        curves=draw_curves(ladder),
        undrawn=[trial.run.name for trial in ladder.trials[CURVES:]],
        costs=draw_costs(ladder),
    )


def _changes(found: Differences) -> list[Change]:
    base = found.baseline.run.name
    return [Change(row.trial.run.name, *board.changes(row, base)) for row in found.rows]


def _summary(runs: Sequence[RunSummary], groups: Sequence[Group], broken: int) -> str:
    ranked = sum(len(ladder.trials) for group in groups for ladder in group.ladders)
    parts = [count(len(runs), "run"), f"{ranked:,} with a rank", count(len(groups), "data set")]
    parts += [count(broken, "folder that cannot be read", "folders that cannot be read")] if broken else []
    return " · ".join(parts)


def _apart(groups: Sequence[Group], base: Trial | None) -> list[str]:
    """That runs of different groups are not ranked together, and where a named baseline is none."""
    notes = []
    if len(groups) > 1:
        notes.append(
            "Runs of different groups were trained or scored on other images, so they are not ranked with each other."
        )
    if base is not None:
        own = next(group.number for group in groups if group.fingerprint == base.run.fingerprint)
        elsewhere = [str(group.number) for group in groups if group.number != own and group.ladders]
        if elsewhere:
            notes.append(
                f"The baseline {base.run.name} is of group {own}: in group {', '.join(elsewhere)} the best run is the "
                "baseline."
            )
    return notes
