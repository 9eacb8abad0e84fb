"""The index: one table of where the pictures are, their labels, splits and groups."""

import csv
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, pairwise, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.cells import bare, guarded
from imgkit.data.csv_text import INDEXED
from imgkit.data.paths import GrowingPaths, PathTable
from imgkit.errors import DataError, disk_told, printable
from imgkit.recipe.fields import Task

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
SPLITS = ("train", "val", "test")
WEIGHT = "weight"
"""The further column of a table with weights."""
_HASH_BYTES = 32
_CHUNK = 4096  # rows that are objects at a time


@dataclass(frozen=True, eq=False)
class Index:
    """A data set as a table of n rows. Labels are positions in `classes`.

    In a single-label task a row has one label, or none where it is unlabelled. In a multi-label task it has a set of
    labels, which may be empty.
    """

    root: Path
    paths: PathTable  # POSIX, relative to root where inside it
    classes: tuple[str, ...]  # sorted by plain string order, from train
    codes: Ints  # labels of row i are codes[offsets[i]:offsets[i + 1]], ascending
    offsets: Ints  # (n + 1,)
    splits: npt.NDArray[np.int8]  # (n,) positions in SPLITS
    groups: Ints | None  # (n,)
    sizes: Ints  # (n,) bytes
    hashes: npt.NDArray[np.uint8]  # (n, 32) SHA-256 of each file
    task: Task = "single"
    weights: Weights | None = None  # (n,), finite, 0 or more: how often to draw a row, relative to the others

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / self.paths[row]

    def labels(self) -> Ints:
        """The one label of each row, int64 (n,); -1 where unlabelled."""
        counts = np.diff(self.offsets)
        assert counts.max(initial=0) <= 1, "rows with several labels have no single code"
        labels = np.full(len(self), -1, dtype=np.int64)
        labels[counts == 1] = self.codes[self.offsets[:-1][counts == 1]]
        return labels

    def multi_hot(self) -> Floats:
        """1 for each label of a row and 0 elsewhere, float32 (n, K)."""
        hot = np.zeros((len(self), len(self.classes)), dtype=np.float32)
        hot[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.codes] = 1.0
        return hot

    def targets(self) -> Ints | Floats:
        """What a loss and a metric compare with: `labels()`, or `multi_hot()` in a multi-label task."""
        return self.labels() if self.task == "single" else self.multi_hot()

    def target(self, row: int) -> Ints | Floats:
        """That of one row: int64 (), or float32 (K,)."""
        codes = self.codes[self.offsets[row] : self.offsets[row + 1]]
        if self.task == "single":
            assert len(codes) <= 1, "rows with several labels have no single code"
            return np.array(codes[0] if len(codes) else -1, dtype=np.int64)
        hot = np.zeros(len(self.classes), dtype=np.float32)
        hot[codes] = 1.0
        return hot

    def label_sets(self) -> list[tuple[int, ...]]:
        """The codes of each row."""
        codes, ends = self.codes.tolist(), self.offsets.tolist()
        return [tuple(codes[start:stop]) for start, stop in pairwise(ends)]

    def rows(self, split: str) -> Ints:
        """Row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split)).astype(np.int64)

    def counts(self, split: str) -> Ints:
        """Images of a split per class, int64 (K,); in a multi-label task an image counts for each of its labels."""
        labelled = np.repeat(self.splits, np.diff(self.offsets)) == SPLITS.index(split)
        return np.bincount(self.codes[labelled], minlength=len(self.classes)).astype(np.int64)

    def unlabelled(self, split: str) -> Ints:
        """The rows of a split without a label, ascending."""
        none: Ints = np.flatnonzero((self.splits == SPLITS.index(split)) & (np.diff(self.offsets) == 0))
        return none.astype(np.int64)

    def few(self, n: int) -> "Index":
        """The first images of each class of each split, and of those without a label: n over the classes, or one."""
        each = max(1, n // len(self.classes))
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        kept = [self.unlabelled(split)[:each] for split in SPLITS]
        for code in range(len(self.classes)):
            rows = owners[self.codes == code]
            kept += [rows[self.splits[rows] == split][:each] for split in range(len(SPLITS))]
        return self.select(np.unique(np.concatenate(kept)))

    def select(self, rows: npt.ArrayLike) -> "Index":
        """The table of `rows`, in that order, with the same class map."""
        chosen = np.asarray(rows, dtype=np.int64)
        counts = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # position within the row + start of the row, for each label of each chosen row
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return Index(
            root=self.root,
            paths=self.paths.select(chosen),
            classes=self.classes,
            codes=self.codes[np.repeat(self.offsets[:-1][chosen], counts) + within],
            offsets=offsets,
            splits=self.splits[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            sizes=self.sizes[chosen],
            hashes=self.hashes[chosen],
            task=self.task,
            weights=None if self.weights is None else self.weights[chosen],
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (path, size, content, label names, split): the same data wherever they lie.

        The same table as the data of a multi-label task has another one.
        Weights are part of it where there are any.
        """
        lines: Iterable[bytes] = (
            "\0".join((path, str(size), digest, names, split, *weight)).encode("utf-8", "surrogateescape")
            for path, names, split, _, size, digest, *weight in self._cells()
        )
        if not all(one < two for one, two in pairwise(self.paths.encoded())):  # else the lines are in order, too
            lines = sorted(lines)
        hashed, between = hashlib.sha256(), b""
        for line in chain(lines, [] if self.task == "single" else [self.task.encode()]):
            hashed.update(between)
            hashed.update(line)
            between = b"\0\n"
        return hashed.hexdigest()

    def write_csv(self, file: Path) -> None:
        """Write the table: path,label,split,group,size,sha256, and weight where there are weights.

        Several labels of a row are lines of one cell. A cell that a spreadsheet would run as a formula gets a leading
        apostrophe, which `read_csv` takes away.

        Raises:
            DiskError: if the file cannot be written.
        """
        with disk_told(file), file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
            writer = csv.writer(handle)  # ends lines with CR LF, so that both are quoted in cells
            writer.writerow(INDEXED if self.weights is None else (*INDEXED, WEIGHT))
            for path, names, *rest in self._cells():
                writer.writerow((guarded(path), guarded(names), *rest))

    @staticmethod
    def read_csv(file: Path, root: Path, classes: Sequence[str], task: Task) -> "Index":
        """Read what `write_csv` wrote.

        Raises:
            DataError: if the file is missing or is not such a table, or a label is not in `classes`, or a row of a
                single-label task has several.
        """
        try:
            with file.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
                lines = csv.reader(handle, strict=True)
                header = next(lines, [])
                if tuple(header) not in (INDEXED, (*INDEXED, WEIGHT)):
                    raise ValueError(f"columns {header}")
                return _parse(lines, len(header), root, tuple(classes), task)
        except (OSError, ValueError, KeyError, csv.Error) as error:
            hint = "It belongs to a run and is not to be edited: put it back, or train anew."
            raise DataError(f"{printable(str(file))} is not an index written by imgkit ({error}).", hint) from error

    def _cells(self) -> Iterator[tuple[str, str, str, str, int, str, *tuple[str, ...]]]:
        paths = iter(self.paths)
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            ends = self.offsets[start : start + _CHUNK + 1].tolist()
            codes = self.codes[ends[0] : ends[-1]].tolist()
            columns = zip(
                islice(paths, len(ends) - 1),
                (codes[one - ends[0] : two - ends[0]] for one, two in pairwise(ends)),
                self.splits[part].tolist(),
                repeat("", len(ends) - 1) if self.groups is None else map(str, self.groups[part].tolist()),
                self.sizes[part].tolist(),
                map(bytes, self.hashes[part]),
                # repr reads back to the same number
                repeat((), len(ends) - 1) if self.weights is None else zip(map(repr, self.weights[part].tolist())),
                strict=True,
            )
            for path, labels, split, group, size, digest, weight in columns:
                yield (
                    path,
                    "\n".join(self.classes[code] for code in labels),
                    SPLITS[split],
                    group,
                    size,
                    digest.hex(),
                    *weight,
                )


