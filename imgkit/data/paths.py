"""Paths in one buffer: a million of them without a million objects."""

import os
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_CHUNK = 4096  # paths that are objects at a time


class PathTable(ABC):
    """Paths without an object for each: a list of str would be copied into each loader worker, page by page.

    Names that are not UTF-8 keep their bytes (Python's surrogateescape).
    """

    @staticmethod
    def of(paths: Iterable[str]) -> "PathTable":
        """The table of `paths`, in their order."""
        growing = GrowingPaths()
        for path in paths:
            growing.append(path)
        return growing.table()

    @staticmethod
    def below(folder: str, names: Sequence[str]) -> "PathTable":
        """The table of `folder` + name for each of `names`: at least one, without slashes; the folder ends with one."""
        start = folder.encode("utf-8", "surrogateescape")
        text = "/".join(names).encode("utf-8", "surrogateescape")
        offsets = np.zeros(len(names) + 1, dtype=np.int64)
        offsets[1:-1] = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("/"))
        offsets[-1] = len(text)
        offsets[1:] += len(start) + (len(start) - 1) * np.arange(len(names))  # in place of the slashes between
        return TextPaths(start + text.replace(b"/", start), offsets)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _encoded(self, row: int) -> bytes:
        """The path of a row, which there is, as its bytes."""

    @abstractmethod
    def encoded(self) -> Iterator[bytes]:
        """Each path as its bytes."""

    @abstractmethod
    def part(self, start: int, stop: int) -> "PathTable":
        """The paths of rows `start` to `stop`, in the same memory."""

    @abstractmethod
    def select(self, rows: npt.ArrayLike) -> "PathTable":
        """The paths of `rows`, in that order."""

    def text(self) -> "TextPaths":
        """The same paths in one buffer."""
        table = PathTable.of(self)
        assert isinstance(table, TextPaths)
        return table

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._encoded(row).decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (path.decode("utf-8", "surrogateescape") for path in self.encoded())


@dataclass(frozen=True, eq=False)
class TextPaths(PathTable):
    """Paths in one buffer."""

    buffer: bytes
    offsets: Ints  # (n + 1,), of a part not from 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _encoded(self, row: int) -> bytes:
        return self.buffer[self.offsets[row] : self.offsets[row + 1]]

    def encoded(self) -> Iterator[bytes]:
        """Each path as its bytes."""
        for start in range(0, len(self), _CHUNK):
            ends = self.offsets[start : start + _CHUNK + 1].tolist()
            yield from map(self.buffer.__getitem__, map(slice, ends, ends[1:]))

    def part(self, start: int, stop: int) -> "TextPaths":
        """The paths of rows `start` to `stop`, in the same buffer."""
        return TextPaths(self.buffer, self.offsets[start : stop + 1])

    def select(self, rows: npt.ArrayLike) -> "TextPaths":
        """The paths of `rows`, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        starts, stops = self.offsets[:-1][chosen], self.offsets[1:][chosen]
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(stops - starts, out=offsets[1:])
        buffer = bytearray()
        for first in range(0, len(chosen), _CHUNK):
            ends = (starts[first : first + _CHUNK].tolist(), stops[first : first + _CHUNK].tolist())
            buffer += b"".join(map(self.buffer.__getitem__, map(slice, *ends)))
        return TextPaths(bytes(buffer), offsets)

    def text(self) -> "TextPaths":
        """Itself."""
        return self


class GrowingPaths:
    """Paths that are still being found."""

    def __init__(self) -> None:
        self._parts: list[PathTable] = []
        self._buffer, self._ends = bytearray(), array("q", [0])  # of what comes after these

    def append(self, path: str) -> None:
        """Add one."""
        self._buffer += path.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._buffer))

    def extend(self, paths: PathTable) -> None:
        """Add those of a table."""
        self._settle()
        self._parts.append(paths)

    def table(self) -> PathTable:
        """All of them by now; the same table until others come."""
        self._settle()
        if len(self._parts) != 1:
            self._parts = [_joined([part.text() for part in self._parts])]
        return self._parts[0]

    def _settle(self) -> None:
        if len(self._ends) > 1:
            self._parts.append(TextPaths(bytes(self._buffer), np.array(self._ends, dtype=np.int64)))
            self._buffer, self._ends = bytearray(), array("q", [0])


def _joined(parts: Sequence[TextPaths]) -> TextPaths:
    """One table; with the buffer of the parts where they follow each other in one."""
    starts, stops = [part.offsets[0] for part in parts], [part.offsets[-1] for part in parts]
    buffers = {id(part.buffer) for part in parts}
    if len(buffers) == 1 and starts[1:] == stops[:-1]:
        return TextPaths(parts[0].buffer, np.concatenate([starts[:1], *(part.offsets[1:] for part in parts)]))
    before = np.cumsum([0, *(stop - start for start, stop in zip(starts, stops, strict=True))], dtype=np.int64)
    moves = [now - start for now, start in zip(before, starts, strict=False)]
    offsets = [part.offsets[1:] + move for part, move in zip(parts, moves, strict=True)]
    buffer = b"".join(memoryview(part.buffer)[part.offsets[0] : part.offsets[-1]] for part in parts)
    return TextPaths(buffer, np.concatenate([np.zeros(1, dtype=np.int64), *offsets]))


def merged(blocks: Mapping[str, PathTable]) -> PathTable:
    """All paths in order, of the sorted paths that lie directly in each folder, by its name with a slash."""
    found = GrowingPaths()
    open_blocks: list[tuple[str, PathTable, int]] = []  # the folders around the next one, and how much of each is found
    for start in [*sorted(blocks), None]:
        while open_blocks and (start is None or not start.startswith(open_blocks[-1][0])):
            _, block, done = open_blocks.pop()
            found.extend(block.part(done, len(block)))
        if start is not None:
            if open_blocks:
                around, block, done = open_blocks.pop()
                cut = bisect_left(block, start, done)
                found.extend(block.part(done, cut))
                open_blocks.append((around, block, cut))
            open_blocks.append((start, blocks[start], 0))
    return found.table()


@dataclass(frozen=True, eq=False)
class Files(Collection[str]):
    """Where the files of a table are, as text, made when it is asked for."""

    root: Path
    paths: PathTable

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str]:
        root = str(self.root)
        return (os.path.join(root, path) for path in self.paths)  # noqa: PTH118  # a Path takes ten times as long

    def __contains__(self, file: object) -> bool:
        return any(file == one for one in self)
