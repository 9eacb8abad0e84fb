"""`imgkit demo` and `imgkit data`."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgkit.cli.label_errors import label_errors_command
from imgkit.cli.learning_curve import learning_curve_command
from imgkit.cli.options import check_signature, recipe_flags, typed
from imgkit.cli.prepare import prepare_command
from imgkit.cli.preview import preview_command
from imgkit.cli.split import split_command
from imgkit.cli.train import smoke_asked, use_given_plugins
from imgkit.data.rows import listed
from imgkit.errors import DataError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.index import Index, Ints
    from imgkit.data.load import LoadedData
    from imgkit.recipe.schema import Recipe

PANEL = "Start here"
_SHOWN = 10  # files named on the screen
_CLASSES_SHOWN = 200  # by name
_LABELS_SHOWN = 50  # of a multi-label task


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel=PANEL)(demo)
    group = typer.Typer(help="Look at your images before you train.", no_args_is_help=True)
    text = "Look for problems in a folder or CSV. Exit 3 where something must be mended."
    group.command("check", help=text)(_check_command())
    group.command("preview", help="Write a picture of what training will see.", no_args_is_help=True)(preview_command())
    group.command("prepare", help="Decode images once, for later trainings.", no_args_is_help=True)(prepare_command())
    text = "Write a CSV with the split of each image, and its fold."
    group.command("split", help=text)(split_command())
    text = "Rank the labels that are likely wrong, and write a table to mend."
    group.command("label-errors", help=text)(label_errors_command())
    group.command("learning-curve", help="Measure what more images would bring.")(learning_curve_command())
    app.add_typer(group, name="data", rich_help_panel=PANEL)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs.")] = Path("runs"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps only.")] = False,
) -> None:
    """See a training from end to end, without a download."""
    from imgkit import demo as shown

    shown.run(out=out, smoke=smoke_asked(smoke), screen=Screen())


def _check_command() -> Callable[..., None]:
    """The command: paths, and the options of the pictures, their draws and splits."""

    def command(**given: object) -> None:
        _check(given)

    command.__dict__["__signature__"] = check_signature()
    return command


def _check(given: Mapping[str, Any]) -> None:
    use_given_plugins(given)
    from imgkit.data.load import load_data, no_validation
    from imgkit.weight_packages import installed_networks

    drawn = given["sampler"] or (None if given["weight_col"] is None else "weighted")
    flags = recipe_flags({**given, "sampler": drawn})
    recipe = _recipe(flags)
    # All bad files are to be found, not only the first.
    settings = recipe.data.model_copy(update={"on_bad": "skip"})
    screen = Screen(file=sys.stdout)
    with Screen().progress("reading images") as progress:
        found = load_data(settings, progress=progress)
    _print_findings(found, screen)
    _print_classes(found.index, recipe.train.sampler, screen)
    if found.bad:
        raise DataError(
            f"{_many(len(found.bad), 'file')} cannot be used as an image.",
            "Mend or remove them, or train without them:  --on-bad skip",
        )
    if not len(found.index.rows("val")):
        raise no_validation(found.index)
    screen.line()
    options = typed(flags) + [word for file in given["plugin"] or [] for word in ("--plugin", str(file))]
    model = next(iter(installed_networks()), "resnet50")  # one whose weights are here, if there is one
    screen.line(f"Next:  {shlex.join(['imgkit', 'finetune', model, *options])}")


def _recipe(given: "Mapping[str, tuple[str, object]]") -> "Recipe":
    """The recipe that a training with these flags would have."""
    from imgkit.recipe.load import Flag, load_recipe

    return load_recipe("finetune", flags={key: Flag(flag, value) for key, (flag, value) in given.items()}).recipe


def _print_findings(found: "LoadedData", screen: Screen) -> None:
    import numpy as np

    from imgkit.data.aspect import crop_warnings
    from imgkit.data.index import SPLITS

    index = found.index
    counts = {split: index.counts(split) for split in SPLITS if len(index.rows(split))}
    per_class = np.sum(list(counts.values()), axis=0)
    splits = " · ".join(f"{split} {len(index.rows(split)):,}" for split in counts)
    kind, names, one = "", _many(len(index.classes), "class", "classes"), "class"
    if index.task == "multilabel":
        kind, names, one = "multi-label · ", _many(len(index.classes), "label"), "label"
    screen.line(f"Read {found.where}")
    screen.line(
        f"{_many(len(index), 'image')} · {kind}{names} · "
        f"{_range(int(per_class.min()), int(per_class.max()))} a {one} · {splits}"
    )
    screen.line()
    if index.task == "multilabel":
        _print_labels(counts, index.classes, screen)
    else:
        screen.fact("Classes", listed(index.classes, _CLASSES_SHOWN))
        screen.line()
    if not found.bad:
        screen.item("✔", "all files open")
    for text in found.notes:
        screen.item("i", text)
    warnings = [*found.warnings, *crop_warnings(found.aspects)]
    for text in warnings:
        screen.item("!", text)
    for bad in found.bad[:_SHOWN]:
        screen.item("✗", f"{printable(bad.path)}: {bad.reason}")
    if len(found.bad) > _SHOWN:
        screen.item(" ", f"… and {_many(len(found.bad) - _SHOWN, 'more file')}")
    screen.line()
    screen.line(f"{_many(len(warnings), 'warning')}, {_many(len(found.bad), 'error')}")


def _print_classes(index: "Index", sampler: str, screen: Screen) -> None:
    """The table of classes where they are unequal or drawn by a sampler; an epoch is taken for all of train."""
    from imgkit.data.class_table import class_table

    sampling = {"": (sampler, len(index.rows("train")))}
    lines = class_table(index, sampling, {}) if len(index.rows("train")) else []
    if not lines:
        return
    screen.line()
    for line in lines:
        screen.line(line)


def _print_labels(counts: "Mapping[str, Ints]", labels: Sequence[str], screen: Screen) -> None:
    """Images of each label by split."""
    for code, label in enumerate(labels[:_LABELS_SHOWN]):
        images = ", ".join(f"{split} {int(count[code]):,}" for split, count in counts.items())
        screen.line(f"  {printable(label)}: {images}")
    if len(labels) > _LABELS_SHOWN:
        screen.line(f"  … and {_many(len(labels) - _LABELS_SHOWN, 'more label')}")
    screen.line()


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _many(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
