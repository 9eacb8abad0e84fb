"""`imgkit sweep`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgkit.cli import complete
from imgkit.cli.given import smoke_asked
from imgkit.errors import printable
from imgkit.screen import Screen
from imgkit.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Mapping

PANEL = "Train"


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=PANEL)(sweep)


def sweep(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SWEEP", help="A file, or one that comes with imgkit.", autocompletion=complete.sweeps),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder or CSV, over the sweep's own.", autocompletion=complete.data),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A network, over the sweep's own.", autocompletion=complete.networks),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many in all, over the sweep's own.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=X", help="A recipe value of every trial. Repeatable.")
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A Python file that its names need. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of its runs (else runs/NAME of the sweep).")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="PostgreSQL that keeps trials (else a file in that folder).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the space, show a trial and stop.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print the sweep's file and stop.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps a trial, to see whether it works.")] = False,
) -> None:
    """Search recipe values; typed again, also elsewhere, it is one more worker."""
    from imgkit.recipe.shipped import shipped_sweeps
    from imgkit.sweeps.conduct import conduct
    from imgkit.sweeps.file import sweep_file
    from imgkit.sweeps.plan import ask

    if name is None:
        _list(shipped_sweeps())
        return
    if print_:
        text = sweep_file(name).read_text(encoding="utf-8")
        if sys.stdout.isatty():  # which must not do what a file of someone else says
            text = "\n".join(printable(line.expandtabs()) for line in text.split("\n"))
        print(text, end="")
        return
    asked = ask(
        name,
        out=out,
        data=data,
        model=model,
        sets=sets or [],
        plugin=plugin or [],
        smoke=smoke_asked(smoke),
        storage=storage,
        trials=trials,
    )
    screen = Screen()
    done = conduct(asked, screen, dry_run=dry_run)
    if done.record is not None:
        from imgkit.report.sweep import print_sweep

        print_sweep(asked.out, done.record, make_console(sys.stdout))
        shown = Screen(file=sys.stdout)
        shown.line()
        shown.line(f"Next:  imgkit report {shlex.quote(str(asked.out))}")


def _list(shipped: "Mapping[str, Path]") -> None:
    """The sweeps that come with imgkit."""
    from imgkit.recipe.load import recipe_summary

    screen = Screen(file=sys.stdout)
    width = max(map(len, shipped), default=0) + 2
    for known, file in shipped.items():
        screen.fact(known.ljust(width), recipe_summary(file).removeprefix(f"{known}: "))
    screen.line()
    screen.line("Print one:  imgkit sweep NAME --print\nRun it:     imgkit sweep NAME --data PICTURES --model NETWORK")
