"""`imgkit serve`."""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from imgkit.cli import complete
from imgkit.cli.options import MAX_PIXELS, PLUGIN, pixels
from imgkit.data.rows import listed
from imgkit.errors import UsageError, printable
from imgkit.screen import Screen

PANEL = "Look"
_NEEDED = ("fastapi", "uvicorn", "python_multipart")


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=PANEL)(serve)


def serve(
    name: Annotated[str, complete.RUN],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen at (0: any that is free).")
    ] = 8000,
    max_body: Annotated[str, typer.Option(metavar="SIZE", help="Size of a request at most, such as 5MB.")] = "20MB",
    max_images: Annotated[int, typer.Option(metavar="N", min=1, help="Images in a request at most.")] = 64,
    queue: Annotated[
        int, typer.Option(metavar="N", min=1, help="Requests at a time; a further one is told to wait.")
    ] = 32,
    max_pixels: Annotated[str | None, MAX_PIXELS] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Numbers in which the network computes.")
    ] = "float32",
    reject_at: Annotated[
        float | None, typer.Option(metavar="P", help="Decline answers below this probability.")
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Decline the least sure answers so that the rest reach this accuracy."),
    ] = None,
    conformal: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Sets that hold the true class for this share of images.")
    ] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Answer over HTTP as predict does, with a page to try it on."""
    lacking = [one for one in _NEEDED if find_spec(one) is None]
    if lacking:
        raise UsageError(f"imgkit serve needs {listed(lacking)}.", 'Install it:  pip install "imgkit-timm[serve]"')
    from imgkit import api
    from imgkit.caution import Wish
    from imgkit.serving.app import Limits, make_app
    from imgkit.serving.gate import OWN, is_loopback
    from imgkit.serving.served import Served
    from imgkit.serving.server import address_of, host_of, listen, server_of

    screen, wish = Screen(), Wish(reject_at, target_accuracy, None, conformal)
    wish.check()
    limits, limit = Limits(_size(max_body), max_images, queue), pixels(max_pixels)
    run = api.open_run(name, out=runs, plugin=plugin or [], screen=screen)
    with listen(host, port) as listening:  # before the model is read, so that a port that is taken is told at once
        served = Served.of(run.folder, device=device, precision=precision, max_pixels=limit, wish=wish, screen=screen)
        alone = is_loopback(host)
        own = OWN | {host_of(listening)} if alone else None
        app = make_app(served, limits=limits, hosts=own, tell=_log)
        about = served.health()
        screen.fact("Run", f"{about['run']} · {about['model']} · {about['classes']:,} classes · {about['device']}")
        if not alone:
            screen.warn(f"--host {printable(host)}: whoever reaches this machine may ask; there is no password.")
        screen.fact("Open", f"{address_of(listening)}/  (how to ask: /reference; Ctrl-C ends)")
        server_of(app).run(sockets=[listening])


def _size(text: str) -> int:
    from imgkit.quantity import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--max-body: {error}", "Write  --max-body 20MB") from None


def _log(line: str) -> None:
    """A line on stderr. Whoever reads it may be gone; the server stays."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
