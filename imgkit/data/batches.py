"""Batches of pixels from an index, starting at any step.

What a step sees is computed from (seed, step); nothing of the loader is ever saved. The number of worker processes and
how far they read ahead cannot change a result.
"""

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from imgkit.data.augment import TrainTransform
from imgkit.data.decode import load_image
from imgkit.data.index import Index, Weights
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import about, prepare, rule_of
from imgkit.data.preprocessing import Preprocessing
from imgkit.data.worker_process import reading, shared
from imgkit.data.workers import Reader, load
from imgkit.errors import ImgkitError
from imgkit.keys import bounds_of, key, order, picks

Ints = npt.NDArray[np.int64]
Place = tuple[int, int, int]
"""(epoch, row, use): one use of one picture; `use` counts the earlier ones in the epoch."""
Warn = Callable[[str], object]
"""Told what went wrong and was mended."""


class Batch(NamedTuple):
    """Pictures with their labels, or features of pictures."""

    images: torch.Tensor  # uint8 (B, C, H, W), channels-last memory; C is 3, or 1 of greys; features: float32 (B, D)
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
    views: int = 0,
    part: Callable[[list[Place]], list[Place]] = list,
    in_turn: bool = False,
    warn: Warn = warnings.warn,
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
        views: see `train_places`.
        part: which of a step's places are given, where several processes share them.
        in_turn: whether workers read a batch together while it is waited for, and not ahead.
        warn: told where a process died and its batch was read again.

    Raises:
        BadImage: at the batch that holds a file that cannot be read.
        DeviceError: if worker processes die again and again.
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
        views=views,
    )
    own, join = map(part, places), _joined if in_turn else None
    return load(_Pictures(index, transform, seed, max_pixels), own, _collate, workers, index.path, warn, join)


class EvalReader:
    """Reads pictures of an index without augmentation, pass after pass.

    Worker processes are started by `start` or the first pass and stay until `close`, after which a pass starts others.
    Prepared pictures are those that there were at their start. After a fork the process that trains copies each page
    of memory that it changes: so there is one, and not one an evaluation.

    Args:
        index: where pictures and labels are.
        preprocessing: what is done to each picture.
        batch_size: pictures a batch; the last one of a pass may be smaller.
        workers: processes that decode; 0 decodes in this one.
        max_pixels: a larger picture is refused before it is decoded.
        in_turn: whether workers read a batch together while it is waited for, and not ahead.
        warn: told where a process died and its batch was read again.
    """

    def __init__(
        self,
        index: Index,
        *,
        preprocessing: Preprocessing,
        batch_size: int,
        workers: int,
        max_pixels: int,
        in_turn: bool = False,
        warn: Warn = warnings.warn,
    ) -> None:
        self.index, self.preprocessing, self.batch_size = index, preprocessing, batch_size
        self._workers, self._max_pixels, self._in_turn, self._warn = workers, max_pixels, in_turn, warn
        self._reader: Reader[Place, Sample | ImgkitError, Batch] | None = None

    def batches(self, rows: Ints) -> Generator[Batch, None, None]:
        """The pictures of `rows` in their order; one that is left before its end ends the processes.

        Raises:
            BadImage: at the batch that holds a file that cannot be read.
            DeviceError: if worker processes die again and again.
        """
        return self._opened().batches(_cut([(0, row, 0) for row in rows.tolist()], self.batch_size))

    def start(self) -> None:
        """Start the processes, for a pass that comes later.

        Raises:
            DeviceError: if the system has no room for them.
        """
        self._opened().start()

    def _opened(self) -> Reader[Place, Sample | ImgkitError, Batch]:
        if self._reader is None:
            pictures = _Pictures(self.index, self.preprocessing, 0, self._max_pixels)
            join = _joined if self._in_turn else None
            self._reader = Reader(pictures, _collate, self._workers, self.index.path, self._warn, join)
        return self._reader

    def close(self) -> None:
        """End the processes."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def eval_batches(
    index: Index,
    rows: Ints,
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int,
    max_pixels: int,
    in_turn: bool = False,
    warn: Warn = warnings.warn,
) -> Generator[Batch, None, None]:
    """The batches of one pass over `rows`, see `EvalReader`."""
    reader = EvalReader(
        index,
        preprocessing=preprocessing,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        in_turn=in_turn,
        warn=warn,
    )
    with closing(reader), closing(reader.batches(rows)) as batches:
        yield from batches


def batches_at(
    index: Index,
    places: Sequence[Place],
    *,
    transform: TrainTransform | Preprocessing,
    seed: int,
    batch_size: int,
    workers: int,
    max_pixels: int,
    in_turn: bool = False,
    warn: Warn = warnings.warn,
) -> Generator[Batch, None, None]:
    """The pictures of any places in their order, made as `train_batches` or `eval_batches` make them; errors as theirs.

    The last batch may be smaller.
    """
    taken, join = _cut(places, batch_size), _joined if in_turn else None
    return load(_Pictures(index, transform, seed, max_pixels), taken, _collate, workers, index.path, warn, join)


def _cut(places: Sequence[Place], batch_size: int) -> Iterator[list[Place]]:
    return (list(places[i : i + batch_size]) for i in range(0, len(places), batch_size))


def augment_key(seed: int, place: Place) -> int:
    """What the augmentation of one use of a picture is drawn from."""
    epoch, row, use = place
    again = (use,) if use else ()  # the first use has the key that it has where no picture comes twice
    return key(seed, "aug", epoch, row, *again)


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
    views: int = 0,
) -> Iterator[list[Place]]:
    """What each step from `start` to `stop - 1` sees; no time is spent on the epochs before.

    Step s belongs to epoch e = first_epoch + s // steps_per_epoch and takes the next `batch_size` of
    rows[order(seed, e, n)], or of rows[picks(seed, e, bounds_of(weights))] where there are weights; the last step of an
    epoch may find fewer. With `views`, that many pictures of each image come again: the places of epoch e name epoch
    first_epoch + (e - first_epoch) % views, and a row that is drawn again is the same picture.
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
        if views:
            yield [(first_epoch + (epoch - first_epoch) % views, row, 0) for row in taken]
        else:
            yield [(epoch, row, use) for row, use in zip(taken, uses[here].tolist(), strict=True)]


