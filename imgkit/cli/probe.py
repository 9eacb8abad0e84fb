"""`imgkit probe`."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from imgkit.cli.given import command_line, flags_of, use_given_plugins
from imgkit.cli.options import asked_again, probe_signature
from imgkit.errors import UsageError
from imgkit.screen import Screen
from imgkit.terminal import make_console, print_columns

if TYPE_CHECKING:
    from imgkit.ranking import Ranked

PANEL = "Train"


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""

    def command(networks: list[str] | None = None, **given: object) -> None:
        _probe(networks or [], given)

    command.__dict__["__signature__"] = probe_signature()  # where inspect, and so Typer, looks first
    text = "Rank networks by what their pretrained features are worth on your pictures. Trains nothing that is kept."
    app.command("probe", help=text, rich_help_panel=PANEL, no_args_is_help=True)(command)


def _probe(networks: Sequence[str], given: Mapping[str, Any]) -> None:
    use_given_plugins(given)
    names = [name.strip() for text in (*networks, given["models"] or "") for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("No network is named.", "Several are ranked:  imgkit probe resnet50 resnet18 --data FOLDER")
    from imgkit.api_probe import probe

    flags = flags_of(given)
    ranked = probe(
        names,
        recipe=given["recipe"] or "probe",
        out=given["out"],
        flags=flags,
        sets=given["set"] or [],
        plugin=given["plugin"] or [],
        screen=Screen(),
        command=command_line(),
    )
    shown = Screen(file=sys.stdout)
    show(ranked, shown)
    shown.line()
    shown.line(f"Next:  {shlex.join(['imgkit', 'finetune', ranked[0].probed.model, *asked_again(given)])}")
    Screen().fact("Wrote", f"{given['out']}/")


def show(ranked: "Sequence[Ranked]", screen: Screen) -> None:
    """The networks as a table, and how they were judged."""
    from imgkit.ranking import PROTOCOL

    right = "top-1" if ranked[0].probed.targets.ndim == 1 else "exact"
    titles = ["", "network", "M", "macro F1, 95 %", right, "minus the first"]
    rows = [
        [
            *(f"{one.rank}", one.probed.model, f"{one.probed.parameters / 1e6:.1f}"),
            *(_with_ends(one.probed.f1, one.probed.f1_interval, _percent), _percent(one.probed.right)),
            "" if one.behind is None else _with_ends(one.behind.value, one.behind.interval, _points),
        ]
        for one in ranked
    ]
    print_columns(titles, rows, make_console(sys.stdout), right=["M", right], folded=["network"])
    like = [one.probed.model for one in ranked if one.behind is not None and not one.behind.told_apart]
    screen.line()
    screen.fact("Judged", f"{len(ranked[0].probed.rows):,} images by {PROTOCOL}")
    if like:
        screen.fact("Alike", f"cannot be told from the first: {', '.join(like)}")
    kept = [one.probed.model for one in ranked if not one.probed.computed]
    if kept:
        screen.fact("Features", f"kept by earlier runs: {', '.join(kept)}")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _with_ends(value: float, interval: tuple[float, float] | None, words: Callable[[float], str]) -> str:
    """`81.9 (80.1 to 83.7)`."""
    return words(value) + (f" ({words(interval[0])} to {words(interval[1])})" if interval else "")
