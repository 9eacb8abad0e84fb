"""`imgkit export` and `imgkit push`."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from imgkit.cli import complete
from imgkit.cli.options import PLUGIN
from imgkit.exports.formats import Format
from imgkit.quantity import about_bytes
from imgkit.screen import Screen

PANEL = "Ship"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (export, push):
        app.command(rich_help_panel=PANEL)(command)


def export(
    name: Annotated[str, complete.RUN],
    to: Annotated[Format, typer.Option("--to", help="The format.")],
    images: Annotated[
        int | None, typer.Option(metavar="N", help="Validation images that both networks answer (256).")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(metavar="X", help="How far a logit may be from the run's (0.001).")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Points of macro F1 that int8 may cost (1).")
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(metavar="N", help="Training images that tell int8 its ranges (128).")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Largest file allowed: 100MB, or none (else the run's limit).")
    ] = None,
    root: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where the run's own data were moved to.")] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Write a run's network for other programs, once it answers as the run's does."""
    from imgkit import api

    run = api.open_run(name, out=runs, plugin=plugin or [], screen=Screen())
    done = run.export(
        to,
        images=images,
        tolerance=tolerance,
        max_drop=max_drop,
        calibration=calibration,
        max_size=max_size,
        root=root,
        screen=Screen(),
    )
    shown, called = Screen(file=sys.stdout), shlex.quote(run.folder.address)
    sizes = {file: about["bytes"] for file, about in done["files"].items()}
    shown.fact("Files", f"{_listed(sizes)}, verify.json")
    shown.fact("Wrote", f"{done['folder']}/")
    place = shlex.quote(done["folder"])
    if to.startswith("onnx"):
        shown.line(f"Next:  python {place}/predict_onnx.py PHOTOS/")
    elif to == "timm":
        shown.line(f"Next:  imgkit push {called} OWNER/NAME")


def push(
    name: Annotated[str, complete.RUN],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A model repository of the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository that only you see.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send; else it is only shown what would be sent.")] = False,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Send a verified export for timm to the Hugging Face hub, with its model card."""
    from imgkit.exports.push import check_repo, described, parcel_of, send
    from imgkit.run import RunFolder

    told, shown = Screen(), Screen(file=sys.stdout)
    check_repo(repo)
    run = RunFolder.open(name, runs, told.note)
    called = shlex.quote(run.address)
    parcel = parcel_of(run, called)
    shown.fact("To", f"{repo} on huggingface.co, {'private' if private else 'public'} if it is new")
    shown.fact("Verified", described(parcel.proof))
    shown.fact("Files", _listed(parcel.files))
    if not yes:
        shown.line()
        shown.line("Nothing was sent. README.md is the model card: read it, and add the data's licence.")
        shown.line(f"To send:  imgkit push {called} {shlex.quote(repo)}{' --private' * private} --yes")
        return
    address = send(parcel, repo, private=private)
    shown.line()
    shown.fact("Sent", address)
    shown.line(f'Next:  timm.create_model("hf-hub:{repo}", pretrained=True)')


def _listed(files: Mapping[str, int]) -> str:
    """Files with their sizes."""
    return ", ".join(
        f"{file} ({about_bytes(size) if size >= 1024 else f'{size} bytes'})" for file, size in files.items()
    )
