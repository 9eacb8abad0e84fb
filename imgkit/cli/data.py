"""`imgkit demo` and `imgkit data`."""

from pathlib import Path
from typing import Annotated

import typer

from imgkit.cli.check import check_command
from imgkit.cli.given import smoke_asked
from imgkit.cli.label_errors import label_errors_command
from imgkit.cli.learning_curve import learning_curve_command
from imgkit.cli.pack import pack_command
from imgkit.cli.prepare import prepare_command
from imgkit.cli.preview import preview_command
from imgkit.cli.split import split_command
from imgkit.screen import Screen

PANEL = "Start here"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel=PANEL)(demo)
    group = typer.Typer(help="Look at your images before you train.", no_args_is_help=True)
    text = "Look for problems in a folder or CSV. Exit 3 where something must be mended."
    group.command("check", help=text)(check_command())
    group.command("preview", help="Write a picture of what training will see.", no_args_is_help=True)(preview_command())
    group.command("prepare", help="Decode images once, for later trainings.", no_args_is_help=True)(prepare_command())
    text = "Write images as tar shards, for data larger than a disk."
    group.command("pack", help=text)(pack_command())
    text = "Write a CSV with the split of each image, and its fold."
    group.command("split", help=text)(split_command())
    text = "Rank the labels that are likely wrong, and write a table to mend."
    group.command("label-errors", help=text)(label_errors_command())
    group.command("learning-curve", help="Measure what more images would bring.")(learning_curve_command())
    app.add_typer(group, name="data", rich_help_panel=PANEL)


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for runs.")] = Path("runs"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps only.")] = False,
) -> None:
    """See a training from end to end, without a download."""
    from imgkit import demo as shown

    shown.run(out=out, smoke=smoke_asked(smoke), screen=Screen())
