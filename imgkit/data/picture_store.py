"""Prepared pictures on disk, found by the content of their files.

    $IMGKIT_CACHE/pictures/RULE/NAME.safetensors     some pictures; NAME is the hash of what the file says of them

RULE names how they were prepared, with which code and decoders. A shard is written whole and never changed, so that any
number of runs may read and write at once and a kill costs the pictures that were not written yet. It is mapped into
memory; a picture whose checksum is wrong is not used, and its shard is removed.
"""

import os
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imgkit.cache import content_name, limit_bytes, make_room, store_folder
from imgkit.data.prepared import MAX_BYTES, Prepared
from imgkit.files import replace_bytes, sweep

Hashes = npt.NDArray[np.uint8]
SHARD_BYTES = 64 << 20
"""What a shard holds before it is written."""
_HASH_BYTES = 32
_TELL_S = 3600  # how often a store that is read says so, for `make_room`, which goes by days
_OPEN = 256  # shards mapped at once by a process


class _Table(NamedTuple):
    """What shards say of their pictures, one a row."""

    hashes: Hashes  # (n, 32) SHA-256 of each picture's file
    shapes: npt.NDArray[np.int64]  # (n, 5) height, width and channels; width and height before it was shrunk
    starts: npt.NDArray[np.int64]  # (n,) of its pixels among the shard's
    checks: npt.NDArray[np.uint32]  # (n,) CRC-32 of its pixels


class PictureStore:
    """The pictures of one rule, as they are on disk when it is opened.

    Attributes:
        folder: where they are.
        unkept: why new ones are not kept, in words; empty while they are.

    Args:
        about: all that they have in common, as JSON; with another value it is another store.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.folder = store_folder("pictures", about)
        self.unkept = ""
        self._files: list[tuple[Path, int]] = []  # and when written: one that is made anew has its old name
        tables: list[_Table] = []
        with suppress(OSError):
            sweep(self.folder)
            for file in sorted(self.folder.glob("*.safetensors")):
                if (table := _table_of(file)) is not None:
                    self._files.append((file, file.stat().st_mtime_ns))
                    tables.append(table)
            os.utime(self.folder)  # `make_room` removes what was not used for longest
        self._told = time.monotonic()
        self._shard = np.repeat(np.arange(len(tables)), [len(table.starts) for table in tables])
        table = _Table(*(np.concatenate(column) for column in zip(_nothing(), *tables, strict=True)))
        # Eight bytes of a hash find a picture, all 32 confirm it: a dict of a million would be copied into each worker.
        self._order = np.argsort(_short(table.hashes), kind="stable")
        self._keys = _short(table.hashes)[self._order]
        self._table = table
        self._checked = np.zeros(len(self._keys), dtype=np.bool_)
        self._gone: set[int] = set()  # shards that are damaged, or removed meanwhile

    def __len__(self) -> int:
        return len(self._keys)

    def holds(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the files with these SHA-256, (n, 32), have a picture here, (n,)."""
        if not len(self):
            return np.zeros(len(hashes), dtype=np.bool_)
        places = np.searchsorted(self._keys, _short(hashes)).clip(max=len(self) - 1)
        found: npt.NDArray[np.bool_] = (self._table.hashes[self._order[places]] == hashes).all(axis=1)
        return found

    def get(self, digest: Hashes) -> Prepared | None:
        """The picture of a file by its SHA-256, (32,); None where it is not here, or damaged."""
        row = self._find(digest)
        if row is None:
            return None
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            with suppress(OSError):
                os.utime(self.folder)
        shard = int(self._shard[row])
        height, width, channels, *size = self._table.shapes[row].tolist()
        start, length = int(self._table.starts[row]), height * width * channels
        try:
            pixels = _pixels_of(*self._files[shard])[start : start + length]
        except (OSError, SafetensorError):
            self._gone.add(shard)
            return None
        if not self._checked[row]:
            if len(pixels) != length or zlib.crc32(pixels) != self._table.checks[row]:
                self._gone.add(shard)
                with suppress(OSError):
                    self._files[shard][0].unlink()
                return None
            self._checked[row] = True
        return Prepared(pixels.reshape(height, width, channels), (size[0], size[1]))

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more may be kept, for which older stores may go; else `unkept` says why not.

        Raises:
            UsageError: if the limit of the cache is no size.
        """
        self.unkept = self.unkept or make_room(self.folder, size, limit_bytes())
        return not self.unkept

    def keep(self, pictures: Sequence[tuple[bytes, Prepared]]) -> None:
        """Write pictures, with the SHA-256 of their files, as one shard. A disk that says no is no error: see `unkept`.

        They are found by the stores that are opened later.
        """
        content = _shard_of([(digest, picture) for digest, picture in pictures if picture.pixels.nbytes <= MAX_BYTES])
        if content is None or not self.has_room(len(content.data)):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_bytes(self.folder / f"{content.name}.safetensors", content.data)
        except OSError as error:
            self.unkept = f"{self.folder}: {error.strerror or error}"

    def _find(self, digest: Hashes) -> int | None:
        place = int(np.searchsorted(self._keys, _short(digest[None])[0]))
        while place < len(self._keys) and self._keys[place] == _short(digest[None])[0]:
            row = int(self._order[place])
            if int(self._shard[row]) not in self._gone and np.array_equal(self._table.hashes[row], digest):
                return row
            place += 1
        return None


class _Shard(NamedTuple):
    name: str
    data: bytes


def _shard_of(pictures: Sequence[tuple[bytes, Prepared]]) -> _Shard | None:
    """A shard's name and content; None of no pictures."""
    if not pictures:
        return None
    pixels = [np.ascontiguousarray(picture.pixels).reshape(-1) for _, picture in pictures]
    table = _Table(
        np.frombuffer(b"".join(digest for digest, _ in pictures), np.uint8).reshape(-1, _HASH_BYTES),
        np.array([(*picture.pixels.shape, *picture.size) for _, picture in pictures], dtype=np.int64),
        np.cumsum([0, *map(len, pixels[:-1])], dtype=np.int64),
        np.array([zlib.crc32(one.data) for one in pixels], dtype=np.uint32),
    )
    return _Shard(_name_of(table), save({**table._asdict(), "pixels": np.concatenate(pixels)}))


def _name_of(table: _Table) -> str:
    return content_name(b"".join(np.ascontiguousarray(column).tobytes() for column in table))


def _table_of(file: Path) -> _Table | None:
    """What a shard says of its pictures; None of one that is damaged there, which is removed."""
    try:
        with safe_open(file, "np") as shard:
            table = _Table(*(shard.get_tensor(name) for name in _Table._fields))
        if _name_of(table) == file.stem:
            return table
    except OSError:
        return None
    except SafetensorError:
        pass
    with suppress(OSError):
        file.unlink()
    return None


@lru_cache(maxsize=_OPEN)
def _pixels_of(file: Path, written_ns: int) -> Any:  # noqa: ANN401  (safetensors has no name for its slices)
    """The pixels of a shard as it was written then, uint8 (N,), mapped: a slice is read from the disk and copied."""
    return safe_open(file, "np").get_slice("pixels")  # type: ignore[no-untyped-call]


def _nothing() -> _Table:
    """The table of no shard."""
    wide, none = np.zeros((0, 5), np.int64), np.zeros(0, np.int64)
    return _Table(np.zeros((0, _HASH_BYTES), np.uint8), wide, none, none.astype(np.uint32))


def _short(hashes: Hashes) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of hashes (n, 32), as numbers (n,)."""
    short: npt.NDArray[np.uint64] = np.ascontiguousarray(hashes[:, :8]).view(np.uint64)[:, 0]
    return short
