"""The tables of `imgkit report` on the terminal: of many runs, and of one."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console

from imgkit.data.rows import count
from imgkit.duration import format_seconds
from imgkit.errors import printable
from imgkit.report.collect import SHOWN, RunSummary, groups, read_details, read_run
from imgkit.report.coverage import coverage_line, coverage_of
from imgkit.report.leaderboard import footnote, group_title, millions, ranks, split_words
from imgkit.report.seeds import with_means
from imgkit.report.stored import stored_of
from imgkit.report.words import guessing, parent_words, scores
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.terminal import encodable, percent, print_columns

_OTHERS = ("top-1", "mAP", "exact sets")  # scores besides macro F1
_COLUMNS = ("#", "run", "model", "scored on", "n", "macro F1", "interval", *_OTHERS, "params", "time", "status", "date")
_KEEP = ("run", "macro F1", "n", "interval", *_OTHERS, "status", "#", "scored on", "model", "time", "params", "date")
_FOLDED = {"run", "status"}  # these may take several lines; no name is cut, so that it can be copied
_RIGHT = {"#", "n", "macro F1", *_OTHERS, "params", "time"}
_GAP = 2  # spaces between columns
_FOLD = 24  # the width to which such a column may be folded before another one is left out
_BESIDE_RUN = 52  # cells kept for the other columns before the run's name gets more than _FOLD


def print_runs(runs: Sequence[RunSummary], console: Console) -> None:
    """One table for each data set and split; on a narrow screen columns of less weight are left out."""
    for group in groups(with_means(runs)):
        rows = [_cells(rank, run) for rank, run in zip(ranks(group), group, strict=True)]
        title = encodable(printable(group_title(group)), console.encoding)
        console.print(title, style="bold", soft_wrap=True)
        chosen = _fitting(rows, console.width)
        texts = [[row[name] for name in chosen] for row in rows]
        print_columns(chosen, texts, console, right=_RIGHT, folded=_FOLDED)
        console.print()
    console.print(footnote(runs))


def print_run(folder: RunFolder, screen: Screen) -> None:
    """One run: what it was, its epochs, and its scores.

    Raises:
        DiskError: if a file of it is missing or damaged.
    """
    summary, details = read_run(folder), read_details(folder)
    screen.fact("Run", summary.name, summary.status)
    counts = " · ".join(f"{split} {n:,}" for split, n in details.images.items() if n)
    kinds = ("label", "labels") if summary.task == "multilabel" else ("class", "classes")
    screen.fact("Data", summary.data, f"{count(details.classes, *kinds)} · {counts}")
    screen.fact("Model", f"{summary.model} · {millions(summary.parameters)} parameters")
    screen.fact("Recipe", f"{summary.recipe} · seed {details.seed}")
    if details.parent is not None:
        screen.fact("Parent", parent_words(details.parent))
    if summary.seconds is not None:
        screen.fact("Time", format_seconds(summary.seconds))
    history, evaluations = details.history, details.evaluations
    for row in history:
        screen.table_row(row, monitor=details.monitor)
    best = max((row["step"] for row in history if row.get("best")), default=None)
    told = {f"val@{row['step']}" for row in history if row["step"] != best}  # by the table of epochs
    if evaluations:
        screen.line()
    names = sorted(evaluations.keys() - told, key=_by_step)
    for name in names:
        found = evaluations[name]
        screen.fact(name.ljust(max(map(len, names)) + 1), f"{scores(found)}; {guessing(found)}")
    _tell_coverage(folder, screen)


def _tell_coverage(folder: RunFolder, screen: Screen) -> None:
    """What leaving answers open would gain, of the evaluation that the page shows; nothing where it cannot be read."""
    stored = stored_of(folder)
    with suppress(OSError, ValueError, KeyError, IndexError, csv.Error):
        found = None if stored is None else coverage_of(stored.answers)
        if stored is not None and found is not None:
            screen.fact("Open", f"{stored.name}: {coverage_line(found)}")


def _by_step(name: str) -> tuple[str, int, str]:
    """`val@9` before `val@10` and `val@10-mean3`."""
    split, _, weights = name.partition("@")
    step = weights.partition("-")[0]
    return split, int(step) if step.isdecimal() else 0, weights


def _cells(rank: int | None, run: RunSummary) -> dict[str, str]:
    score = run.score
    cells = {
        "#": "" if rank is None else str(rank),
        "run": run.name,
        "model": run.model,
        "scored on": split_words(run).split(",")[0],
        "params": millions(run.parameters),
        "time": "" if run.seconds is None else format_seconds(run.seconds),
        "status": _state(run),
        "date": run.created[:10],
    }
    if score is not None:
        ends = score.measured["f1_macro"].interval
        cells |= {title: percent(score.measured[name].value) for name, title in SHOWN[run.task].items()}
        cells["n"] = f"{score.n:,}"
        cells["interval"] = "none" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    return {name: cells.get(name, "") for name in _COLUMNS}


def _state(run: RunSummary) -> str:
    if run.smoke and run.status == "finished":
        return "smoke run"
    return run.status.split(":")[0] if run.model else run.status  # a broken folder has its reason alone


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns that fit, by weight; empty ones are left out, folded ones count with the width they need at least."""
    room, chosen = width, set()
    for name in _KEEP:
        longest = max(cell_len(printable(row[name])) for row in rows)
        if longest == 0:
            continue
        if name in _FOLDED:
            longest = min(longest, max(_FOLD, width - _BESIDE_RUN) if name == "run" else _FOLD)
        needed = max(longest, len(name)) + _GAP
        if needed <= room or name == "run":
            chosen.add(name)
            room -= needed
    return [name for name in _COLUMNS if name in chosen]
