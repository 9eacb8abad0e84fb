"""Paths of pictures inside larger files, as numbers: 32 bytes and a name for each, in memory or mapped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.data.byte_range import DIGITS, MARK
from imgkit.data.paths import Ints, PathTable

_CHUNK = 4096  # paths that are objects at a time


@dataclass(frozen=True, eq=False)
class RangePaths(PathTable):
    """Paths in the form of `byte_range`, put together when they are asked for."""

    files: Sequence[bytes]  # relative to the root, POSIX
    file: npt.NDArray[np.int32]  # (n,) positions in `files`
    starts: Ints  # (n,) offset of each picture in its file, bytes
    sizes: Ints  # (n,) bytes
    names: npt.NDArray[np.uint8]  # the bytes of all names
    name_starts: Ints  # (n,) where a row's name begins in `names`
    name_sizes: npt.NDArray[np.int32]  # (n,) bytes

    def __len__(self) -> int:
        return len(self.file)

    def _encoded(self, row: int) -> bytes:
        return next(self.part(row, row + 1).encoded())

    def encoded(self) -> Iterator[bytes]:
        """Each path as its bytes."""
        for first in range(0, len(self), _CHUNK):
            part = slice(first, first + _CHUNK)
            columns = (self.file, self.starts, self.sizes, self.name_starts, self.name_sizes)
            for file, start, size, at, length in zip(*(column[part].tolist() for column in columns), strict=True):
                text = f"{MARK}{start:0{DIGITS}d}+{size}/".encode()
                yield self.files[file] + text + self.names[at : at + length].tobytes()

    def part(self, start: int, stop: int) -> "RangePaths":
        """The paths of rows `start` to `stop`, in the same memory."""
        return self._rows(slice(start, stop))

    def select(self, rows: npt.ArrayLike) -> "RangePaths":
        """The paths of `rows`, in that order."""
        return self._rows(np.asarray(rows, dtype=np.int64))

    def _rows(self, rows: slice | Ints) -> "RangePaths":
        return RangePaths(
            self.files,
            self.file[rows],
            self.starts[rows],
            self.sizes[rows],
            self.names,
            self.name_starts[rows],
            self.name_sizes[rows],
        )