def _uses(drawn: Ints) -> Ints:
    """How often each value of `drawn` (n,) came before, int64 (n,)."""
    by_value = np.argsort(drawn, kind="stable")
    ordered = drawn[by_value]
    uses = np.empty_like(drawn)
    uses[by_value] = np.arange(len(drawn)) - np.searchsorted(ordered, ordered, side="left")
    return uses


class _Pictures(Dataset[Sample | ImgkitError]):
    """Pictures by place. Holds arrays and one buffer of paths, which workers share without copying them.

    Prepared pictures come from their store where it has them; they are the same pixels where it has not.
    """

    def __init__(self, index: Index, transform: TrainTransform | Preprocessing, seed: int, max_pixels: int) -> None:
        self.index = index
        self.transform = transform
        self.seed = seed
        self.max_pixels = max_pixels
        rule = rule_of(transform)
        self._kept = None if rule is None else PictureStore(about(rule))

    def __getitem__(self, place: Place) -> Sample | ImgkitError:
        reading(place[1])
        try:
            pixels = self._pixels(place)
        except ImgkitError as error:
            return error  # raised by the reader of the batch: DataLoader would turn it into a RuntimeError
        return Sample(pixels, torch.from_numpy(self.index.target(place[1])), place[1])

    def _pixels(self, place: Place) -> torch.Tensor:
        """uint8 (C, H, W) in channels-last memory."""
        epoch, row, _ = place
        rule, path, transform = rule_of(self.transform), self.index.path(row), self.transform
        kept = None if self._kept is None else self._kept.get(self.index.hashes[row])
        if rule is not None and kept is None:
            kept = prepare(path, rule, self.max_pixels)
        if isinstance(transform, Preprocessing):
            assert kept is not None
            return torch.from_numpy(kept.pixels).permute(2, 0, 1)  # -> (C, H, W)
        key, strength = augment_key(self.seed, place), transform.ramp.strength(epoch)
        if kept is not None:
            return transform(kept.pixels, key, strength, size=kept.size)
        return transform(load_image(path, max_pixels=self.max_pixels, min_side=transform.min_side), key, strength)


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
    return shared(Batch(images, targets, torch.tensor([sample.row for sample in good], dtype=torch.int64)))


def _joined(parts: Sequence[Batch]) -> Batch:
    """The batch of which these are the parts, in order."""
    images, targets, ids = zip(*parts, strict=True)
    pixels = torch.cat([one.permute(0, 2, 3, 1) for one in images]).permute(0, 3, 1, 2)  # as above
    return Batch(pixels, torch.cat(targets), torch.cat(ids))
