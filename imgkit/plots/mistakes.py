"""The pictures that a run is most sure of and gets wrong, as a sheet made from a stored evaluation."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from imgkit.cells import bare, parted
from imgkit.data.decode import MAX_PIXELS
from imgkit.data.rows import count
from imgkit.errors import BadImage, DiskError, printable
from imgkit.evaluation_tables import WIDEST
from imgkit.evaluations import weights_label
from imgkit.recipe.fields import Task
from imgkit.recipe.load import load_recipe
from imgkit.report.collect import damage_told
from imgkit.run import DAMAGED, RunFolder
from imgkit.sheet import Sheet, Tile, draw_sheet, in_rows, thumbnail, write_png

MOST = 24
"""Pictures of the sheet."""
NAME = "worst-mistakes.png"
_COLUMNS = 6
_SIDE = 160  # pixels


class Mistake(NamedTuple):
    """A wrong answer.

    Args:
        path: of the picture, as in predictions.csv.
        caption: true and predicted, and the probability.
        sure: how sure the model was of it, in [0, 1]: of several labels, the probability that the worst answer had.
    """

    path: str
    caption: tuple[str, ...]
    sure: float


def write_mistakes(folder: RunFolder, out: Path, say: Callable[[str], None]) -> Path | None:
    """Write the surest wrong answers of the best weights, on test where that was scored, else on val.

    Args:
        folder: the run.
        out: folder of the PNG.
        say: told what is not shown, and why.

    Returns:
        the PNG; None where there is none to write, which is said.

    Raises:
        DiskError: if a file of the run is damaged, or `out` cannot be written.
    """
    with damage_told(folder):
        about = folder.read_json("run.json")
        root, task = Path(about["data"]["root"]), about["task"]
        evaluation = _evaluation(folder)
        if evaluation is None:
            say(f"no {NAME}: nothing was scored yet")
            return None
        split = evaluation.partition("@")[0]
        if task == "multilabel" and len(about["classes"]) > WIDEST:
            say(f"no {NAME}: predictions.csv has probabilities of up to {WIDEST} labels, and there are more")
            return None
        mistakes, total = _mistakes(folder.path / "evaluations" / evaluation / "predictions.csv", task)
    if not mistakes:
        say(f"no {NAME}: no answer on {split} is wrong, of {total:,}")
        return None
    tiles, gone = _tiles(mistakes, root, max_pixels_of(folder))
    if gone:
        say(f"{count(gone, 'wrong answer')} on {split} left out: the picture is not there any more, or cannot be read")
    if not tiles:
        say(f"no {NAME}: no picture is left. Data that were moved:  imgkit evaluate {folder.address} --root FOLDER")
        return None
    title = (
        f"{len(tiles):,} surest of {len(mistakes):,} wrong answers on {split}, {total:,} images: "
        f"label, → answer with its probability · {folder.name}"
    )
    write_png(draw_sheet(Sheet(in_rows(tiles, _COLUMNS), (_SIDE, _SIDE), title)), out / NAME)
    return out / NAME


def _evaluation(folder: RunFolder) -> str | None:
    """The name of the evaluation to show."""
    best = folder.read_json("status.json").get("best")
    stored = folder.evaluations()
    if best is not None:
        return next(
            (f"{s}@{weights_label(best)}" for s in ("test", "val") if f"{s}@{weights_label(best)}" in stored), None
        )
    steps = [row["step"] for row in folder.history() if row.get("best")]
    return next((name for step in reversed(steps) if (name := f"val@{step}") in stored), None)


def _mistakes(file: Path, task: Task) -> tuple[list[Mistake], int]:
    """The wrong answers of a predictions.csv, the surest first, and how many answers there are."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, csv.Error) as error:
        raise DiskError(f"{printable(str(file))} cannot be read: {error}.", DAMAGED) from error
    found = _of_sets(rows) if task == "multilabel" else _of_labels(rows)
    return sorted(found, key=lambda mistake: -mistake.sure), len(rows)


def _of_labels(rows: list[dict[str, str]]) -> Iterator[Mistake]:
    for row in rows:
        if row["label"] != row["predicted"]:
            prob = float(row["prob"])
            yield Mistake(bare(row["path"]), (bare(row["label"]), f"→ {bare(row['predicted'])} {prob:.3f}"), prob)


def _of_sets(rows: list[dict[str, str]]) -> Iterator[Mistake]:
    """Of several labels an image, the worst answer about one: a label that is missing, or one too many."""
    for row in rows:
        truth, answer = set(parted(bare(row["labels"]))), set(parted(bare(row["predicted"])))
        probs = {name: float(row[f"p:{name}"]) for name in truth ^ answer}
        worst = max(((1 - p if name in truth else p, name) for name, p in probs.items()), default=None)
        if worst is not None:
            sure, name = worst
            what = f"→ not {name} {1 - sure:.3f}" if name in truth else f"→ {name} {sure:.3f}"
            yield Mistake(bare(row["path"]), (" + ".join(sorted(truth)) or "no label", what), sure)


def _tiles(mistakes: list[Mistake], root: Path, max_pixels: int) -> tuple[list[Tile], int]:
    """The first pictures that can be read, and how many could not be until there were enough."""
    tiles, gone = list[Tile](), 0
    for mistake in mistakes:
        if len(tiles) == MOST:
            break
        try:
            tiles.append(Tile(thumbnail(root / mistake.path, _SIDE, max_pixels=max_pixels), mistake.caption))
        except BadImage:
            gone += 1
    return tiles, gone


def max_pixels_of(folder: RunFolder) -> int:
    """The greatest image that the training of a run opened."""
    file = folder.path / "recipe.toml"
    return load_recipe(file).recipe.data.max_pixels if file.is_file() else MAX_PIXELS
