"""`imgkit report`: many runs as a table and a page, or one."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from imgkit.cli import complete
from imgkit.data.rows import count, listed
from imgkit.errors import UsageError, printable
from imgkit.run_names import is_run, no_runs, runs_in
from imgkit.screen import Screen
from imgkit.terminal import make_console, print_columns

if TYPE_CHECKING:
    from imgkit.run import RunFolder

_SERVED_S = 3600.0  # of one sleep while a page is served


def report(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder of runs, or one run.", autocompletion=complete.runs)
    ] = "runs",
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare runs with this one (else with the best).", autocompletion=complete.runs
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Of one run: its table's column, size, aspect or brightness. Repeatable."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write the page anew as training goes on.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it at an address of this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Port of that address (else any that is free).")
    ] = None,
) -> None:
    """Compare runs, or show one: a table here, and a page for a browser.

    A folder of runs gets report.html, report.md and leaderboard.csv; one run gets report.html.
    """
    if port is not None and not serve:
        raise UsageError("--port is not used: it is that of --serve.", f"imgkit report {path} --serve --port {port}")
    folder = Path(path)
    if (not folder.is_dir() and path != "runs") or is_run(folder) or _named_like(folder):
        if baseline is not None:
            hint = f"imgkit report {folder.parent if len(folder.parts) > 1 else 'runs'} --baseline {baseline}"
            raise UsageError("--baseline is of many runs, and this is one.", hint)
        _one(folder, by or [], watched=watch, port=(port or 0) if serve else None)
    else:
        if by:
            hint = f"imgkit report {'latest' if path == 'runs' else folder / 'NAME'} --by {by[0]}"
            raise UsageError("--by is of one run, and this is a folder of runs.", hint)
        _many(folder, baseline, watched=watch, port=(port or 0) if serve else None)


def _named_like(folder: Path) -> bool:
    """Whether a folder without runs, of pictures say, has but the name of a run."""
    return len(folder.parts) == 1 and not runs_in(folder) and is_run(Path("runs") / folder)


def _one(folder: Path, by: Sequence[str], *, watched: bool, port: int | None) -> None:
    from imgkit.report.run_page import write_run_page
    from imgkit.report.table import print_run
    from imgkit.report.watch import files_of_run, is_over
    from imgkit.run import RunFolder

    run = RunFolder.open(folder.name, folder.parent if len(folder.parts) > 1 else Path("runs"), Screen().note)
    print_run(run, Screen(file=sys.stdout))
    if by:
        _slice(run, by)
    _keep(
        lambda: [write_run_page(run)],
        lambda: files_of_run(run),
        lambda: is_over(run),
        watched=watched,
        port=port,
    )


def _slice(run: "RunFolder", by: Sequence[str]) -> None:
    """Score parts of the images that a run was scored on, each against the rest; kept for its page."""
    from imgkit.report.slice_values import columns_of, has_groups
    from imgkit.report.slices import write_slices
    from imgkit.report.stored import stored_of

    stored = stored_of(run)
    if stored is None:
        raise UsageError(f"{run.name} has no scored images yet, so there is nothing to slice.", "Let it train on.")
    with Screen().progress("looking at the images") as progress:
        columns = columns_of(run, stored, by, progress)
    found = write_slices(stored, columns, grouped=has_groups(run))
    screen, console = Screen(file=sys.stdout), make_console(sys.stdout)
    rows = [
        [
            *(one.title, f"{one.n:,}", f"{100 * one.score:.1f}", _ends(one.interval), f"{100 * one.difference:+.1f}"),
            *(_ends(one.ends), f"{one.corrected:.2g}"),
        ]
        for one in found.rows
    ]
    screen.line()
    heads = ["slice", "images", f"% {found.what}", "95 %", "difference", "95 % of it", "p (Holm)"]
    right = {"images", f"% {found.what}", "difference", "p (Holm)"}
    print_columns(heads, rows, console, right=right, folded={"slice"})
    screen.line(found.sentence)
    for text in found.notes:
        screen.item("!", text)


def _ends(interval: tuple[float, float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in interval)


def _many(folder: Path, baseline: str | None, *, watched: bool, port: int | None) -> None:
    from imgkit.report.collect import collect, other_formats
    from imgkit.report.leaderboard import write_reports
    from imgkit.report.runs_page import write_runs_page
    from imgkit.report.sweep import print_sweep
    from imgkit.report.table import print_runs
    from imgkit.report.trials import arrange, find_baseline
    from imgkit.report.watch import files_of_runs
    from imgkit.sweeps.record import read_record

    found, others = (collect(folder), other_formats(folder)) if folder.is_dir() else ([], [])
    if others:
        many = count(len(others), "run")
        Screen().note(f"{many} of another format, which this imgkit does not read, left out: {listed(others)}")
    if not found:
        raise no_runs(folder)
    if baseline is not None:
        find_baseline(arrange(folder, found), baseline, folder)  # what is wrong with it is told before the table
    print_runs(found, make_console(sys.stdout))
    if (record := read_record(folder)) is not None:
        print_sweep(folder, record, make_console(sys.stdout))

    def write(*, live: bool = watched) -> list[Path]:
        runs = collect(folder)
        return [write_runs_page(folder, runs, baseline, watched=live), *write_reports(folder, runs)]

    try:
        _keep(write, lambda: files_of_runs(folder), lambda: False, watched=watched, port=port)
    finally:
        if watched:
            write(live=False)  # no browser is to look for a next page


def _keep(
    write: Callable[[], Sequence[Path]],
    files: Callable[[], Iterable[Path]],
    over: Callable[[], bool],
    *,
    watched: bool,
    port: int | None,
) -> None:
    """Write a page, the first of the files that `write` makes; again as its sources change, if `watched`; serve it."""
    from imgkit.report.serve import serving
    from imgkit.report.watch import watch

    screen, made = Screen(), write()
    screen.fact("Wrote", *(printable(str(file)) for file in made))
    try:
        with ExitStack() as stack:
            if port is not None:
                screen.fact("Serving", f"{stack.enter_context(serving(made[0], port))}  (Ctrl-C ends)")
            if watched:
                screen.fact("Watch", "the page is written again as training goes on  (Ctrl-C ends)")
                watch(write, files, over)
            while port is not None:
                sleep(_SERVED_S)
    except KeyboardInterrupt:  # how a person ends it
        screen.line()
