"""`imgkit label`: give images their labels in the browser."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from imgkit.cli import complete
from imgkit.cli.destination import check_folder
from imgkit.cli.options import MAX_PIXELS, PLUGIN, pixels
from imgkit.data.rows import absolute, count, is_folder
from imgkit.errors import UsageError, printable
from imgkit.labelling import Order
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.api import Run
    from imgkit.labelling.answers import Answers
    from imgkit.labelling.session import Session

PANEL = "Start here"
_OUT = "labels.csv"
_SERVED_S = 3600.0  # of one sleep while the page is served


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=PANEL)(label)


def label(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of the images, at any depth.")],
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A run that suggests, under --runs, or: latest", autocompletion=complete.runs
        ),
    ] = None,
    classes: Annotated[str | None, typer.Option(metavar="A,B,...", help="The classes, or more than the run's.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"The CSV of answers; one that is there is continued (else {_OUT})."),
    ] = None,
    order: Annotated[
        Order | None, typer.Option(help="What comes first (else margin with --run: where it wavers).")
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port of the page (0: any that is free).")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address alone, and open no browser.")] = False,
    max_pixels: Annotated[str | None, MAX_PIXELS] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Device of the run: auto, cpu, cuda, cuda:N or mps.")
    ] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Label images by keys, in the browser, the most informative first.

    Every answer is in the CSV at once, which --data reads: label, finetune, label again.
    """
    from imgkit.labelling.answers import Answers
    from imgkit.labelling.candidates import images_of
    from imgkit.labelling.server import labelling
    from imgkit.weight_packages import installed_networks

    limit, screen = pixels(max_pixels), Screen()
    _refuse_idle(run, {"--order": order, "--device": device, "--plugin": plugin})
    named = _class_names(classes)
    if run is None and len(named) < 2:
        raise UsageError(
            "There are no classes to choose from."
            if not named
            else f"--classes names one class, {printable(named[0])}, and there is nothing to choose.",
            "Name them:  --classes cat,dog   or a run:  --run latest",
        )
    root = absolute(folder)
    answers = Answers(_destination(out, root))
    images = images_of(root, screen)
    model = None if run is None else _opened(run, runs, plugin or [], screen)
    session = _session(root, images, named, answers, model, (order or "margin", device or "auto", limit), screen)
    shown = printable(_shown(answers.file))
    network = next(iter(installed_networks()), "resnet50")  # one whose weights are here, if there is one
    if model is not None:
        network = model.folder.read_json("run.json")["model"]
    again = ["imgkit", "finetune", network, "--data", shown, "--root", printable(folder)]
    again += [word for file in plugin or [] for word in ("--plugin", printable(str(file)))]
    if session is None:
        screen.fact("Done", f"all {count(len(images), 'image')} have an answer in {shown}")
        screen.fact("Next", shlex.join(again))
        return
    screen.fact("Images", f"{len(images):,}, {len(images) - session.left:,} of them answered in {shown}")
    try:
        with labelling(session, port) as address:
            screen.fact("Open", f"{address}  (Ctrl-C ends)")
            if not no_open:
                _open(address)
            while True:
                sleep(_SERVED_S)
    except KeyboardInterrupt:  # how a person ends it
        screen.line()
    if not answers.rows:
        screen.line(f"Nothing was answered; {count(session.left, 'image is', 'images are')} left.")
        return
    screen.fact("Wrote", f"{shown} ({count(len(answers.rows), 'answer')}, {session.left:,} left)")
    screen.fact("Next", shlex.join(again))


def _refuse_idle(run: str | None, given: Mapping[str, object]) -> None:
    flag = next((flag for flag, value in given.items() if value), None)
    if run is None and flag is not None:
        raise UsageError(f"{flag} is not used: it is about the model of a run.", "Name one:  --run latest")


def _class_names(text: str | None) -> list[str]:
    """The names of --classes.

    Raises:
        UsageError: if one is empty or there twice.
    """
    names = [] if text is None else [name.strip() for name in text.split(",")]
    for place, name in enumerate(names):
        if not name or not name.isprintable():
            what = "is empty" if not name else "has characters that cannot be seen"
            raise UsageError(f"--classes: name {place + 1} {what}.", "Separate names by one comma:  --classes cat,dog")
        if name in names[:place]:
            raise UsageError(f"--classes: {name!r} is there twice.", "Name each class once.")
    return names


def _destination(out: Path | None, root: Path) -> Path:
    """Where answers go: never into the folder of images unless that is asked for.

    Raises:
        UsageError: if the place is in that folder by default, or no .csv.
        DiskError: if its folder is not there.
    """
    file = absolute(out or _OUT)
    if out is None and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise UsageError(
            f"{_OUT} would lie among the images of {printable(str(root))}.",
            f"Choose another place:  --out ../{_OUT}   or there all the same:  --out {_OUT}",
        )
    if file.suffix.lower() != ".csv":
        raise UsageError(f"--out {printable(str(out))} does not end in .csv.", f"Answers are a CSV:  --out {_OUT}")
    if is_folder(file):
        raise UsageError(f"--out {printable(str(out))} is a folder.", f"Name a file in it:  --out {out}/{_OUT}")
    check_folder(file)
    return file


def _shown(file: Path) -> str:
    """A file from where one stands, if it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _opened(name: str, runs: Path, plugin: Sequence[Path], screen: Screen) -> "Run":
    """The run that suggests.

    Raises:
        UsageError: if there is none, it has no model yet, or its images have any number of labels.
    """
    from imgkit import api

    run = api.open_run(name, out=runs, plugin=plugin, screen=screen)
    if run.folder.read_json("run.json")["task"] != "single":
        raise UsageError(
            f"{printable(run.folder.name)} gives an image any number of labels; imgkit label gives it one.",
            "Name a run of single labels, or label without one:  --classes A,B",
        )
    return run


def _session(
    root: Path,
    images: Sequence[str],
    named: Sequence[str],
    answers: "Answers",
    run: "Run | None",
    how: tuple[Order, str, int | None],
    screen: Screen,
) -> "Session | None":
    """What is left to label, in its order; None: nothing is."""
    from imgkit.data.decode import MAX_PIXELS
    from imgkit.labelling.candidates import suggested
    from imgkit.labelling.session import Candidate, Session

    order, device, max_pixels = how
    open_images = [name for name in images if name not in answers.rows]
    of_run = [] if run is None else run.folder.read_json("run.json")["classes"]
    classes = list(dict.fromkeys([*of_run, *named, *(answer.label for answer in answers.rows.values())]))
    if not open_images:
        return None
    candidates = [Candidate(name) for name in open_images]
    if run is not None:
        ask = partial(run.predict, top_k=3, device=device, max_pixels=max_pixels, screen=screen)
        candidates = suggested(root, open_images, ask, order, screen)
    known = "" if run is None else run.folder.name
    return Session(root, candidates, classes, answers, run=known, max_pixels=max_pixels or MAX_PIXELS)


def _open(address: str) -> None:
    """Show the page, where there is a screen to show it on: elsewhere a browser in text would take the terminal."""
    import webbrowser

    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
