"""Data sets that Hugging Face's `save_to_disk` wrote, read with pyarrow alone: pictures are parts of Arrow files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.bounds import read_json
from imgkit.data.columns import Rows
from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.index import SPLITS
from imgkit.data.paths import Ints
from imgkit.data.range_paths import RangePaths
from imgkit.data.rows import Source, count, is_file, listed
from imgkit.data.shard_index import arrow
from imgkit.data.spill import kept
from imgkit.errors import DataError, UsageError, brief, printable, suggestion

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_AGAIN = "Save it again:  dataset.save_to_disk(FOLDER)"


class _Part(NamedTuple):
    """One split of a data set."""

    files: list[str]  # relative to the root, POSIX
    split: int  # a position in SPLITS; -1: not said
    features: dict[str, Any]  # by column, as dataset_info.json has them


class _Columns(NamedTuple):
    """Which columns are read."""

    image: str
    label: str
    names: tuple[str, ...] | None  # of the numbers in the label column; None: it holds names
    several: bool


class _Found(NamedTuple):
    """The rows of a record batch."""

    starts: Ints  # of each picture in its file, bytes
    sizes: Ints
    labels: npt.NDArray[np.int32]  # positions in the names
    counts: Ints  # labels of each row


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return is_file(folder / _SPLITS) or (is_file(folder / _STATE) and is_file(folder / _INFO))


def read_saved(root: Path, shown: str, image_col: str | None = None, label_col: str | None = None) -> Source:
    """Read the rows of a saved data set: nothing is copied, and no picture's bytes are read.

    Args:
        root: absolute path of the folder.
        shown: the folder as the user named it.
        image_col: the column of pictures; None: the only one.
        label_col: the column of labels; None: the only one of classes, or the one called `label` or `labels`.

    Raises:
        DataError: if the folder is damaged, its pictures are not in it, or an image has no label.
        UsageError: if a column does not exist, or it is not clear which one is meant.
    """
    pa = arrow(shown)
    with _told(pa, shown):
        parts = _parts(root, shown)
        columns = _columns(parts[0].features, shown, image_col, label_col)
        names: dict[str, int] = {}
        files, splits, found = list[str](), list[int](), list[tuple[int, _Found]]()
        for part in parts:
            own = _columns(part.features, shown, columns.image, columns.label)  # a split has class names of its own
            if own.several != columns.several:
                raise ValueError(
                    f"column {printable(columns.label)!r} holds one label in some splits, several in others"
                )
            for file in part.files:
                found += [(len(files), rows) for rows in _rows(root / file, own, names, pa, shown)]
                files.append(file)
                splits.append(part.split)
    if not found:
        raise DataError(f"{shown} holds no images.", _AGAIN)
    lengths = [len(rows.starts) for _, rows in found]
    of = np.repeat(np.array([number for number, _ in found], dtype=np.int32), lengths)
    counts = np.concatenate([rows.counts for _, rows in found])
    if not columns.several and (counts == 0).any():
        raise DataError(
            f"{shown}: {count(int((counts == 0).sum()), 'image has', 'images have')} no label in "
            f"{printable(columns.label)!r}, first row {int(np.flatnonzero(counts == 0)[0]) + 1:,}.",
            "Take them out:  dataset.filter(…).save_to_disk(FOLDER)",
        )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    text, at, length = _numbers(of, len(files))
    paths = RangePaths(
        [name.encode("utf-8", "surrogateescape") for name in files],
        of,
        kept(np.concatenate([rows.starts for _, rows in found]), np.int64),
        kept(np.concatenate([rows.sizes for _, rows in found]), np.int64),
        text,
        at,
        length,
    )
    codes = kept(np.concatenate([rows.labels for _, rows in found]), np.int32)
    split = np.array(splits, dtype=np.int8)[of]
    rows = Rows.of(paths, codes, offsets, list(names), split)
    note = f"Images are column {printable(columns.image)!r}, labels {printable(columns.label)!r}, of Arrow files."
    return Source(root, shown, rows, notes=[note], task="multilabel" if columns.several else "single")


def _parts(root: Path, shown: str) -> list[_Part]:
    """The splits of a data set, in the order of their folders."""
    if not is_file(root / _SPLITS):
        return [_part(root, "", -1)]
    names = sorted(read_json(root / _SPLITS)["splits"])
    odd = [name for name in names if FOLDER_SPLITS.get(name) is None]
    if odd or "train" not in names:
        raise DataError(
            f"{shown} has the splits {listed(names)}, and imgkit knows train, val (validation) and test.",
            f"Give the folder of one:  --data {printable(str(root / names[0]))}" if names else _AGAIN,
        )
    return [_part(root, f"{name}/", SPLITS.index(FOLDER_SPLITS[name])) for name in names]


def _part(root: Path, start: str, split: int) -> _Part:
    state, about = read_json(root / start / _STATE), read_json(root / start / _INFO)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ValueError("it is a selection of rows; save it after  dataset.flatten_indices()")
    files = [str(one["filename"]) for one in state["_data_files"]]
    if any("/" in name or "\\" in name or name == ".." for name in files):
        raise ValueError("a file lies outside of it")
    return _Part(sorted(f"{start}{name}" for name in files), split, dict(about["features"]))


def _columns(features: dict[str, Any], shown: str, image_col: str | None, label_col: str | None) -> _Columns:
    kinds = {name: one.get("_type", "") if isinstance(one, dict) else "list" for name, one in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    usual = [name for name in features if name in ("label", "labels")]
    image = _one("image", image_col, images, kinds, shown)
    label = _one("label", label_col, classes if len(classes) == 1 else usual or classes, kinds, shown)
    about: Any = features[label]
    several = isinstance(about, list) or about.get("_type") in ("Sequence", "LargeList", "List")
    inner: Any = about[0] if isinstance(about, list) else about.get("feature", {}) if several else about
    names = tuple(map(str, inner["names"])) if inner.get("_type") == "ClassLabel" and inner.get("names") else None
    if names is not None and len({*names}) < len(names):
        raise ValueError("two classes have one name")
    return _Columns(image, label, names, several)


def _one(what: str, given: str | None, found: list[str], kinds: dict[str, str], shown: str) -> str:
    if given is not None and given not in kinds:
        raise UsageError(
            f"{shown} has no column {given!r}{suggestion(given, kinds)}.", f"Columns: {listed(kinds) or 'none'}."
        )
    if given is None and len(found) != 1:
        raise UsageError(
            f"{shown}: which column holds the {what}s is not clear: {listed(found or kinds)}.",
            f"Name it:  --{what}-col COLUMN",
        )
    return given or found[0]


def _rows(file: Path, columns: _Columns, names: dict[str, int], pa: Any, shown: str) -> Iterator[_Found]:  # noqa: ANN401
    """The rows of an Arrow file, batch by batch; new names of labels are added to `names`."""
    with pa.memory_map(str(file)) as source:
        whole = source.read_buffer()
        try:
            batches: Any = pa.ipc.open_stream(whole)
        except pa.ArrowInvalid:
            opened = pa.ipc.open_file(whole)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        for one in batches:
            batch = one.select([columns.image, columns.label])
            batch.validate(full=True)  # offsets, too, which lead somewhere in memory and are taken as they are
            pictures = batch.column(columns.image)
            if pa.types.is_struct(pictures.type):
                pictures = pictures.flatten()[pictures.type.get_field_index("bytes")]
            if not (pa.types.is_binary(pictures.type) or pa.types.is_large_binary(pictures.type)):
                raise ValueError(f"column {printable(columns.image)!r} holds no pictures")
            if pictures.null_count:
                raise ValueError("it holds paths of pictures instead of their bytes")
            ends = pictures.buffers()[1], np.int64 if pa.types.is_large_binary(pictures.type) else np.int32
            here = slice(pictures.offset, pictures.offset + len(pictures) + 1)
            edges = np.frombuffer(*ends)[here].astype(np.int64)
            begin = pictures.buffers()[2].address - whole.address
            if not 0 <= begin <= whole.size - int(edges[-1]):
                raise ValueError("its record batches are compressed")
            labels, counts = _labels(batch.column(columns.label), columns, names, pa)
            yield _Found(begin + edges[:-1], np.diff(edges), labels, counts)


def _labels(column: Any, columns: _Columns, names: dict[str, int], pa: Any) -> tuple[npt.NDArray[np.int32], Ints]:  # noqa: ANN401
    """Labels of a batch one after another, and how many each row has."""
    counts = np.ones(len(column), dtype=np.int64)
    if columns.several:
        counts = pa.compute.fill_null(pa.compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        counts, column = counts.astype(np.int64), column.flatten()
    if columns.names is not None:
        codes = pa.compute.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        if codes.max(initial=-1) >= len(columns.names):
            raise ValueError(f"a label is {codes.max()}, and there are {count(len(columns.names), 'class', 'classes')}")
        of = [names.setdefault(name, len(names)) for name in columns.names]
        codes = np.array([*of, -1], dtype=np.int64)[np.maximum(codes, -1)]  # none is -1, the last one
    else:
        encoded = pa.compute.cast(column, pa.string()).dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        of = [-1 if text in (None, "") else names.setdefault(text, len(names)) for text in texts]
        places = pa.compute.fill_null(encoded.indices, len(of)).to_numpy(zero_copy_only=False)
        codes = np.array([*of, -1], dtype=np.int64)[places]
    said = codes >= 0
    ends = np.concatenate([[0], np.cumsum(said)])
    edges = np.concatenate([[0], np.cumsum(counts)])
    return codes[said].astype(np.int32), np.diff(ends[edges])


def _numbers(file: npt.NDArray[np.int32], files: int) -> tuple[npt.NDArray[np.uint8], Ints, npt.NDArray[np.int32]]:
    """Names of rows, the number of each in its file: their bytes, where each begins and how long it is."""
    lengths = np.bincount(file, minlength=files)
    most, width = int(lengths.max(initial=1)), 9
    number = np.arange(most, dtype=np.int64)
    digits = (number[:, None] // 10 ** np.arange(width - 1, -1, -1)) % 10 + ord("0")  # (rows, width)
    firsts = np.cumsum(lengths) - lengths
    starts = (np.arange(len(file)) - firsts[file]) * width
    return (
        kept(digits.astype(np.uint8).reshape(-1), np.uint8),
        kept(starts, np.int64),
        np.full(len(file), width, np.int32),
    )


@contextmanager
def _told(pa: Any, shown: str) -> Iterator[None]:  # noqa: ANN401
    try:
        yield
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, LookupError | AttributeError) else error
        raise DataError(f"{shown} is no data set that can be read: {brief(what)}.", _AGAIN) from error
