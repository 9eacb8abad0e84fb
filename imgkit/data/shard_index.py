"""The index of shards: a Parquet file of where each picture is and what is said of it; needs pyarrow.

Columns: `shard` (a position in the list of shards), `offset` and `size` (bytes), `name`, `labels` (positions in the
list of labels), `split` (a position in train, val, test; -1: not said) and `group` (a position; -1: none). The lists
stand in the file's metadata under `imgkit`, as JSON: `shards` (name, size, and what changes with it), `labels` (names,
or numbers of classes.txt), `groups`. It is written and read in parts, without an object for a row.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.data.index import SPLITS
from imgkit.data.paths import Ints
from imgkit.data.range_paths import RangePaths
from imgkit.data.samples import Label, Sample, is_text
from imgkit.data.spill import zeros
from imgkit.errors import DataError, UsageError, brief, printable

if TYPE_CHECKING:
    import pyarrow

NAME = "index.parquet"
_KEY, _VERSION = b"imgkit", 1
_TOGETHER = 1 << 16  # rows that are objects, or a batch, at a time
_A_GROUP = 1 << 20  # rows of a row group, at least but for the last: the metadata of each stay in memory
Ints32 = npt.NDArray[np.int32]


class Shard(NamedTuple):
    """A shard as the index knows it."""

    name: str  # relative to the root, POSIX
    size: int  # bytes
    stamp: int | None = None  # changes when it is written; None: packed by imgkit, and perhaps copied since


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Pictures in shards, column by column."""

    shards: tuple[Shard, ...]
    paths: RangePaths  # (n,)
    codes: Ints32  # labels of all rows, one after another, as positions in `labels`
    offsets: Ints  # (n + 1,) where those of each row begin
    labels: tuple[Label, ...]
    splits: npt.NDArray[np.int8]  # (n,) positions in SPLITS; -1: not said
    groups: tuple[Ints32, tuple[str, ...]] | None  # (n,), -1: none, and names
    several: bool  # any number of labels a picture


