"""leaderboard.csv and report.md: the same rows as on the terminal, as files."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgkit.cells import Rows, guarded, visible
from imgkit.duration import format_seconds
from imgkit.errors import printable
from imgkit.report.collect import SHOWN, RunSummary, groups
from imgkit.report.seeds import with_means
from imgkit.report.words import with_interval
from imgkit.run import replace_text

_SCORES = ("top1", "f1_macro", "map", "subset_accuracy")
CSV_COLUMNS = [
    "rank",
    "run",
    "model",
    "recipe",
    "seeds",
    "data",
    "fingerprint",
    "task",
    "split",
    "n",
    *(name for score in _SCORES for name in (score, f"{score}_low", f"{score}_high")),
    "parameters",
    "seconds",
    "status",
    "created",
]


def write_reports(out: Path, runs: Sequence[RunSummary]) -> list[Path]:
    """Write `leaderboard.csv` and `report.md` into `out`.

    Returns:
        The files.

    Raises:
        DiskError: if one cannot be written.
    """
    files = {out / "leaderboard.csv": csv_text(runs), out / "report.md": markdown(runs)}
    for file, text in files.items():
        replace_text(file, text)
    return list(files)


def csv_text(runs: Iterable[RunSummary]) -> str:
    """All runs as CSV; fractions in [0, 1]; `rank` counts within the same fingerprint and split, see `ranks`.

    A row with several `seeds` is the mean over them, and its intervals are those of the mean.
    """
    stream = io.StringIO()
    rows = Rows(stream)
    rows.writerow(CSV_COLUMNS)
    for group in groups(with_means(runs)):
        for rank, run in zip(ranks(group), group, strict=True):
            rows.writerow([guarded(visible(cell)) for cell in _csv_cells(rank, run)])
    return stream.getvalue()


def markdown(runs: Sequence[RunSummary]) -> str:
    """All runs as Markdown: one table for each data set and split, since only those runs can be compared."""
    lines = ["# Runs", ""]
    for group in groups(with_means(runs)):
        lines += [f"## {_md(group_title(group))}", ""]
        titles = ["rank", "run", "model", "split", "n", *SHOWN[group[0].task].values()]
        titles += ["parameters", "time", "status", "date"]
        lines.append("| " + " | ".join(titles) + " |")
        lines.append("|" + "---|" * len(titles))
        for rank, run in zip(ranks(group), group, strict=True):
            lines.append("| " + " | ".join(_md(cell) for cell in _md_cells(rank, run)) + " |")
        lines.append("")
    return "\n".join([*lines, footnote(runs)]) + "\n"


def ranks(group: Sequence[RunSummary]) -> list[int | None]:
    """The rank of each run of a group: one more than the runs of its split that are better, so equal scores share one.

    None for what takes no part. The scores of test and of validation are of other images, and each has a first.
    """
    merits = [None if run.score is None or not run.ranked else (run.score.split, run.score.merit) for run in group]
    return [
        None if own is None else 1 + sum(one is not None and one[0] == own[0] and one[1] > own[1] for one in merits)
        for own in merits
    ]


def group_title(group: Sequence[RunSummary]) -> str:
    """`cells/ (data 3f9a12bc)`, with the task where it is multi-label, or that the folders are broken."""
    first = group[0]
    if not first.fingerprint:
        return "Folders that cannot be read"
    return f"{first.data} (data {first.fingerprint[:8]}{', multi-label' * (first.task == 'multilabel')})"


def footnote(runs: Iterable[RunSummary]) -> str:
    """What a reader has to know about the scores."""
    text = "Intervals are 95 %. Runs are ranked by macro F1, on the same data, split and task only."
    if any(run.score is not None and run.score.split == "val" for run in runs):
        text += " A score on val flatters: val chose the weights."
    if any(run.is_mean for run in with_means(runs)):
        text += " The interval of a mean over seeds is Student's, of that mean: how training varies on these images."
    return text


def split_words(run: RunSummary) -> str:
    """`test`, `val, chose the weights`, or `smoke run`."""
    if run.smoke:
        return "smoke run"
    if run.score is None:
        return ""
    return "test" if run.score.split == "test" else "val, chose the weights"


def _csv_cells(rank: int | None, run: RunSummary) -> list[str]:
    score = run.score
    numbers = [""] * (2 + 3 * len(_SCORES))
    if score is not None:
        found = [score.measured.get(name) for name in _SCORES]
        scores = [(None,) * 3 if one is None else (one.value, *(one.interval or (None, None))) for one in found]
        cells = ["" if value is None else f"{value:.6f}" for triple in scores for value in triple]
        numbers = [score.split, str(score.n), *cells]
    return [
        "" if rank is None else str(rank),
        run.name,
        run.model,
        run.recipe,
        " ".join(map(str, run.seeds)),
        run.data,
        run.fingerprint,
        run.task if run.fingerprint else "",
        *numbers,
        "" if run.parameters is None else str(run.parameters),
        "" if run.seconds is None else f"{run.seconds:.1f}",
        ("smoke, " if run.smoke else "") + run.status,
        run.created,
    ]


def _md_cells(rank: int | None, run: RunSummary) -> list[str]:
    score = run.score
    return [
        "" if rank is None else str(rank),
        run.name,
        run.model,
        split_words(run),
        "" if score is None else f"{score.n:,}",
        *("" if score is None else with_interval(*score.measured[name]) for name in SHOWN[run.task]),
        millions(run.parameters),
        "" if run.seconds is None else format_seconds(run.seconds),
        run.status,
        run.created[:10],
    ]


def millions(count: int | None) -> str:
    """`23.6 M`."""
    return "" if count is None else f"{count / 1e6:.1f} M"


def _md(text: str) -> str:
    """`text` as plain words of a Markdown table: no markup, no HTML, no line break."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + char if char in "\\`*_[]|#" else char for char in shown)
