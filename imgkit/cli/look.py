"""`imgkit evaluate`, `models` and `recipes`, and the order of the commands that look at things."""

import csv
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from imgkit.cells import bare
from imgkit.cli import complete
from imgkit.cli.given import use_given_plugins
from imgkit.cli.label import predict
from imgkit.cli.options import MAX_PIXELS, PLUGIN, pixels
from imgkit.cli.ranks import led
from imgkit.cli.report import report
from imgkit.data.rows import count
from imgkit.errors import DiskError, UsageError, printable, suggestion, typed
from imgkit.screen import Screen
from imgkit.terminal import make_console, percent, print_columns

PANEL = "Look"
OnBad = Literal["stop", "skip"]
_WEAKEST = 5  # classes named by `evaluate`
_TITLES = {
    "single": {"top1": "Top-1", "f1_macro": "Macro F1"},
    "multilabel": {"map": "mAP", "f1_macro": "Macro F1", "subset_accuracy": "Exact sets"},
}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (evaluate, predict, report, models, recipes):
        app.command(rich_help_panel=PANEL)(command)


def evaluate(
    name: Annotated[str, complete.RUN],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Other data: a folder or CSV (else the run's own).", autocompletion=complete.data
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="train, val or test (else test, or val without test).")
    ] = None,
    image_col: Annotated[str | None, typer.Option(metavar="COLUMN", help="CSV column with the image paths.")] = None,
    label_col: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="CSV column of labels. Repeatable.")
    ] = None,
    label_delimiter: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What separates the labels of a cell.")
    ] = None,
    split_col: Annotated[str | None, typer.Option(metavar="COLUMN", help="CSV column with train, val or test.")] = None,
    root: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where paths of the CSV start; or its own data were moved to.")
    ] = None,
    on_bad: Annotated[OnBad | None, typer.Option(help="What to do about files that do not open.")] = None,
    max_pixels: Annotated[str | None, MAX_PIXELS] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    no_images: Annotated[bool, typer.Option("--no-images", help="Store no pictures beside the scores.")] = False,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Measure a trained run on a split or on other data."""
    from imgkit import api
    from imgkit.evaluations import weights_label
    from imgkit.plugin_files import plugin_words
    from imgkit.recipe.schema import DataSettings

    columns = {
        "image_col": image_col,
        "label_col": tuple(label_col or ()) or None,
        "label_delimiter": label_delimiter,
        "split_col": split_col,
        "on_bad": on_bad,
        "max_pixels": pixels(max_pixels),
    }
    given = {key: value for key, value in columns.items() if value is not None}
    if given and data is None:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise UsageError(f"{flag} is not used: it describes other data.", "Name them:  --data FOLDER_OR_CSV")
    shown, screen = Screen(file=sys.stdout), Screen()
    other = None if data is None else DataSettings.model_validate({"path": data, **given})
    with led(use_given_plugins({"plugin": plugin})):
        run = api.open_run(name, out=runs, plugin=plugin or [], screen=screen)
        metrics = run.evaluate(data=other, split=split, root=root, device=device, images=not no_images, screen=screen)
    print_metrics(metrics, shown)
    if data is None:
        named = shlex.quote(run.folder.address) + plugin_words(run.folder)
        shown.fact("Gap".ljust(10), gap(run.metrics, weights_label(metrics), named))


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this recipe.", autocompletion=complete.recipes)
    ] = None,
) -> None:
    """List the recipes that come with imgkit, or print one."""
    from imgkit.recipe.load import recipe_summary, shipped_recipes

    shipped = shipped_recipes()
    if name is None:
        screen, width = Screen(file=sys.stdout), max(map(len, shipped)) + 2
        for known, file in shipped.items():
            screen.fact(known.ljust(width), recipe_summary(file).removeprefix(f"{known}: "))
        screen.line()
        screen.line("Print one:  imgkit recipes NAME     Use it:  imgkit finetune MODEL --recipe NAME")
    elif name in shipped:
        print(shipped[name].read_text(encoding="utf-8"), end="")
    else:
        raise UsageError(
            f"unknown recipe {printable(name)!r}{suggestion(name, shipped)}", f"Known: {', '.join(sorted(shipped))}."
        )


def print_metrics(metrics: Mapping[str, Any], screen: Screen) -> None:
    """The scores of one evaluation, its weakest classes, and where the rest is."""
    from imgkit.report.words import guessing, interval_words

    single = metrics["task"] == "single"
    kind = "class" if single else "label"
    many = count(metrics["classes"], kind, "classes" if single else "labels")
    screen.fact("Scored".ljust(10), f"{metrics['split']} · {count(metrics['n'], 'image')} · {many}")
    missing = len(metrics["classes_without_support"])
    if missing:
        what = count(missing, f"{kind} has", "classes have" if single else "labels have")
        screen.fact(" " * 10, f"{what} no image here, left out of the averages")
    for key, title in _TITLES[metrics["task"]].items():
        what = interval_words(metrics["intervals"][key])
        screen.fact(title.ljust(10), f"{percent(metrics[key])}  ({what})")
    if single:
        clipped = f"  (there are only {metrics['k']} classes)" if metrics["k"] < 5 else ""
        screen.fact(f"Top-{metrics['k']}".ljust(10), percent(metrics["topk"]) + clipped)
    else:
        screen.fact("Micro F1".ljust(10), f"{percent(metrics['f1_micro'])}  (over all answers)")
        words = f"{metrics['cardinality']:.2f} an image, none in {percent(metrics['empty'])} of them"
        screen.fact("Labels".ljust(10), words)
    screen.fact("Loss".ljust(10), f"{metrics['loss']:.3f}")
    _print_reliability(metrics, screen)
    screen.fact("Guessing".ljust(10), guessing(metrics))
    _print_weakest(Path(metrics["folder"]) / "per_class.csv", kind, screen)
    screen.line()
    screen.fact("All", f"{metrics['folder']}/")


def _print_reliability(metrics: Mapping[str, Any], screen: Screen) -> None:
    before = ""
    if "calibration" in metrics and metrics["calibration"]["temperature"] != 1:
        temperature = metrics["calibration"]["temperature"]
        before = f"  ({percent(metrics['uncalibrated']['ece'])} without the temperature {temperature:.3g})"
    screen.fact("Cal. error".ljust(10), percent(metrics["ece"]) + before)
    screen.fact("Brier".ljust(10), f"{metrics['brier']:.3f}")


def _print_weakest(file: Path, kind: str, screen: Screen) -> None:
    weakest = weakest_classes(file)
    if weakest:
        screen.line()
        screen.line(f"Weakest {'classes' if kind == 'class' else 'labels'} by F1")
    width = max((cell_len(printable(bare(row["class"]))) for row in weakest), default=0)
    for row in weakest:
        other = bare(row.get("most_confused_with", ""))
        more = f"  most often taken for {other}" if other else ""
        if kind == "label":
            more = f"  answered from {float(row['threshold']):.2f} on, {int(row['predicted']):,} times"
        numbers = f"F1 {percent(float(row['f1']))}  {count(int(row['support']), 'image')}"
        name = f"  {set_cell_size(printable(bare(row['class'])), width)} "
        if width <= screen.width // 2:
            screen.fact(name, f"{numbers}{more}")  # what is wrapped stands under the numbers
        else:
            screen.line(f"{name} {numbers}{more}")


def gap(evaluations: Mapping[str, Mapping[str, Any]], weights: str, run: str) -> str:
    """Macro F1 of `weights`, by their label, on images they were trained on against others, or how to learn it.

    `run` is typed as it is, and names the run and what it needs.
    """
    seen = evaluations.get(f"train@{weights}")
    unseen = evaluations.get(f"test@{weights}") or evaluations.get(f"val@{weights}")
    if seen is None or unseen is None:
        return f"between seen and unseen images:  imgkit evaluate {run} --split {'train' if seen is None else 'val'}"
    points = 100 * (seen["f1_macro"] - unseen["f1_macro"])
    scores = f"{percent(seen['f1_macro'])} on train (seen), {percent(unseen['f1_macro'])} on {unseen['split']} (unseen)"
    return f"macro F1 {scores}: {points:.1f} points"


def weakest_classes(file: Path) -> list[dict[str, str]]:
    """The rows of per_class.csv with the lowest F1 among classes with support, the lowest first.

    Raises:
        DiskError: if the file cannot be read.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if int(row["support"]) > 0]
        return sorted(rows, key=lambda row: float(row["f1"]))[:_WEAKEST]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DiskError(
            f"{printable(str(file))} cannot be read: {error}.",
            f"Remove {printable(str(file.parent))} and score again: imgkit evaluate {typed(file.parent.parent.parent)}",
        ) from error


