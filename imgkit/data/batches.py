"""Batches of pixels from an index, starting at any step.

What a step sees is computed from (seed, step); nothing of the loader is ever saved. The number of worker processes and
how far they read ahead cannot change a result.
"""

import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from imgkit.data.augment import TrainTransform
from imgkit.data.decode import load_image
from imgkit.data.index import Index, Weights
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DeviceError, ImgkitError
from imgkit.keys import bounds_of, key, order, picks
from imgkit.signals import HEARD, end_with_parent

Ints = npt.NDArray[np.int64]
Place = tuple[int, int, int]
"""(epoch, row, use): one use of one picture; `use` counts the earlier ones in the epoch."""

_PREFETCH = 2  # batches each worker holds ready
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
_SHARED = Path("/dev") / "shm"


class Batch(NamedTuple):
    """Pictures with their labels."""

    images: torch.Tensor  # uint8 (B, C, H, W), channels-last memory; C is 3, or 1 of greys
    targets: torch.Tensor  # int64 (B,), -1 where unlabelled; multi-label: float32 (B, K), 1 for each label
    ids: torch.Tensor  # int64 (B,), rows of the index


class Sample(NamedTuple):
    """One picture of a batch."""

    image: torch.Tensor  # uint8 (3, H, W)
    target: torch.Tensor  # int64 (); multi-label: float32 (K,)
    row: int


def train_batches(
    index: Index,
    rows: Ints,
    *,
    transform: TrainTransform,
    seed: int,
    first_epoch: int,
    batch_size: int,
    steps_per_epoch: int,
    start: int,
    stop: int,
    workers: int,
    max_pixels: int,
    weights: Weights | None = None,
) -> Generator[Batch, None, None]:
    """The batches of steps `start`..`stop - 1` of a phase, in order; see `train_places`.

    Args:
        index: where pictures and labels are.
        rows: the rows to train on, int64 (n,).
        transform: augmentation; its key is (seed, "aug", epoch, row), and the number of the use where a row comes
            again in an epoch.
        seed: of the run.
        first_epoch: the epoch that step 0 belongs to.
        batch_size: pictures a step.
        steps_per_epoch: steps after which the next order begins.
        start: first step, counted in the phase.
        stop: the step after the last one.
        workers: processes that decode; 0 decodes in this one.
        max_pixels: a larger picture is refused before it is decoded.
        weights: how often each of `rows` is drawn, relative to the others, (n,); None: each once.

    Raises:
        BadImage: at the batch that holds a file that cannot be read.
        DeviceError: if a worker process dies.
    """
    places = train_places(
        rows,
        seed=seed,
        first_epoch=first_epoch,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        start=start,
        stop=stop,
        weights=weights,
    )
    return _load(_Pictures(index, transform, seed, max_pixels), places, workers)


def eval_batches(
    index: Index, rows: Ints, *, preprocessing: Preprocessing, batch_size: int, workers: int, max_pixels: int
) -> Generator[Batch, None, None]:
    """The pictures of `rows` in their order, without augmentation; the last batch may be smaller.

    Raises:
        BadImage: at the batch that holds a file that cannot be read.
        DeviceError: if a worker process dies.
    """
    listed: list[int] = rows.tolist()
    places = ([(0, row, 0) for row in listed[i : i + batch_size]] for i in range(0, len(listed), batch_size))
    return _load(_Pictures(index, preprocessing, 0, max_pixels), places, workers)


def train_places(
    rows: Ints,
    *,
    seed: int,
    first_epoch: int,
    batch_size: int,
    steps_per_epoch: int,
    start: int,
    stop: int,
    weights: Weights | None = None,
) -> Iterator[list[Place]]:
    """What each step from `start` to `stop - 1` sees; no time is spent on the epochs before.

    Step s belongs to epoch e = first_epoch + s // steps_per_epoch and takes the next `batch_size` of
    rows[order(seed, e, n)], or of rows[picks(seed, e, bounds_of(weights))] where there are weights; the last step of an
    epoch may find fewer.
    """
    bounds = None if weights is None else bounds_of(weights)
    current: int | None = None
    for step in range(start, stop):
        epoch, position = first_epoch + step // steps_per_epoch, step % steps_per_epoch
        if epoch != current:
            drawn = order(seed, epoch, len(rows)) if bounds is None else picks(seed, epoch, bounds)
            uses = np.zeros_like(drawn) if bounds is None else _uses(drawn)
            visited, current = rows[drawn], epoch
        here = slice(position * batch_size, (position + 1) * batch_size)
        taken: list[int] = visited[here].tolist()
        assert taken, "an epoch has no more steps than pictures"
        yield [(epoch, row, use) for row, use in zip(taken, uses[here].tolist(), strict=True)]


def _uses(drawn: Ints) -> Ints:
    """How often each value of `drawn` (n,) came before, int64 (n,)."""
    by_value = np.argsort(drawn, kind="stable")
    ordered = drawn[by_value]
    uses = np.empty_like(drawn)
    uses[by_value] = np.arange(len(drawn)) - np.searchsorted(ordered, ordered, side="left")
    return uses


def start_method() -> str:
    """How workers are started: forked on Linux, in a hundredth of a second; elsewhere as Python does.

    Workers never touch the device, so a fork is safe after CUDA has started.
    """
    return "fork" if sys.platform == "linux" else "spawn"


