"""A contact sheet of what the network is trained on: the pictures as training makes them, not a likeness."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from imgkit import sheet as sheets
from imgkit.cells import joined
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, eval_batches, train_batches
from imgkit.data.index import Index
from imgkit.data.load import load_data
from imgkit.data.preprocessing import Preprocessing
from imgkit.data.rows import refuse_picture
from imgkit.errors import UsageError, printable
from imgkit.models.create import create_model
from imgkit.recipe.augment import Ramp
from imgkit.recipe.check import check_given
from imgkit.recipe.load import Loaded
from imgkit.recipe.plan import PhasePlan, make_plan
from imgkit.recipe.task import for_task, task_of
from imgkit.screen import Screen

COLUMNS = 6  # epochs shown, at most


class Sheet(NamedTuple):
    """What a contact sheet shows: its columns' heads, and a row of pictures for each name."""

    heads: list[str]
    names: list[str]
    pictures: torch.Tensor  # uint8 (columns, rows, C, H, W)


def write_sheet(loaded: Loaded, file: Path, *, rows: int, screen: Screen) -> None:
    """Write a PNG with a training picture of each class, as evaluated and as trained on in the first epochs.

    Of the phases it is the last that sees augmented pictures. What a batch mixes is not shown: that takes the batch.

    Args:
        loaded: the recipe; the network that it names decides size, colours and fit. No weights are needed.
        file: the PNG.
        rows: pictures, one of each class in turn until there are so many.
        screen: told what is shown.

    Raises:
        ImgkitError: as `imgkit finetune` would before it trains.
        UsageError: if there are no rows, nothing of the recipe sees augmented pictures, or `file` is a picture of the
            data.
        DiskError: if the file cannot be written.
    """
    if rows < 1:
        raise UsageError(f"--rows {rows}: a sheet has at least one row.", "For example:  --rows 8")
    loaded, _ = for_task(loaded, task_of(loaded.recipe.data))
    check_given(loaded)
    recipe = loaded.recipe
    with screen.progress("reading images") as progress:
        index = load_data(recipe.data, progress=progress).index
    refuse_picture(file, map(index.path, range(len(index))))
    plan = make_plan(loaded, len(index.rows("train")))
    phase = next((phase for phase in reversed(plan.phases) if phase.augments), None)
    if phase is None:
        raise UsageError(
            f"No phase of {recipe.name!r} trains on augmented pictures.",
            "Choose a recipe that does, such as --recipe finetune, or give the solve views: --set phases.NAME.views=1",
        )
    settings = recipe.model.model_copy(update={"weights": "none"})
    preprocessing = create_model(settings, len(index.classes), recipe.seed).preprocessing
    sheet = _sheet(loaded, phase, index, _chosen(index, rows), preprocessing)
    sheets.write_png(drawn(sheet), file)
    height, width = preprocessing.size
    screen.note(
        f"{printable(str(file))}: pictures of {height}×{width}, fit {preprocessing.fit}, of phase {phase.name!r}"
    )
    if phase.augment.mixes and phase.lr is not None:
        screen.note("the phase mixes pictures of a batch besides (augment.mixup, augment.cutmix); that is not shown")


def _chosen(index: Index, rows: int) -> npt.NDArray[np.int64]:
    """Training rows: the first of each class, then the second of each, until there are enough; in this order.

    Of several labels an image counts for the first; one without any counts for none and comes before them.
    """
    train = index.rows("train")
    first, some = np.full(len(index), -1, dtype=np.int64), np.diff(index.offsets) > 0
    first[some] = index.codes[index.offsets[:-1][some]]
    labels = first[train]
    turn = np.zeros(len(train), dtype=np.int64)  # how many of its class come before
    for code in range(-1, len(index.classes)):
        turn[labels == code] = np.arange((labels == code).sum())
    return train[np.lexsort((train, labels, turn))[:rows]]


def _sheet(
    loaded: Loaded, phase: PhasePlan, index: Index, chosen: npt.NDArray[np.int64], preprocessing: Preprocessing
) -> Sheet:
    recipe, epochs = loaded.recipe, min(COLUMNS, phase.epochs or phase.views)
    pixels, ramp = recipe.data.max_pixels, phase.ramp if phase.lr is not None else Ramp()
    side = recipe.data.prepared
    batches = [
        *eval_batches(index, chosen, preprocessing=preprocessing, batch_size=len(chosen), workers=0, max_pixels=pixels),
        *train_batches(  # an epoch over the chosen ones is one step
            index,
            chosen,
            transform=TrainTransform(preprocessing, phase.augment, ramp, None if side == "auto" else side),
            seed=recipe.seed,
            first_epoch=phase.first_epoch,
            batch_size=len(chosen),
            steps_per_epoch=1,
            start=0,
            stop=epochs,
            workers=0,
            max_pixels=pixels,
        ),
    ]
    heads = ["evaluation", *(f"epoch {phase.first_epoch + epoch + 1}" for epoch in range(epochs))]
    shown = index.select(chosen)
    names = [joined(shown.classes[code] for code in codes) for codes in np.split(shown.codes, shown.offsets[1:-1])]
    return Sheet(heads, names, torch.stack([_in_order(batch, chosen) for batch in batches]))


def _in_order(batch: Batch, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
    """The pictures of a batch in the order of `chosen`, uint8 (B, C, H, W)."""
    place = {int(row): position for position, row in enumerate(batch.ids)}
    return batch.images[[place[int(row)] for row in chosen]]


def drawn(sheet: Sheet) -> Image.Image:
    """The sheet as one picture, pixel for pixel, names at the left and heads above."""
    columns, rows, _, height, width = sheet.pictures.shape
    tiles = [[sheets.Tile(_picture(sheet.pictures[column, row])) for column in range(columns)] for row in range(rows)]
    return sheets.draw_sheet(sheets.Sheet(tiles, (width, height), heads=sheet.heads, names=sheet.names))


def _picture(pixels: torch.Tensor) -> Image.Image:
    """uint8 (C, H, W) -> RGB picture."""
    return Image.fromarray(np.ascontiguousarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()))  # -> (H, W, 3)
