"""`imgkit lr-find`."""

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from imgkit.cli.given import command_line, model_and_flags, use_given_plugins
from imgkit.cli.options import asked_again, lr_find_signature
from imgkit.screen import Screen
from imgkit.terminal import make_console, print_columns

if TYPE_CHECKING:
    from imgkit.range_test import LrCurve

PANEL = "Train"
_ROWS = 16  # of the table
_WIDTH = 30  # columns of the curve beside it


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""

    def command(model: str | None = None, **given: object) -> None:
        _find(model, given)

    command.__dict__["__signature__"] = lr_find_signature()  # where inspect, and so Typer, looks first
    text = "Look for a learning rate: the loss while the rate grows. Trains nothing that is kept."
    app.command("lr-find", help=text, rich_help_panel=PANEL, no_args_is_help=True)(command)


def _find(model: str | None, given: Mapping[str, Any]) -> None:
    use_given_plugins(given)
    from imgkit import api

    recipe, sets = given["recipe"] or "finetune", given["set"] or []
    name, flags = model_and_flags(recipe, model, given)
    curve = api.lr_find(
        name,
        recipe=recipe,
        steps=given["steps"],
        min_lr=given["min_lr"],
        max_lr=given["max_lr"],
        out=given["out"],
        flags=flags,
        sets=sets,
        plugin=given["plugin"] or [],
        screen=Screen(),
        command=command_line(),
    )
    shown = Screen(file=sys.stdout)
    show(curve, shown)
    shown.line()
    shown.line(f"Next:  {following(name, given, curve)}")
    Screen().fact("Wrote", f"{given['out']}/")


def show(curve: "LrCurve", screen: Screen) -> None:
    """The curve as a table, the rates that matter, and what to type next."""
    last = len(curve.rates) - 1
    places = sorted({round(number * last / (_ROWS - 1)) for number in range(_ROWS)})
    low, level = min(curve.smoothed), sum(curve.untouched) / len(curve.untouched)
    rows = []
    for place in places:
        share = (curve.smoothed[place] - low) / (2 * level - low)
        mark = " " * round(min(share, 1.0) * _WIDTH) + ("*" if share <= 1 else ">")
        rows.append([f"{curve.rates[place]:.1e}", f"{curve.smoothed[place]:.3f}", mark])
    titles = ["lr", "loss", "lowest to twice the loss before"]
    print_columns(titles, rows, make_console(sys.stdout), right=titles[:2])
    falls = "never falls" if curve.steepest is None else f"falls fastest at {curve.steepest:.1e}"
    rises = f"lowest at {curve.lowest:.1e} · rises after {curve.edge:.1e}"
    screen.line()
    screen.fact("Loss", f"{level:.3f} before · {falls} · {rises}")
    screen.fact("Rate", f"{curve.suggestion:.1e}, a tenth of where the loss rises")


def following(name: str, given: Mapping[str, Any], curve: "LrCurve") -> str:
    """The command that trains at the suggested rate, as it was asked for otherwise."""
    rate = ["--set", f"phases.{curve.phase}.lr={curve.suggestion:.1e}"]
    return shlex.join(["imgkit", "finetune", name, *asked_again(given), *rate])