@dataclass(frozen=True, eq=False)
class _Pictures(Dataset[Sample | ImgkitError]):
    """Pictures by place. Holds arrays and one buffer of paths, which workers share without copying them."""

    index: Index
    transform: TrainTransform | Preprocessing
    seed: int
    max_pixels: int

    def __getitem__(self, place: Place) -> Sample | ImgkitError:
        epoch, row, use = place
        try:
            image = load_image(self.index.path(row), max_pixels=self.max_pixels, min_side=self.transform.min_side)
        except ImgkitError as error:
            return error  # raised by the reader of the batch: DataLoader would turn it into a RuntimeError
        if isinstance(self.transform, Preprocessing):
            pixels = self.transform(image)
        else:
            again = (use,) if use else ()  # the first use has the key that it has where no picture comes twice
            strength = self.transform.ramp.strength(epoch)
            pixels = self.transform(image, key(self.seed, "aug", epoch, row, *again), strength)
        return Sample(pixels, torch.from_numpy(self.index.target(row)), row)


def _load(pictures: _Pictures, places: Iterable[list[Place]], workers: int) -> Generator[Batch, None, None]:
    """Batches of `places`, in order; closing the generator ends the workers."""
    iterator = _start(pictures, places, workers)
    try:
        for batch in iterator:
            if isinstance(batch, ImgkitError):
                raise batch
            yield batch
    except (RuntimeError, EOFError, OSError) as error:  # which one depends on what the worker was doing
        if not _has_died(iterator):
            raise
        raise _worker_died(workers) from error
    finally:
        _end(iterator)


def _start(pictures: _Pictures, places: Iterable[list[Place]], workers: int) -> Iterator[Batch | ImgkitError]:
    in_main = threading.current_thread() is threading.main_thread()
    child_signal = getattr(signal, "SIGCHLD", None)  # Windows has none
    with warnings.catch_warnings():
        # More workers than cores, or a fork beside threads, is not wrong here.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        loader: DataLoader[Sample | ImgkitError] = DataLoader(
            pictures,
            batch_sampler=places,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_prepare_worker,
            prefetch_factor=_PREFETCH if workers else None,
            multiprocessing_context=start_method() if workers else None,
            generator=torch.Generator(),  # it would draw from the global one, for seeds that nothing reads
        )
        previous = signal.getsignal(child_signal) if child_signal else None
        with _signals_held():
            iterator: Iterator[Batch | ImgkitError] = iter(loader)
        if child_signal and in_main:
            # torch's handler raises in whatever code runs when a worker dies; `next` notices it too.
            signal.signal(child_signal, previous)
    return iterator


@contextmanager
def _signals_held() -> Iterator[None]:
    """Those for the main process wait meanwhile, and a worker inherits this: none finds it before it ignores them."""
    hold = getattr(signal, "pthread_sigmask", None)  # Windows has none
    if hold is None:
        yield
        return
    before = hold(signal.SIG_BLOCK, HEARD)
    try:
        yield
    finally:
        hold(signal.SIG_SETMASK, before)


def _end(iterator: Iterator[Batch | ImgkitError]) -> None:
    # torch has no public way to end workers before the iterator is garbage, which a traceback can put off.
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is not None:
        shut_down()
    for worker in getattr(iterator, "_workers", ()):
        if worker.is_alive():
            worker.kill()


def _has_died(iterator: Iterator[Batch | ImgkitError]) -> bool:
    for worker in getattr(iterator, "_workers", ()):
        worker.join(0.1)  # the broken pipe may be seen before the exit code
        if worker.exitcode not in (None, 0):
            return True
    return False


def _collate(samples: Sequence[Sample | ImgkitError]) -> Batch | ImgkitError:
    """One batch of samples, or the first error among them."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, ImgkitError):
            return sample
        good.append(sample)
    # (C, H, W) views of (H, W, C) memory -> (B, H, W, C) memory -> (B, C, H, W) channels-last
    images = torch.stack([sample.image.permute(1, 2, 0) for sample in good]).permute(0, 3, 1, 2)
    targets = torch.stack([sample.target for sample in good])
    return Batch(images, targets, torch.tensor([sample.row for sample in good], dtype=torch.int64))


def _prepare_worker(number: int) -> None:
    # A signal to the whole group is for the main process: it finishes its step, saves, and ends the workers.
    for one in HEARD:
        signal.signal(one, signal.SIG_IGN)
    end_with_parent(_KILL)  # torch notices after seconds, in which this process would hold the run's lock
    sys.excepthook = _tell
    torch.set_num_threads(1)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error of a worker's threads; not that a batch was being handed over when the main process was killed."""
    if not (isinstance(error, EOFError | ConnectionError) and _is_orphan()):
        sys.__excepthook__(kind, error, trace)


def _is_orphan() -> bool:
    """Whether the main process is gone; its pipes break a moment before the system gives this one another parent."""
    main = parent_process()
    for _ in range(20):
        if main is None or os.getppid() != main.pid:
            return main is not None
        time.sleep(0.05)
    return False


def _worker_died(workers: int) -> DeviceError:
    memory = ""
    if os.path.ismount(_SHARED):
        usage = shutil.disk_usage(_SHARED)
        memory = f" ({_SHARED} has {usage.free >> 20:,} of {usage.total >> 20:,} MiB free)"
    return DeviceError(
        f"one of the {workers} loader processes was killed, most often for lack of memory or of shared memory{memory}",
        "Use --workers 0, fewer workers, or give more shared memory (in Docker: --shm-size=2g).",
    )
