"""`imgkit study`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgkit.cli import complete
from imgkit.cli.given import smoke_asked
from imgkit.errors import printable
from imgkit.screen import Screen
from imgkit.terminal import make_console

PANEL = "Train"


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=PANEL)(study)


def study(
    name: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="A file, or one that comes with imgkit.", autocompletion=complete.studies),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder or CSV, over the study's own.", autocompletion=complete.data),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=X", help="A recipe value of every run. Repeatable.")
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A Python file that its names need. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of its runs (else runs/NAME of the study).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all variants, list the runs and stop.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print the study's file and stop.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps a run, to see whether it works.")] = False,
) -> int:
    """Compare variants of a training over seeds; the same command again goes on."""
    from imgkit.studies.conduct import ask, conduct
    from imgkit.studies.file import study_file
    from imgkit.studies.table import print_study

    if name is None:
        _list()
        return 0
    if print_:
        text = study_file(name).read_text(encoding="utf-8")
        if sys.stdout.isatty():  # which must not do what a file of someone else says
            text = "\n".join(printable(line.expandtabs()) for line in text.split("\n"))
        print(text, end="")
        return 0
    screen = Screen()
    asked = ask(name, out=out, data=data, sets=sets or [], plugin=plugin or [], smoke=smoke_asked(smoke))
    done = conduct(asked, screen, dry_run=dry_run)
    if not dry_run:
        print_study(asked, done.results, make_console(sys.stdout))
        screen.fact("Wrote", *(str(file) for file in done.files))
    for failed, entry in done.memory.failed.items() if done.code else ():
        screen.warn(f"{failed} failed {entry['reason']}")
    return done.code


def _list() -> None:
    """The studies that come with imgkit."""
    from imgkit.recipe.load import recipe_summary
    from imgkit.recipe.shipped import shipped_studies

    shipped, screen = shipped_studies(), Screen(file=sys.stdout)
    width = max(map(len, shipped), default=0) + 2
    for known, file in shipped.items():
        screen.fact(known.ljust(width), recipe_summary(file).removeprefix(f"{known}: "))
    screen.line()
    screen.line("Print one:  imgkit study NAME --print\nRun it:     imgkit study NAME --data PICTURES")
