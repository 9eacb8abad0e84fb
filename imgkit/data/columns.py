"""Rows, column by column: a million pictures without an object for each."""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from imgkit.data.index import SPLITS
from imgkit.data.paths import GrowingPaths, Ints, PathTable
from imgkit.data.rows import Row

_UNSAID = -1  # no split, no group
Mask = npt.NDArray[np.bool_]


class Rows(Sequence[Row]):
    """Rows that are appended to and read like a list; each `Row` is made when it is asked for."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._paths = GrowingPaths()
        self._labels, self._groups = _Names(), _Names()
        # Arrays that grow; numpy's where all rows were there at once, see `of`
        self._codes: Any = array("i")
        self._ends: Any = array("q", [0])  # labels of row i: codes[ends[i]:ends[i + 1]]
        self._splits: Any = array("b")
        self._group_of: Any = array("i")
        self._weights: Any = array("d")  # NaN: none
        self.extend(rows)

    @classmethod
    def of(
        cls,
        paths: PathTable,
        codes: npt.NDArray[np.int32],
        offsets: Ints,
        labels: Sequence[str],
        splits: npt.NDArray[np.int8],
        groups: tuple[npt.NDArray[np.int32], Sequence[str]] | None = None,
    ) -> "Rows":
        """The rows of whole columns, to which none is added.

        Args:
            paths: n of them.
            codes: labels of all rows, one after another, as positions in `labels`.
            offsets: where the labels of each row begin, and the last one's end, (n + 1,).
            labels: names, each once.
            splits: positions in SPLITS, (n,); -1 where it is not said.
            groups: positions (n,), -1 for none, in the names that come with them.
        """
        found = cls()
        found._paths.extend(paths)
        found._labels, found._groups = _Names(labels), _Names(() if groups is None else groups[1])
        found._codes, found._ends, found._splits = codes, offsets, splits
        found._group_of = np.broadcast_to(np.int32(_UNSAID), len(paths)) if groups is None else groups[0]
        found._weights = np.broadcast_to(np.nan, len(paths))
        return found

    def __len__(self) -> int:
        return len(self._splits)

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> list[Row]: ...
    def __getitem__(self, row: int | slice) -> Row | list[Row]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        at = range(len(self))[row]
        codes = self._codes[self._ends[at] : self._ends[at + 1]]
        split, group, weight = self._splits[at], self._group_of[at], self._weights[at]
        return Row(
            self.paths[at],
            tuple(self._labels.names[code] for code in codes),
            None if split == _UNSAID else SPLITS[split],
            None if group == _UNSAID else self._groups.names[group],
            None if math.isnan(weight) else weight,
        )

    def __iter__(self) -> Iterator[Row]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def append(self, row: Row) -> None:
        """Add one row."""
        self._paths.append(row.path)
        self._codes.extend(map(self._labels.code, row.labels))
        self._ends.append(len(self._codes))
        self._splits.append(_UNSAID if row.split is None else SPLITS.index(row.split))
        self._group_of.append(_UNSAID if row.group is None else self._groups.code(row.group))
        self._weights.append(np.nan if row.weight is None else row.weight)

    def extend(self, rows: Iterable[Row]) -> None:
        """Add several rows."""
        for row in rows:
            self.append(row)

    def add_class(self, paths: PathTable, label: str, split: str | None) -> None:
        """Add the pictures of a class, in a split or where None is said."""
        n, first = len(paths), len(self._codes)
        self._paths.extend(paths)
        self._codes.extend(array("i", [self._labels.code(label)]) * n)
        self._ends.frombytes(np.arange(first + 1, first + n + 1, dtype=np.int64).tobytes())
        self._splits.extend(array("b", [_UNSAID if split is None else SPLITS.index(split)]) * n)
        self._group_of.extend(array("i", [_UNSAID]) * n)
        self._weights.extend(array("d", [np.nan]) * n)

    def sort(self) -> None:
        """Sort like a list of `Row`: by path, which are objects only where they are in disorder."""
        if not all(one < two for one, two in pairwise(self.paths)):
            self.__dict__.update(self.select(sorted(range(len(self)), key=self.__getitem__)).__dict__)

    def select(self, rows: npt.ArrayLike) -> "Rows":
        """The rows of these numbers, in that order."""
        chosen, found = np.asarray(rows, dtype=np.int64), Rows()
        found._paths.extend(self.paths.select(chosen))
        found._labels, found._groups = self._labels, self._groups
        counts = np.diff(self.offsets)[chosen]
        ends = np.cumsum(counts)
        # position within the row + start of the row, for each label of each chosen row
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        found._codes.frombytes(self.codes[np.repeat(self.offsets[:-1][chosen], counts) + within].tobytes())
        found._ends.frombytes(ends.astype(np.int64).tobytes())
        for mine, its in (
            (self._splits, found._splits),
            (self._group_of, found._group_of),
            (self._weights, found._weights),
        ):
            its.frombytes(np.asarray(mine)[chosen].tobytes())
        return found

    @property
    def paths(self) -> PathTable:
        """The path of each row."""
        return self._paths.table()

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """Labels of all rows, one after another, as positions in `labels`."""
        return _whole(self._codes, np.int32)

    @property
    def offsets(self) -> Ints:
        """Where the labels of each row begin, and the last one's end, (n + 1,)."""
        return _whole(self._ends, np.int64)

    @property
    def labels(self) -> Sequence[str]:
        """The names behind `codes`, in no order."""
        return self._labels.names

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """Positions in SPLITS, (n,); -1 where it is not said."""
        return np.array(self._splits, dtype=np.int8)

    @property
    def group_codes(self) -> Ints | None:
        """A number for each row, that of its group in the order of their names, (n,); None where there are none.

        A row without one, where others have one, is a group of its own, after them.
        """
        found: npt.NDArray[np.int32] = _whole(self._group_of, np.int32)
        if not len(self._groups.names):
            return None
        held = np.unique(found[found != _UNSAID]).tolist()
        if not held:
            return None
        code_of = np.full(len(self._groups.names), _UNSAID, dtype=np.int64)
        code_of[sorted(held, key=self._groups.names.__getitem__)] = np.arange(len(held))
        alone = found == _UNSAID
        return np.where(alone, len(held) - 1 + np.cumsum(alone), code_of[found])

    @property
    def weights(self) -> npt.NDArray[np.float64] | None:
        """How often to draw each row, (n,); None where there are none."""
        if isinstance(self._weights, np.ndarray) and self._weights.strides == (0,):
            return None  # of rows that have none, see `of`
        weights = _whole(self._weights, np.float64)
        return None if np.isnan(weights).all() else weights

    def held(self, among: Mask | None = None) -> set[str]:
        """The labels that rows have, or those rows that a mask (n,) chooses."""
        if among is not None and not among.any():
            return set()
        codes = self.codes
        if among is not None and not among.all():
            codes = codes[np.repeat(among, np.diff(self.offsets))]
        return {self.labels[code] for code in np.flatnonzero(np.bincount(codes)).tolist()}


def _whole(column: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:  # noqa: ANN401
    """A column of rows as an array: a copy of one that grows, and itself where it is an array."""
    return column if isinstance(column, np.ndarray) else np.array(column, dtype=dtype)


class _Names:
    """Names and their numbers, in the order in which they come."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self._codes = {name: code for code, name in enumerate(self.names)}

    def code(self, name: str) -> int:
        code = self._codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code
