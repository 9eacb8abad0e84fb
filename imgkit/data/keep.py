"""Pictures prepared and put into their store, by loader processes, in one pass."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from imgkit.data.batches import Ints, Warn
from imgkit.data.byte_range import opened
from imgkit.data.index import Index
from imgkit.data.picture_store import SHARD_BYTES, PictureStore
from imgkit.data.prepared import MAX_BYTES, Prepared, Rule, about, prepare
from imgkit.data.worker_process import reading, shared
from imgkit.data.workers import load
from imgkit.errors import ImgkitError

_TOGETHER = 8  # pictures handed over at a time: of 512 x 683 pixels they take 8 MiB of shared memory
_SAMPLE = 32  # pictures that tell how much all take


class Kept(NamedTuple):
    """What a pass did.

    Attributes:
        pictures: of the rows, that the store has now.
        unkept: why it has not all, in words; empty where it has, or where pictures changed meanwhile or are too large.
    """

    pictures: int
    unkept: str


def keep_pictures(
    index: Index,
    rows: Ints,
    rule: Rule,
    *,
    workers: int,
    max_pixels: int,
    progress: Callable[[int, int], None],
    warn: Warn = warnings.warn,
) -> Kept:
    """Prepare the pictures of `rows` that the store of a rule has not, and put them there.

    Nothing is prepared where there is no room for all of them. A full disk ends the pass; what was written stays.

    Args:
        index: where pictures are.
        rows: of the index, int64 (n,).
        rule: how they are prepared.
        workers: processes; 0: this one.
        max_pixels: see `load_image`.
        progress: called with (pictures done, pictures missing); what it raises ends the pass.
        warn: told where a process died and its pictures were read again.

    Raises:
        BadImage: at a file that cannot be read.
        DeviceError: if worker processes die again and again.
    """
    store = PictureStore(about(rule))
    missing = missing_rows(store, index, rows)
    if len(missing) and store.has_room(bytes_of(index, missing, rule, max_pixels)):
        _keep(store, index, missing, rule, workers, max_pixels, progress, warn)
        store, unkept = PictureStore(about(rule)), store.unkept
        return Kept(int(store.holds(index.hashes[rows]).sum()), unkept)
    return Kept(len(rows) - len(missing), store.unkept)


def missing_rows(store: PictureStore, index: Index, rows: Ints) -> Ints:
    """Those of `rows` whose picture a store has not; of several with the same content, the first."""
    absent = rows[~store.holds(index.hashes[rows])]
    _, first = np.unique(index.hashes[absent], axis=0, return_index=True)
    found: Ints = absent[np.sort(first)]
    return found


def bytes_of(index: Index, rows: Ints, rule: Rule, max_pixels: int) -> int:
    """About how many bytes the pictures of `rows` take, by some of them, evenly spread.

    Raises:
        BadImage: at a file that cannot be read.
    """
    some = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
    sizes = [prepare(index.path(int(row)), rule, max_pixels).pixels.nbytes for row in some]
    return round(len(rows) * sum(size for size in sizes if size <= MAX_BYTES) / len(some))


def _keep(
    store: PictureStore,
    index: Index,
    rows: Ints,
    rule: Rule,
    workers: int,
    max_pixels: int,
    progress: Callable[[int, int], None],
    warn: Warn,
) -> None:
    places: Iterator[list[int]] = (rows[i : i + _TOGETHER].tolist() for i in range(0, len(rows), _TOGETHER))
    batches = load(_ToKeep(index, rule, max_pixels), places, _collate, workers, index.path, warn)
    waiting: list[tuple[bytes, Prepared]] = []
    held = done = 0
    try:
        with closing(batches):
            for batch in batches:
                for digest, picture in _apart(batch, index):
                    waiting.append((digest, picture))
                    held += picture.pixels.nbytes
                if held >= SHARD_BYTES:
                    store.keep(waiting)
                    waiting, held = [], 0
                if store.unkept:
                    return
                done += int(batch.seen)
                progress(done, len(rows))
    finally:
        store.keep(waiting)


class _ToKeep(Dataset[tuple[int, Prepared | None] | ImgkitError]):
    """Pictures by row; None of one whose file is not what the index says."""

    def __init__(self, index: Index, rule: Rule, max_pixels: int) -> None:
        self.index = index
        self.rule = rule
        self.max_pixels = max_pixels

    def __getitem__(self, row: int) -> tuple[int, Prepared | None] | ImgkitError:
        reading(row)
        path = self.index.path(row)
        try:
            picture = prepare(path, self.rule, self.max_pixels)
        except ImgkitError as error:
            return error
        with opened(path) as file:  # read after the picture: one that changed before is found out
            same = hashlib.file_digest(file, "sha256").digest() == self.index.hashes[row].tobytes()
        return row, picture if same and picture.pixels.nbytes <= MAX_BYTES else None


class _Batch(NamedTuple):
    """Prepared pictures on their way from a loader process."""

    pixels: torch.Tensor  # uint8 (N,), one picture after the other
    shapes: torch.Tensor  # int64 (k, 6): row; height, width, channels; width and height before it was shrunk
    seen: torch.Tensor  # int64 (): rows that were looked at


def _collate(samples: Sequence[tuple[int, Prepared | None] | ImgkitError]) -> _Batch | ImgkitError:
    pixels, shapes = [torch.empty(0, dtype=torch.uint8)], []
    for sample in samples:
        if isinstance(sample, ImgkitError):
            return sample
        row, picture = sample
        if picture is not None:
            pixels.append(torch.from_numpy(np.array(picture.pixels)).reshape(-1))  # a copy: Pillow's cannot be written
            shapes.append([row, *picture.pixels.shape, *picture.size])
    return shared(
        _Batch(
            torch.cat(pixels),
            torch.tensor(shapes, dtype=torch.int64).reshape(-1, 6),
            torch.tensor(len(samples)),
        )
    )


def _apart(batch: _Batch, index: Index) -> list[tuple[bytes, Prepared]]:
    """The pictures of a batch, with the SHA-256 of their files."""
    found, start = [], 0
    for row, *shape, width, height in batch.shapes.tolist():
        stop = start + int(np.prod(shape))
        pixels = batch.pixels[start:stop].numpy().reshape(shape)
        found.append((index.hashes[row].tobytes(), Prepared(pixels, (width, height))))
        start = stop
    return found
