"""What the scan learned about files: 52 bytes a file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from imgkit.data.spill import zeros
from imgkit.errors import BadImage

_GRAY_MODES = frozenset({"1", "L", "LA", "La", "F"})  # and I;16 in its byte orders


class FileFacts(NamedTuple):
    """What the scan learned about one good file."""

    size: int  # bytes
    sha256: str  # hex, of the bytes
    format: str
    mode: str
    width: int  # as stored
    height: int
    rotated: bool  # by EXIF


class Facts(Sequence[FileFacts | None]):
    """Facts of n files; None: the file is bad, as all are at first.

    Attributes:
        good: whether a file can be used, bool (n,); the columns below count only where it can.
        sizes: bytes, int64 (n,).
        hashes: SHA-256, uint8 (n, 32).
        widths: as stored, int32 (n,).
        heights: likewise.
        rotated: by EXIF, bool (n,).
    """

    def __init__(self, n: int) -> None:
        self.good = np.zeros(n, dtype=np.bool_)
        self.sizes = zeros(n, np.int64)
        self.hashes = zeros((n, 32), np.uint8)
        self.widths, self.heights = zeros(n, np.int32), zeros(n, np.int32)
        self.rotated = np.zeros(n, dtype=np.bool_)
        self._kinds = np.zeros(n, dtype=np.int16)
        self._kind_of: dict[tuple[str, str], int] = {}  # (format, mode) -> position, as they come

    def put(self, row: int, fact: FileFacts) -> None:
        """Set the facts of a file."""
        self.good[row] = True
        self.sizes[row] = fact.size
        self.hashes[row] = np.frombuffer(bytes.fromhex(fact.sha256), dtype=np.uint8)
        self.widths[row], self.heights[row] = fact.width, fact.height
        self.rotated[row] = fact.rotated
        self._kinds[row] = self._kind_of.setdefault((fact.format, fact.mode), len(self._kind_of))

    def select(self, rows: npt.NDArray[np.int64]) -> "Facts":
        """Those of some files, in that order."""
        chosen = Facts(0)
        for name, column in vars(self).items():
            setattr(chosen, name, column if isinstance(column, dict) else column[rows])
        return chosen

    def __len__(self) -> int:
        return len(self.good)

    @overload
    def __getitem__(self, row: int) -> FileFacts | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[FileFacts | None]: ...
    def __getitem__(self, row: int | slice) -> FileFacts | list[FileFacts | None] | None:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        at = range(len(self))[row]
        if not self.good[at]:
            return None
        kind, mode = list(self._kind_of)[self._kinds[at]]
        return FileFacts(
            int(self.sizes[at]),
            self.hashes[at].tobytes().hex(),
            kind,
            mode,
            int(self.widths[at]),
            int(self.heights[at]),
            bool(self.rotated[at]),
        )

    def __iter__(self) -> Iterator[FileFacts | None]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Facts | tuple) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # facts are put in later

    def modes(self) -> list[str]:
        """Pillow's mode of each file, as stored; "" where it is bad."""
        names = [mode for _, mode in self._kind_of]
        return [
            names[kind] if good else "" for kind, good in zip(self._kinds.tolist(), self.good.tolist(), strict=True)
        ]

    def kinds(self) -> list[tuple[tuple[str, str], int]]:
        """((format, mode), good files), in the order in which they came."""
        files = np.bincount(self._kinds[self.good], minlength=len(self._kind_of)).tolist()
        return [(kind, n) for kind, n in zip(self._kind_of, files, strict=True) if n]


@dataclass(frozen=True, eq=False)
class ScanReport:
    """The scan of n files, in their order."""

    facts: Facts  # (n,)
    bad: tuple[BadImage, ...]

    @property
    def good(self) -> Facts:
        """Facts of the files that can be used."""
        return self.facts if self.facts.good.all() else self.facts.select(np.flatnonzero(self.facts.good))

    @property
    def formats(self) -> Mapping[str, int]:
        """Files per format, most frequent first."""
        files = Counter[str]()
        for (name, _), n in self.facts.kinds():
            files[name] += n
        return dict(files.most_common())

    @property
    def rotated(self) -> int:
        """Files that EXIF rotates or flips."""
        return int(self.facts.rotated.sum())

    @property
    def gray(self) -> int:
        """Files stored with one grey channel."""
        return sum(n for (_, mode), n in self.facts.kinds() if mode in _GRAY_MODES or mode.startswith("I;16"))

    @property
    def largest(self) -> tuple[int, int] | None:
        """(width, height) of the file with the most pixels."""
        if not self.facts.good.any():
            return None
        row = int(np.argmax(self.facts.widths.astype(np.int64) * self.facts.heights))
        return int(self.facts.widths[row]), int(self.facts.heights[row])

    @property
    def median_size(self) -> tuple[int, int] | None:
        """Median width and median height."""
        if not self.facts.good.any():
            return None
        width, height = (float(np.median(side[self.facts.good])) for side in (self.facts.widths, self.facts.heights))
        return round(width), round(height)

    @property
    def duplicates(self) -> tuple[tuple[int, ...], ...]:
        """Positions of files with the same bytes, one tuple of two or more per content."""
        rows = np.flatnonzero(self.facts.good)
        return tuple(tuple(rows[list(same)].tolist()) for same in find_duplicates(self.facts.hashes[rows]))


def find_duplicates(hashes: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], ...]:
    """Positions of equal hashes, one tuple of two or more per hash, in the order of the first ones.

    Args:
        hashes: SHA-256, (n, 32).
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)  # (n, 4)
    _, content, copies = np.unique(words[:, 0], return_inverse=True, return_counts=True)
    likely = np.flatnonzero(copies[content] > 1)
    order = likely[np.lexsort(words[likely].T)]  # stable: positions of one hash ascend
    same = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    # where runs of equal neighbours begin in `order`, and their last ones
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    groups = [tuple(order[start : stop + 1].tolist()) for start, stop in edges.reshape(-1, 2).tolist()]
    return tuple(sorted(groups))
