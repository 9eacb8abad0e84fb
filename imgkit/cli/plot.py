"""`imgkit plot`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from imgkit.cli import complete
from imgkit.errors import UsageError, printable
from imgkit.screen import Screen

PANEL = "Look"
Unit = Literal["percent", "fraction"]
_TABLES = (".csv", ".tsv")


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=PANEL)(plot)


def plot(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A run under --runs, a path, latest; or a FILE.csv.", autocompletion=complete.runs
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the plots (else plots/ of the run).")
    ] = None,
    phases: Annotated[
        str | None, typer.Option(metavar="EPOCHS", help="Last epochs of the phases of a CSV, as 20,30.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COL", help="Names of columns of a CSV: val/top1=test_acc. Repeatable."),
    ] = None,
    unit: Annotated[Unit | None, typer.Option(help="Unit of the scores in a CSV (else told by their size).")] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Draw loss, scores, rates and mistakes of a run; or the epochs of another tool."""
    from imgkit.plots.drawing import require_matplotlib, write_plots
    from imgkit.plots.history import history_of_run
    from imgkit.plots.mistakes import write_mistakes
    from imgkit.plots.table import history_of_table
    from imgkit.run import RunFolder

    screen = Screen()
    require_matplotlib()
    if name.lower().endswith(_TABLES) and not (runs / name / "run.json").is_file():
        if out is None:
            raise UsageError(
                f"{printable(name)} is a table, so its plots have no place of their own.", "Add  --out plots/"
            )
        history = history_of_table(Path(name), columns=columns or [], phases=phases, unit=unit)
        folder = None
    else:
        for flag, value in (("--phases", phases), ("--columns", columns), ("--unit", unit)):
            if value:
                raise UsageError(f"{flag} is not used: it is for a table, and a run says it itself.", "Leave it out.")
        folder = RunFolder.open(name, runs, screen.note)
        history, out = history_of_run(folder), out or folder.path / "plots"
    for text in history.notes:
        screen.note(text)
    names, sheet = write_plots(history, out), None
    if folder is not None:
        sheet = write_mistakes(folder, out, screen.note)
    also = "" if sheet is None else f", {sheet.name}"
    screen.fact("Wrote", f"{out}/: {', '.join(names)} (.png, .svg){also}")
