"""leaderboard.csv and report.md: the same rows as on the terminal, as files."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgkit.cells import guarded
from imgkit.duration import format_seconds
from imgkit.errors import printable
from imgkit.report.collect import RunSummary, groups
from imgkit.run import replace_text
from imgkit.terminal import percent

CSV_COLUMNS = [
    "rank",
    "run",
    "model",
    "recipe",
    "data",
    "fingerprint",
    "split",
    "n",
    "top1",
    "top1_low",
    "top1_high",
    "f1_macro",
    "f1_macro_low",
    "f1_macro_high",
    "parameters",
    "seconds",
    "status",
    "created",
]
NO_INTERVAL = "too few images or mistakes for an interval"
_MD_COLUMNS = ("rank", "run", "model", "split", "n", "macro F1", "top-1", "parameters", "time", "status", "date")


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
    """All runs as CSV; fractions in [0, 1]; `rank` counts within the same fingerprint."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for group in groups(runs):
        for rank, run in enumerate(group, start=1):
            rows.writerow([guarded(cell) for cell in _csv_cells(rank, run)])
    return stream.getvalue()


def markdown(runs: Sequence[RunSummary]) -> str:
    """All runs as Markdown: one table for each data set and split, since only those runs can be compared."""
    lines = ["# Runs", ""]
    for group in groups(runs):
        lines += [f"## {_md(group_title(group))}", ""]
        lines.append("| " + " | ".join(_MD_COLUMNS) + " |")
        lines.append("|" + "---|" * len(_MD_COLUMNS))
        for rank, run in enumerate(group, start=1):
            lines.append("| " + " | ".join(_md(cell) for cell in _md_cells(rank, run)) + " |")
        lines.append("")
    return "\n".join([*lines, footnote(runs)]) + "\n"


def group_title(group: Sequence[RunSummary]) -> str:
    """`cells/ (data 3f9a12bc)`, or that the folders are broken."""
    first = group[0]
    return f"{first.data} (data {first.fingerprint[:8]})" if first.fingerprint else "Folders that cannot be read"


def footnote(runs: Iterable[RunSummary]) -> str:
    """What a reader has to know about the scores."""
    text = "Intervals are 95 %. Runs are ranked by macro F1, on the same data and split only."
    if any(run.score is not None and run.score.split == "val" for run in runs):
        text += " A score on val flatters: val chose the weights."
    return text


def split_words(run: RunSummary) -> str:
    """`test`, `val, chose the weights`, or `smoke run`."""
    if run.smoke:
        return "smoke run"
    if run.score is None:
        return ""
    return "test" if run.score.split == "test" else "val, chose the weights"


def _csv_cells(rank: int, run: RunSummary) -> list[str]:
    score = run.score
    numbers = [""] * 8
    if score is not None:
        scores = (score.top1, *score.top1_interval, score.f1_macro, *(score.f1_interval or (None, None)))
        numbers = [score.split, str(score.n), *("" if value is None else f"{value:.6f}" for value in scores)]
    return [
        str(rank) if run.ranked else "",
        run.name,
        run.model,
        run.recipe,
        run.data,
        run.fingerprint,
        *numbers,
        "" if run.parameters is None else str(run.parameters),
        "" if run.seconds is None else f"{run.seconds:.1f}",
        ("smoke, " if run.smoke else "") + run.status,
        run.created,
    ]


def _md_cells(rank: int, run: RunSummary) -> list[str]:
    score = run.score
    return [
        str(rank) if run.ranked else "",
        run.name,
        run.model,
        split_words(run),
        "" if score is None else f"{score.n:,}",
        "" if score is None else with_interval(score.f1_macro, score.f1_interval),
        "" if score is None else with_interval(score.top1, score.top1_interval),
        millions(run.parameters),
        "" if run.seconds is None else format_seconds(run.seconds),
        run.status,
        run.created[:10],
    ]


def with_interval(value: float, interval: Sequence[float] | None) -> str:
    """`92.5 % (91.2 to 93.8)` for fractions, or why there is no interval."""
    ends = NO_INTERVAL if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
    return f"{percent(value)} ({ends})"


def millions(count: int | None) -> str:
    """`23.6 M`."""
    return "" if count is None else f"{count / 1e6:.1f} M"


def _md(text: str) -> str:
    """`text` as plain words of a Markdown table: no markup, no HTML, no line break."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + char if char in "\\`*_[]|#" else char for char in shown)
