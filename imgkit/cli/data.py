"""`imgkit demo` and `imgkit data`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imgkit.cli.options import recipe_flags, typed
from imgkit.cli.preview import preview_command
from imgkit.cli.train import smoke_asked, use_given_plugins
from imgkit.errors import DataError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.index import Index, Ints
    from imgkit.data.load import LoadedData
    from imgkit.recipe.schema import Recipe

PANEL = "Start here"
_SHOWN = 10  # files named on the screen
_LABELS_SHOWN = 50  # of a multi-label task
Task = Literal["auto", "single", "multilabel"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel=PANEL)(demo)
    group = typer.Typer(help="Look at your images before you train.", no_args_is_help=True)
    group.command("check")(check)
    group.command("preview", help="Write a picture of what training will see.", no_args_is_help=True)(preview_command())
    app.add_typer(group, name="data", rich_help_panel=PANEL)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs.")] = Path("runs"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps only.")] = False,
) -> None:
    """See a training from end to end, without a download."""
    from imgkit import demo as shown

    shown.run(out=out, smoke=smoke_asked(smoke), screen=Screen())


def check(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Folder or CSV (else $IMGKIT_DATA, ./data).")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Folder to train on; goes with --val.")] = None,
    val: Annotated[str | None, typer.Option(help="Validation folder; or a share of train.")] = None,
    image_col: Annotated[str | None, typer.Option(help="CSV column with the image paths.")] = None,
    label_col: Annotated[list[str] | None, typer.Option(help="CSV column with the labels. Repeatable.")] = None,
    label_delimiter: Annotated[str | None, typer.Option(help="Between the labels of a cell.")] = None,
    task: Annotated[Task | None, typer.Option(help="One label an image, or any number.")] = None,
    split_col: Annotated[str | None, typer.Option(help="CSV column with train, val or test.")] = None,
    group_col: Annotated[str | None, typer.Option(help="CSV column of what must not be split.")] = None,
    weight_col: Annotated[str | None, typer.Option(help="CSV column of the weights to draw by.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Show what balanced, sqrt or weighted draws would be.")] = None,
    root: Annotated[str | None, typer.Option(help="Where relative paths of a CSV start.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes to expect.")] = None,
    max_pixels: Annotated[str | None, typer.Option(help="Larger images are refused, such as 300M.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    plugin: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="With a source of your own.")] = None,
) -> None:
    """Look for problems in a folder or CSV. Exit 3 where something must be mended."""
    use_given_plugins({"plugin": plugin})
    from imgkit.data.load import load_data, no_validation
    from imgkit.weight_packages import installed_networks

    given = {
        "data": paths,
        "train": train,
        "val": val,
        "image_col": image_col,
        "label_col": label_col,
        "label_delimiter": label_delimiter,
        "task": task,
        "split_col": split_col,
        "group_col": group_col,
        "weight_col": weight_col,
        "sampler": sampler or (None if weight_col is None else "weighted"),
        "root": root,
        "classes": classes,
        "max_pixels": max_pixels,
    }
    flags = recipe_flags(given)
    recipe = _recipe(flags)
    # All bad files are to be found, not only the first.
    settings = recipe.data.model_copy(update={"on_bad": "skip"})
    screen = Screen(file=sys.stdout)
    with Screen().progress("reading images") as progress:
        found = load_data(settings, seed, progress=progress)
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
    options = typed(flags) + [word for file in plugin or [] for word in ("--plugin", str(file))]
    options += ["--seed", str(seed)] if seed else []
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
