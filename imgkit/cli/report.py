"""`imgkit report`: many runs as a table and a page, or one."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from imgkit.data.rows import count, listed
from imgkit.errors import UsageError, printable
from imgkit.run import RunFolder
from imgkit.run_names import is_run, no_runs
from imgkit.screen import Screen
from imgkit.terminal import make_console

_SERVED_S = 3600.0  # of one sleep while a page is served


def report(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A folder of runs, or one run.")] = "runs",
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare runs with this one (else with the best).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write the page anew as training goes on.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it at an address of this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of that address (else any that is free).")] = None,
) -> None:
    """Compare runs, or show one: a table here, and a page for a browser.

    A folder of runs gets report.html, report.md and leaderboard.csv; one run gets report.html.
    """
    if port is not None and not serve:
        raise UsageError("--port is not used: it is that of --serve.", f"imgkit report {path} --serve --port {port}")
    folder = Path(path)
    if (not folder.is_dir() and path != "runs") or is_run(folder):
        if baseline is not None:
            hint = f"imgkit report {folder.parent if len(folder.parts) > 1 else 'runs'} --baseline {baseline}"
            raise UsageError("--baseline is of many runs, and this is one.", hint)
        _one(folder, watched=watch, port=(port or 0) if serve else None)
    else:
        _many(folder, baseline, watched=watch, port=(port or 0) if serve else None)


def _one(folder: Path, *, watched: bool, port: int | None) -> None:
    from imgkit.report.run_page import write_run_page
    from imgkit.report.table import print_run
    from imgkit.report.watch import files_of_run, is_over

    run = RunFolder.open(folder.name, folder.parent if len(folder.parts) > 1 else Path("runs"), Screen().note)
    print_run(run, Screen(file=sys.stdout))
    _keep(
        lambda: [write_run_page(run)],
        lambda: files_of_run(run),
        lambda: is_over(run),
        watched=watched,
        port=port,
    )


def _many(folder: Path, baseline: str | None, *, watched: bool, port: int | None) -> None:
    from imgkit.report.collect import collect, other_formats
    from imgkit.report.leaderboard import write_reports
    from imgkit.report.runs_page import write_runs_page
    from imgkit.report.table import print_runs
    from imgkit.report.trials import arrange, find_baseline
    from imgkit.report.watch import files_of_runs

    found, others = (collect(folder), other_formats(folder)) if folder.is_dir() else ([], [])
    if others:
        many = count(len(others), "run")
        Screen().note(f"{many} of another format, which this imgkit does not read, left out: {listed(others)}")
    if not found:
        raise no_runs(folder)
    if baseline is not None:
        find_baseline(arrange(folder, found), baseline, folder)  # what is wrong with it is told before the table
    print_runs(found, make_console(sys.stdout))

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