def models(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="PATTERN", help="Part of a name; * may be used.", autocompletion=complete.networks),
    ] = None,
    cached: Annotated[bool, typer.Option("--cached", help="Only models whose weights are on this machine.")] = False,
    plugin: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A Python file with networks of your own. Repeatable.")
    ] = None,
) -> None:
    """Find a model: size, licence of its weights, and whether they are here."""
    from imgkit.model_names import ALIASES, resolve_name, search
    from imgkit.plugin_files import use_plugins

    use_plugins(plugin or [], Screen())
    screen, console = Screen(file=sys.stdout), make_console(sys.stdout)
    names = search(pattern or "*")
    if not names and pattern is not None:
        pattern = resolve_name(pattern)  # an alias such as ViT-B/16; else an error with the nearest names
        names = search(pattern)
    if cached:
        _print_cached(names, console, screen)
    elif pattern is None:
        screen.fact("Models", f"{len(names):,} are known")
        screen.fact("Common", " · ".join(sorted(set(ALIASES.values()))))
        screen.fact("Search", "imgkit models resnet")
        screen.fact("Here", "imgkit models --cached")
    else:
        _print_found(pattern, console, screen)


def _print_found(pattern: str, console: Console, screen: Screen) -> None:
    from imgkit.models.catalog import find_models

    found = find_models(pattern)
    rows = [
        (
            row.name,
            "?" if row.parameters is None else f"{row.parameters / 1e6:.1f} M",
            "?" if row.mib is None else f"{row.mib:.1f}",
            "×".join(str(side) for side in row.size),
            row.licence or ("unknown" if row.pretrained else "no weights"),
            "here" if row.local else "",
        )
        for row in found.rows
    ]
    titles = ("model", "params", "MiB", "input", "licence", "weights")
    print_columns(titles, rows, console, right=("params", "MiB"), folded=("model",))
    if found.more:
        screen.line()
        screen.line(f"{found.more:,} more match; give a longer part of the name.")


def _print_cached(names: Sequence[str], console: Console, screen: Screen) -> None:
    from imgkit.models.weights import find_local

    rows = [(name, found.licence or "unknown", found.detail) for name in names if (found := find_local(name))]
    if not rows:
        screen.line("No weights of these models are on this machine.")
        return
    print_columns(("model", "licence", "where"), rows, console, folded=("where",))
