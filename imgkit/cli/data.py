"""`imgkit demo` and `imgkit data`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgkit.cli.options import recipe_flags
from imgkit.cli.preview import preview_command
from imgkit.cli.train import smoke_asked
from imgkit.errors import DataError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.load import LoadedData
    from imgkit.recipe.schema import DataSettings

PANEL = "Start here"
_SHOWN = 10  # files named on the screen


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
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="Folder or CSV (else $IMGKIT_DATA, ./data).")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Folder to train on; goes with --val.")] = None,
    val: Annotated[str | None, typer.Option(help="Validation folder; or a share of train.")] = None,
    image_col: Annotated[str | None, typer.Option(help="CSV column with the image paths.")] = None,
    label_col: Annotated[str | None, typer.Option(help="CSV column with the labels.")] = None,
    split_col: Annotated[str | None, typer.Option(help="CSV column with train, val or test.")] = None,
    group_col: Annotated[str | None, typer.Option(help="CSV column of what must not be split.")] = None,
    root: Annotated[str | None, typer.Option(help="Where relative paths of a CSV start.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes to expect.")] = None,
    max_pixels: Annotated[str | None, typer.Option(help="Larger images are refused, such as 300M.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
) -> None:
    """Look for problems in a folder or CSV. Exit 3 where something must be mended."""
    from imgkit.data.load import load_data, no_validation
    from imgkit.models.packages import installed_networks

    given = {
        "data": path,
        "train": train,
        "val": val,
        "image_col": image_col,
        "label_col": label_col,
        "split_col": split_col,
        "group_col": group_col,
        "root": root,
        "classes": classes,
        "max_pixels": max_pixels,
    }
    flags = recipe_flags(given)
    settings = _settings({key: value for key, (_, value) in flags.items()})
    screen = Screen(file=sys.stdout)
    with Screen().progress("reading images") as progress:
        found = load_data(settings, seed, progress=progress)
    _print_findings(found, screen)
    if found.bad:
        raise DataError(
            f"{_many(len(found.bad), 'file')} cannot be used as an image.",
            "Mend or remove them, or train without them:  --on-bad skip",
        )
    if not len(found.index.rows("val")):
        raise no_validation(found.index)
    screen.line()
    options = [word for flag, value in flags.values() for word in (flag, str(value))]
    options += ["--seed", str(seed)] if seed else []
    model = next(iter(installed_networks()), "resnet50")  # one whose weights are here, if there is one
    screen.line(f"Next:  {shlex.join(['imgkit', 'finetune', model, *options])}")


def _settings(values: dict[str, object]) -> "DataSettings":
    """The data section of a recipe from the command line; all bad files are to be found, not only the first."""
    from imgkit.recipe.load import Flag, load_recipe

    flags = {key: Flag("--" + key.removeprefix("data.").replace("_", "-"), value) for key, value in values.items()}
    return load_recipe("finetune", flags=flags).recipe.data.model_copy(update={"on_bad": "skip"})


def _print_findings(found: "LoadedData", screen: Screen) -> None:
    import numpy as np

    from imgkit.data.aspect import crop_warnings
    from imgkit.data.index import SPLITS

    index = found.index
    counts = {split: index.counts(split) for split in SPLITS if len(index.rows(split))}
    per_class = np.sum(list(counts.values()), axis=0)
    splits = " · ".join(f"{split} {int(count.sum()):,}" for split, count in counts.items())
    screen.line(f"Read {found.where}")
    screen.line(
        f"{_many(len(index), 'image')} · {_many(len(index.classes), 'class', 'classes')} · "
        f"{_range(int(per_class.min()), int(per_class.max()))} a class · {splits}"
    )
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


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _many(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