def hash_array(digests: Iterable[str]) -> npt.NDArray[np.uint8]:
    """SHA-256 in hex as rows of an array (n, 32).

    Raises:
        ValueError: if one is no such text.
    """
    rows = [bytes.fromhex(digest) for digest in digests]
    if any(len(row) != _HASH_BYTES for row in rows):
        raise ValueError("a SHA-256 of another length")
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), _HASH_BYTES)


def _parse(lines: Iterable[list[str]], width: int, root: Path, classes: tuple[str, ...], task: Task) -> Index:
    code_of = {name: code for code, name in enumerate(classes)}
    split_of = {name: code for code, name in enumerate(SPLITS)}
    paths, hashes = GrowingPaths(), bytearray()
    codes, offsets, splits, sizes = array("q"), array("q", [0]), array("b"), array("q")
    groups, weights = array("q"), array("d")
    for line in lines:
        if len(line) != width:
            raise ValueError(f"a row of {len(line)} cells")
        path, names, split, group, size, digest, *weight = line
        codes.extend(code_of[name] for name in bare(names).split("\n") if name)
        offsets.append(len(codes))
        if task == "single" and offsets[-1] - offsets[-2] > 1:
            raise ValueError(f"{path!r} has several labels")
        if path.startswith("/") or ".." in path.split("/"):  # imgkit writes none such: somebody else has
            raise ValueError(f"{path!r} leads out of the data")
        paths.append(bare(path))
        splits.append(split_of[split])
        sizes.append(int(size))
        hashes += hash_array([digest]).tobytes()
        weights.extend(map(float, weight))
        if group or groups:
            if len(groups) < len(splits) - 1:
                raise ValueError(f"{path!r} has a group, and others have none")
            groups.append(int(group))
    return Index(
        root=root,
        paths=paths.table(),
        classes=classes,
        codes=np.array(codes, dtype=np.int64),
        offsets=np.array(offsets, dtype=np.int64),
        splits=np.array(splits, dtype=np.int8),
        groups=np.array(groups, dtype=np.int64) if groups else None,
        sizes=np.array(sizes, dtype=np.int64),
        hashes=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, _HASH_BYTES),
        task=task,
        weights=np.array(weights, dtype=np.float64) if width > len(INDEXED) else None,
    )