def arrow(shown: str) -> Any:  # noqa: ANN401
    """The module pyarrow.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"{shown} needs pyarrow, which is not installed.", 'Type:  pip install "imgkit-timm[parquet]"'
        ) from error
    return pyarrow


def _schema(pa: Any) -> "pyarrow.Schema":  # noqa: ANN401
    return pa.schema(
        {
            "shard": pa.int32(),
            "offset": pa.int64(),
            "size": pa.int64(),
            "name": pa.binary(),
            "labels": pa.list_(pa.int32()),
            "split": pa.int8(),
            "group": pa.int32(),
        }
    )


class IndexWriter:
    """An index that is being written.

    Args:
        writer: of pyarrow; `index_writer` opens one.
    """

    def __init__(self, writer: Any, pa: Any) -> None:  # noqa: ANN401
        self._writer, self._pa = writer, pa
        self._shards: list[Shard] = []
        self._labels: dict[Label, int] = {}
        self._groups: dict[str, int] = {}
        self._waiting: list[Any] = []
        self._name_bytes = self._codes = 0
        self._several = False

    def add(self, shard: Shard, samples: Iterable[Sample]) -> None:
        """Add the pictures of a shard, in their order."""
        self._shards.append(shard)
        left = iter(samples)
        while chunk := list(islice(left, _TOGETHER)):
            self.add_columns(
                [len(self._shards) - 1] * len(chunk),
                [one.picture.offset for one in chunk],
                [one.picture.size for one in chunk],
                [one.picture.name.encode("utf-8", "surrogateescape") for one in chunk],
                [[self._labels.setdefault(label, len(self._labels)) for label in one.labels] for one in chunk],
                [-1 if one.split is None else SPLITS.index(one.split) for one in chunk],
                [-1 if one.group is None else self._groups.setdefault(one.group, len(self._groups)) for one in chunk],
            )
            self._several |= any(one.several for one in chunk)

    def add_columns(self, *columns: Any) -> None:  # noqa: ANN401
        """Add rows by their columns, as lists or arrays of pyarrow, of shards and labels that are known."""
        batch = self._pa.record_batch(list(columns), schema=_schema(self._pa))
        self._waiting.append(batch)
        if sum(one.num_rows for one in self._waiting) >= _A_GROUP:
            self._write()
        self._name_bytes += self._pa.compute.sum(self._pa.compute.binary_length(batch.column("name"))).as_py() or 0
        self._codes += len(batch.column("labels").flatten())

    def know(self, shards: Sequence[Shard], labels: Sequence[Label]) -> None:
        """Name shards and labels that `add_columns` refers to."""
        self._shards.extend(shards)
        self._labels.update((label, code) for code, label in enumerate(labels))

    def close(self) -> None:
        """Write what is left, and the lists."""
        self._write()
        about = {
            "version": _VERSION,
            "shards": [list(shard) for shard in self._shards],
            "labels": list(self._labels),
            "groups": list(self._groups),
            "several": self._several,
            "name_bytes": self._name_bytes,
            "codes": self._codes,
        }
        self._writer.add_key_value_metadata({_KEY: json.dumps(about).encode()})

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(self._pa.Table.from_batches(self._waiting), row_group_size=_A_GROUP)
            self._waiting = []


@contextmanager
def index_writer(file: Path, shown: str) -> Iterator[IndexWriter]:
    """A writer of the index `file`, which is whole at the end of the block; at an error it has to be removed.

    Raises:
        UsageError: if pyarrow is not installed.
        OSError: if the disk says no.
    """
    pa = arrow(shown)
    with pa.parquet.ParquetWriter(file, _schema(pa), compression="zstd", write_statistics=False) as writer:
        index = IndexWriter(writer, pa)
        yield index
        index.close()


def read_lists(file: Path | IO[bytes], shown: str) -> tuple[Shard, ...]:
    """The shards that an index is of.

    Raises:
        DataError: if it is no such index.
    """
    pa = arrow(shown)
    with _told(pa, shown):
        return _about(pa.parquet.read_metadata(file), shown)[0]


def read_index(file: Path | IO[bytes], shown: str) -> ShardIndex:
    """Read an index.

    Raises:
        DataError: if it is none, or points out of its shards.
    """
    pa = arrow(shown)
    with _told(pa, shown), pa.parquet.ParquetFile(file) as opened:
        shards, about = _about(opened.metadata, shown)
        if opened.schema_arrow.remove_metadata() != _schema(pa):
            raise ValueError("its columns are others")
        n, n_codes, n_bytes = opened.metadata.num_rows, int(about["codes"]), int(about["name_bytes"])
        if n_bytes > 1 << 40 or n_codes > 1 << 34:
            raise ValueError("its metadata promise more than there can be")
        columns: dict[str, npt.NDArray[Any]] = {
            "shard": zeros(n, np.int32),
            "offset": zeros(n, np.int64),
            "size": zeros(n, np.int64),
            "split": zeros(n, np.int8),
            "group": zeros(n, np.int32),
        }
        names, at, length = zeros(n_bytes, np.uint8), zeros(n, np.int64), zeros(n, np.int32)
        codes, offsets = zeros(n_codes, np.int32), zeros(n + 1, np.int64)
        row = byte = code = 0
        for batch in opened.iter_batches(_TOGETHER):
            rows = slice(row, row + batch.num_rows)
            if any(column.null_count for column in batch.columns):
                raise ValueError("a cell is empty")
            for name, column in columns.items():
                column[rows] = batch.column(name).to_numpy()
            starts, content = _bytes_of(batch.column("name"))
            at[rows], length[rows] = byte + starts[:-1], np.diff(starts)
            names[byte : byte + len(content)] = content
            labels = batch.column("labels")
            ends = labels.offsets.to_numpy().astype(np.int64)
            offsets[row + 1 : rows.stop + 1] = code + ends[1:] - ends[0]
            codes[code : code + ends[-1] - ends[0]] = labels.flatten().to_numpy()
            row, byte, code = rows.stop, byte + len(content), int(offsets[rows.stop])
            _check({name: column[rows] for name, column in columns.items()}, batch, shards, about, pa)
        if (row, byte, code) != (n, n_bytes, n_codes):
            raise ValueError("rows are missing")
        if n_codes and not 0 <= codes.min() <= codes.max() < len(about["labels"]):
            raise ValueError("a label is not in its list")
    files = [shard.name.encode("utf-8", "surrogateescape") for shard in shards]
    paths = RangePaths(files, columns["shard"], columns["offset"], columns["size"], names, at, length)
    groups = (columns["group"], tuple(about["groups"])) if about["groups"] else None
    return ShardIndex(shards, paths, codes, offsets, tuple(about["labels"]), columns["split"], groups, about["several"])


def _check(
    columns: Mapping[str, npt.NDArray[Any]],
    batch: "pyarrow.RecordBatch",
    shards: Sequence[Shard],
    about: Mapping[str, Any],
    pa: Any,  # noqa: ANN401
) -> None:
    """See that rows point into their shards: an index may come from elsewhere."""
    sizes = np.array([shard.size for shard in shards] or [0], dtype=np.int64)
    inside: list[Callable[[], Any]] = [
        lambda: (columns["shard"] >= 0) & (columns["shard"] < len(shards)),
        lambda: (columns["offset"] >= 0) & (columns["size"] >= 0),
        lambda: columns["offset"] <= sizes[columns["shard"]] - columns["size"],
        lambda: (columns["split"] >= -1) & (columns["split"] < len(SPLITS)),
        lambda: (columns["group"] >= -1) & (columns["group"] < len(about["groups"])),
    ]
    if not all(bool(np.all(test())) for test in inside):
        raise ValueError("a row points to what is not there")
    odd = pa.compute.match_substring_regex(batch.column("name"), r"^$|^/|(^|/)\.\.(/|$)")
    if pa.compute.any(odd).as_py():
        raise ValueError("a name leads out of its shard")


def _about(metadata: Any, shown: str) -> tuple[tuple[Shard, ...], dict[str, Any]]:  # noqa: ANN401
    try:
        about = json.loads((metadata.metadata or {})[_KEY])
        if about["version"] != _VERSION:
            raise ValueError(f"version {about['version']}")
        if any(isinstance(label, bool) or not isinstance(label, int | str) for label in about["labels"]):
            raise ValueError("a label is neither a number nor a name")
        if not all(map(is_text, about["groups"])):
            raise ValueError("a group is no text")
        return tuple(Shard(str(name), int(size), stamp) for name, size, stamp in about["shards"]), about
    except (KeyError, TypeError, ValueError) as error:
        raise _no_index(shown, error) from error


def _bytes_of(column: Any) -> tuple[Ints, npt.NDArray[np.uint8]]:  # noqa: ANN401
    """Where texts of a binary array begin and the last one ends, (n + 1,), and their bytes."""
    _, ends, content = column.buffers()
    offsets = np.frombuffer(ends, dtype=np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    whole = np.frombuffer(content or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], whole


@contextmanager
def _told(pa: Any, shown: str) -> Iterator[None]:  # noqa: ANN401
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise _no_index(shown, error) from error


def _no_index(shown: str, error: object) -> DataError:
    return DataError(
        f"{printable(shown)} is not an index of shards that imgkit wrote ({brief(error)}).",
        "Remove it, and imgkit reads the shards themselves.",
    )
