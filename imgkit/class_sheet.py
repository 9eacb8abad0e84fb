"""Sample pictures of each class, those of train beside those of validation, as a sheet."""

from pathlib import Path

import numpy as np

from imgkit.data.index import Index, Ints
from imgkit.data.load import load_data
from imgkit.data.rows import count, refuse_picture
from imgkit.data.sources import find_data, refuse_inside
from imgkit.errors import UsageError, printable
from imgkit.recipe.schema import DataSettings
from imgkit.screen import Screen
from imgkit.sheet import Sheet, Tile, draw_sheet, thumbnail, write_png

USUAL, MOST = 50, 200
"""Classes of a sheet, and the greatest number that may be asked for: the picture is then 20,000 pixels high."""
SAMPLES = 4
"""Pictures of a class of either split."""
_SIDE = 96  # pixels
_SPLITS = ("train", "val")


def write_class_sheet(settings: DataSettings, file: Path, *, rows: int | None, screen: Screen) -> None:
    """Write a PNG with pictures of each class as they are, spread evenly over its images in the order of the data.

    Args:
        settings: `[data]` of a recipe; the data are split as a training would.
        file: the PNG.
        rows: classes, the first ones; None: `USUAL`.
        screen: told what is shown and what is not.

    Raises:
        DataError: as `load_data`.
        UsageError: if there are no rows or too many, or `file` lies in the data or is a picture of them.
        DiskError: if the file cannot be written.
    """
    if rows is not None and not 1 <= rows <= MOST:
        raise UsageError(
            f"--rows {rows}: a sheet by class has 1 to {MOST} rows, one a class.", f"For example:  --rows {USUAL}"
        )
    refuse_inside(find_data(settings), settings.root, file, called="picture", beside="preview.png")
    with screen.progress("reading images") as progress:
        index = load_data(settings, progress=progress).index
    refuse_picture(file, map(index.path, range(len(index))))
    shown = index.classes[: USUAL if rows is None else rows]
    counts = {split: index.counts(split) for split in _SPLITS}
    tiles = [
        [tile for split in _SPLITS for tile in _tiles(index, sampled(index, split, code), settings.max_pixels)]
        for code in range(len(shown))
    ]
    names = [f"{name}\n{counts['train'][code]:,} · {counts['val'][code]:,}" for code, name in enumerate(shown)]
    heads = ["train", *[""] * (SAMPLES - 1), "val", *[""] * (SAMPLES - 1)]
    sheet = Sheet(tiles, (_SIDE, _SIDE), heads=heads, names=names, apart=SAMPLES)
    write_png(draw_sheet(sheet), file)
    screen.note(
        f"{printable(str(file))}: up to {SAMPLES} pictures of each class as they are, train at the left, val at the "
        "right; beside the name: how many there are"
    )
    left = len(index.classes) - len(shown)
    if left:
        more = f"; more:  --rows {min(MOST, len(index.classes))}" if len(shown) < MOST else ""
        screen.note(f"the first {len(shown):,} of {count(len(index.classes), 'class', 'classes')} are shown{more}")


def sampled(index: Index, split: str, code: int) -> Ints:
    """Up to `SAMPLES` rows of a class in a split, spread evenly; with several labels an image, those that have it."""
    owners = np.repeat(np.arange(len(index)), np.diff(index.offsets))
    own = np.intersect1d(owners[index.codes == code], index.rows(split))
    places = np.unique(np.linspace(0, len(own) - 1, SAMPLES).round().astype(np.int64)) if len(own) else np.empty(0, int)
    found: Ints = own[places].astype(np.int64)
    return found


def _tiles(index: Index, rows: Ints, max_pixels: int) -> list[Tile]:
    tiles = [Tile(thumbnail(index.path(int(row)), _SIDE, max_pixels=max_pixels)) for row in rows]
    return tiles + [Tile(None)] * (SAMPLES - len(tiles))
