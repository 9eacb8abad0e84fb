"""What a network answers on rows of an index, and how that is stored."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from imgkit.ahead import Ahead
from imgkit.calibration import Calibration
from imgkit.cost import cost_of
from imgkit.data.batches import EvalReader
from imgkit.data.index import Index
from imgkit.device import no_room
from imgkit.energy import Meter
from imgkit.errors import DiskError, memory_told
from imgkit.evaluations import Beside, write_evaluation
from imgkit.features import BATCH, filled
from imgkit.shares import in_rounds, positions
from imgkit.world import current


@dataclass(frozen=True)
class Scores:
    """What a network answered: logits float32 (N, K), ids int64 (N,), in the order of the rows.

    Targets are int64 (N,), or zeros and ones float32 (N, K) in a multi-label task. `cost` is cost.json's, if known.
    """

    logits: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    cost: Mapping[str, Any] | None = None


def score(
    model: nn.Module,
    reader: EvalReader,
    rows: npt.NDArray[np.int64],
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Run `model`, moved to `device`, over rows of the reader's index in evaluation mode and float32.

    What it answers to an image is the same to the last bit whichever images are beside it, as in `features.extract`.
    So several ranks, which share the rows, get what one would; the cost is then not told.

    Raises:
        BadImage: at a file that cannot be read.
        DeviceError: if memory runs out, or a worker process dies.
    """
    world, index, logits = current(), reader.index, []
    own = rows if world is None else rows[positions(len(rows), BATCH, world.rank, world.size)]
    if world is not None and world.leads:
        world.send("score", {**of_model(model), "rows": torch.from_numpy(rows)})
    batches = reader.batches(own)
    done, at_work, meter, began = 0, 0.0, Meter(), time.perf_counter()

    def answers() -> Iterator[torch.Tensor]:
        nonlocal at_work
        asked = iter(own.tolist())
        coming = Ahead(batches, device)
        for batch in coming:
            assert batch.ids.tolist() == list(islice(asked, len(batch.ids))), "rows come once, in order"
            given, clock = time.perf_counter(), _Clock(device)
            images = filled(reader.preprocessing.normalise(batch.images.to(device, non_blocking=True)))
            answered = model(images)[: len(batch.ids)].float()
            clock.stop()
            asked_for = time.perf_counter()
            coming.fetch()
            given += time.perf_counter() - asked_for  # waiting for pictures is no work of the network
            found = answered.cpu()  # device sync
            at_work += clock.seconds(time.perf_counter() - given)
            meter.look()
            yield found

    # A traceback may hold the generator until the process ends, which waits for its loaders.
    with closing(batches), memory_told(no_room(device, BATCH)), torch.inference_mode():
        model = model.to(device).eval()
        for part in in_rounds(answers(), len(rows), BATCH, len(index.classes), world):
            logits.append(part)
            done += len(part)
            if progress is not None:
                progress(done, len(rows))
    assert done == len(rows), "every row is scored once, in order"
    seconds = time.perf_counter() - began
    cost = cost_of(len(rows), seconds=seconds, network_seconds=at_work, device=device, joules=meter.joules)
    return Scores(torch.cat(logits).numpy(), index.select(rows).targets(), rows, cost if world is None else None)


class _Clock:
    """How long a GPU is at work on what it is told until `stop`: it works while this process waits for pictures."""

    def __init__(self, device: torch.device) -> None:
        self._ends = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        if self._ends:
            self._stream = torch.cuda.current_stream(device)
            self._ends[0].record(self._stream)

    def stop(self) -> None:
        if self._ends:
            self._ends[1].record(self._stream)

    def seconds(self, elsewhere: float) -> float:
        """Its time, once the answers are there; `elsewhere` on a device that is waited for."""
        return self._ends[0].elapsed_time(self._ends[1]) / 1000 if self._ends else elsewhere


def of_model(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network, for the ranks that score with it."""
    return {f"model/{name}": tensor for name, tensor in model.state_dict().items()}


def store(
    folder: Path,
    scores: Scores,
    index: Index,
    *,
    split: str,
    step: int | None,
    seed: int,
    calibration: Calibration | None = None,
    fit_loss: bool = True,
    unwritten: Callable[[DiskError], None] | None = None,
    beside: Beside | None = None,
    **extra: object,
) -> dict[str, Any]:
    """Write predictions, metrics, tables and cost of one evaluation into `folder`; returns its metrics.

    Without a `calibration` they are of the plain probabilities and, in a multi-label task, of thresholds 0.5. `beside`
    puts more files into the folder, see `write_evaluation`.

    Raises:
        DiskError: if the folder cannot be written and there is no `unwritten` to take the error.
    """
    paths = [index.paths[int(row)] for row in scores.ids]
    return write_evaluation(
        folder,
        paths=paths,
        targets=scores.targets,
        logits=scores.logits,
        classes=index.classes,
        split=split,
        step=step,
        seed=seed,
        extra={"data": index.select(scores.ids).fingerprint, **extra},
        calibration=calibration,
        fit_loss=fit_loss,
        unwritten=unwritten,
        cost=scores.cost,
        beside=beside,
    )
