"""The `Likeness` of a run: measured on its images when it is first asked for, kept beside its weights; and its use."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from imgkit.data.batches import eval_batches
from imgkit.data.rows import count
from imgkit.device import choose_device, choose_workers, in_turn, no_room
from imgkit.errors import DataError, DiskError, UsageError, memory_told, printable
from imgkit.evaluate import check_files, load_run_model, read_index
from imgkit.features import BATCH, extract, head_layer
from imgkit.keys import order
from imgkit.recipe.load import load_recipe
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.unlike import Likeness, fit

if TYPE_CHECKING:
    from imgkit.data.index import Index

NAME = "unlike.safetensors"
"""The file, in the folder of the model."""
MOST = 20_000
"""Images of each split that are looked at, at most: a keyed draw. A covariance of 1,280 features needs no more."""


def likeness_of(folder: RunFolder, *, device: str, screen: Screen) -> Likeness:
    """How unlike pictures are to a run's training images; kept as `NAME` for the next time.

    Raises:
        UsageError: if the run has no model, no validation images, or its head is not one linear layer.
        DataError: if its images are not where they were, or changed.
        DeviceError: if torch does not see `device`, or memory runs out.
    """
    if not folder.has_model:
        raise folder.without_model()
    file = folder.path / "model" / NAME
    with (folder.path / "model" / "model.safetensors").open("rb") as stream:
        about = {"weights": hashlib.file_digest(stream, "sha256").hexdigest()}
    found = Likeness.load(file, about)
    if found is not None:
        return found
    found = _measure(folder, device, screen)
    try:
        found.save(file, about)
    except OSError as error:
        screen.warn(f"{printable(str(file))} cannot be written ({error.strerror}); the next time it is measured again")
    return found


class Watch:
    """The features that a network's head is given, batch by batch, as shares of held-out images that are nearer.

    Args:
        model: a timm model; it is looked at from now on.
        likeness: of the same weights.

    Raises:
        DiskError: if it is of another number of features.
    """

    def __init__(self, model: nn.Module, likeness: Likeness) -> None:
        self._likeness = likeness
        self._seen = torch.empty(0)
        head, width = head_layer(model), len(likeness.root)
        if head.weight.shape[1] != width:
            raise DiskError(
                f"model/{NAME} is of {width:,} features, and the head is given {head.weight.shape[1]:,}.",
                "Remove that file: the next --unlike measures it again.",
            )
        head.register_forward_pre_hook(self._look)

    def _look(self, _: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self._seen = given[0].detach().flatten(1)  # (B, D, 1, 1) -> (B, D) where the head is a convolution

    def shares(self) -> list[float]:
        """Of the images of the last batch."""
        found: list[float] = self._likeness.shares(self._seen.float().cpu().numpy()).tolist()  # device sync
        return found


def _measure(folder: RunFolder, device: str, screen: Screen) -> Likeness:
    loaded, about = load_run_model(folder), folder.read_json("run.json")
    recipe = load_recipe(folder.path / "recipe.toml").recipe
    try:
        head_layer(loaded.model)
    except UsageError as error:
        what = error.message.partition(";")[0]
        raise UsageError(
            f"--unlike measures what a single linear head sees, and {what}.", "Leave --unlike out for this run."
        ) from error
    index, chosen = read_index(folder, about), choose_device(device)
    train, val = (_drawn(index.rows(split), recipe.seed) for split in ("train", "val"))
    if not len(val):
        raise UsageError(
            f"{folder.name} has no validation images, which say how unlike is usual.", "Train with data.val=0.2."
        )
    try:
        with screen.progress("checking images") as progress:
            check_files(index, progress)
    except DataError as error:
        raise DataError(
            f"{error.message} The first --unlike looks at the training images once more.",
            f"Put them back. If they were moved:  imgkit evaluate {folder.address} --root FOLDER",
        ) from error
    loaded.model.to(chosen)
    workers = choose_workers(recipe.run.workers, chosen)

    def features(rows: npt.NDArray[np.int64], what: str) -> npt.NDArray[np.float32]:
        batches = eval_batches(
            index,
            rows,
            preprocessing=loaded.preprocessing,
            batch_size=BATCH,
            workers=workers,
            max_pixels=recipe.data.max_pixels,
            in_turn=in_turn(chosen, workers),
            warn=screen.warn,
        )
        done, found = 0, []
        with screen.progress(what) as progress, memory_told(no_room(chosen, BATCH)):
            for values in extract(loaded.model, batches, preprocessing=loaded.preprocessing, device=chosen):
                found.append(values.numpy())
                done += len(values)
                progress(done, len(rows))
        return np.concatenate(found)

    known = fit(features(train, "training images"), _classes(index, train), features(val, "validation images"))
    screen.note(
        f"how unlike an image is was measured on {count(len(train), 'training image')} and told by "
        f"{count(len(val), 'validation image')}; kept in model/{NAME}"
    )
    return known


def _drawn(rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """At most `MOST` of the rows, ascending."""
    if len(rows) <= MOST:
        return rows
    return np.sort(rows[order(seed, 0, len(rows))[:MOST]])


def _classes(index: "Index", rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The class of each row, of a single-label task."""
    return index.targets()[rows].astype(np.int64)
