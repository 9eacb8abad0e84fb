"""`predict` on several ranks: rank 0 hands out files as they come, in rounds, and each rank answers its batches.

The batches are those that one process would make, so what float32 answers has the same bits on one kind of device.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from imgkit.device import choose_device, no_room
from imgkit.errors import memory_told
from imgkit.freed_memory import keep_freed_memory
from imgkit.inference import Network, Precision
from imgkit.models.folder import LoadedModel
from imgkit.predict import Prediction, answer_of, predictions
from imgkit.run import MODEL_FILES, RunFolder
from imgkit.shares import positions
from imgkit.world import World, as_tensor, check_device

BATCH = 32
"""Files of a forward pass, as in `predict_files`."""
EACH = 4
"""Batches of a rank in a round: a rank waits for the others, and decodes nothing meanwhile, but once in so many."""


def share_files(
    world: World,
    folder: RunFolder,
    loaded: LoadedModel,
    paths: Iterator[str],
    *,
    top_k: int,
    device: str,
    max_pixels: int,
    precision: Precision,
    told: Callable[[str], object] | None = None,
) -> Iterator[Prediction]:
    """`predict_files` of rank 0, by all ranks: a prediction for each path, in order; a round is read ahead.

    Args:
        world: who shares them.
        folder: of the run that answers.
        loaded: its network.
        paths: files, that every rank can read.
        top_k: classes to tell for each file; more than there are means all.
        device: each rank takes one of its own of this kind.
        max_pixels: larger images are not opened.
        precision: of all ranks; "auto" is float32, since what is measured may differ between them.
        told: told that it is.

    Raises:
        UsageError: if the device is one that cannot be shared, or there is no such precision.
        DeviceError: if memory runs out, or a rank is gone.
        SystemExit: if a signal asked another rank to stop.
    """
    chosen = choose_device(device)
    check_device(chosen)
    if precision == "auto":
        precision = "float32"
        if told is not None:
            told(
                f"precision: float32, since {world.size} processes share the files; another one:  --precision bfloat16"
            )
    share = Share(world, loaded, chosen, precision, max_pixels)
    files = {name: as_tensor((folder.path / "model" / name).read_bytes()) for name in MODEL_FILES}
    world.send("predict", files, device=device, precision=precision, max_pixels=max_pixels)
    while some := list(islice(paths, BATCH * EACH * world.size)):
        with world.joint("files", files=some):
            probs, errors = share.answers(some)
        world.request.heed()  # what another rank heard; an own signal ends this by itself
        for path, row, error in zip(some, probs, errors, strict=True):
            if error:
                yield Prediction(path, "", 0.0, (), error)
            else:
                yield answer_of(path, row.numpy(), loaded.classes, loaded.calibration.thresholds, top_k)


class Share:
    """What one rank does of a prediction.

    Args:
        world: who shares the files.
        loaded: the network and its calibration; the network is moved to `device` and put into evaluation mode.
        device: where it runs.
        precision: in which it computes, not "auto".
        max_pixels: larger images are not opened.

    Raises:
        UsageError: if there is no such precision.
        DeviceError: if memory runs out.
    """

    def __init__(
        self, world: World, loaded: LoadedModel, device: torch.device, precision: Precision, max_pixels: int
    ) -> None:
        keep_freed_memory()
        self._world, self._max_pixels = world, max_pixels
        with memory_told(no_room(device, BATCH)):
            self._network = Network(loaded, device, precision)

    def answers(self, files: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Answer the own part of a round, and give all of it: float64 (N, K), and why each file cannot be read, or "".

        Raises:
            DeviceError: if memory runs out, or a rank is gone.
        """
        rank, size = self._world.rank, self._world.size
        shares = [positions(len(files), BATCH, other, size) for other in range(size)]
        mine = (files[row] for row in shares[rank])
        with memory_told(no_room(self._network.device, BATCH)):
            found = list(predictions(self._network, mine, 1, BATCH, self._max_pixels, None))
        probs, errors = self._gathered(found, len(shares[0]))  # rank 0 has the most
        turns = sorted((row, other, place) for other, rows in enumerate(shares) for place, row in enumerate(rows))
        return (
            torch.stack([probs[other, place] for _, other, place in turns]),
            [errors[other][place] for _, other, place in turns],
        )

    def _gathered(self, own: Sequence[Prediction], most: int) -> tuple[Tensor, list[list[str]]]:
        """The answers of all ranks, at most so many of each: float64 (size, most, K), and errors, by rank."""
        probs = torch.zeros(most, len(self._network.loaded.classes), dtype=torch.float64)
        for place, one in enumerate(own):
            if not one.error:
                probs[place] = torch.tensor(one.probs, dtype=torch.float64)
        text = as_tensor(json.dumps([one.error for one in own]).encode())
        lengths = [int(length) for (length,) in self._world.meet([[len(text)]])]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(text)] = text
        texts = self._world.gather(padded)  # (size, longest)
        errors = [json.loads(row[:length].numpy().tobytes()) for row, length in zip(texts, lengths, strict=True)]
        return self._world.gather(probs), errors
