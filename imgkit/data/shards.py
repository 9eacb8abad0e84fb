"""Tar shards in WebDataset's convention as a source: indexed once, then read picture by picture, in any order."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from imgkit.data.builtin import cache_folder
from imgkit.data.byte_range import faults_of, file_system, url_of
from imgkit.data.columns import Rows
from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.index import SPLITS
from imgkit.data.rows import Source, count
from imgkit.data.samples import Label, Sample, samples
from imgkit.data.shard_index import NAME, Shard, ShardIndex, index_writer, read_index, read_lists
from imgkit.data.shard_names import Shards, find_shards
from imgkit.data.spill import kept
from imgkit.data.tar_headers import members
from imgkit.errors import DataError, printable
from imgkit.files import neighbour
from imgkit.recipe.fields import Task

CLASSES = "classes.txt"
_MOST_CLASSES = 16 << 20  # bytes of it
_VERSION = 1  # of what is read from shards: another one is due when that changes
_BUFFER = 1 << 16  # bytes of a shard that are read at a time; a remote one's blocks are fsspec's


def read_shards(text: str, shown: str, *, multilabel: bool = False, unlabelled: bool = False) -> Source:
    """Read the rows of shards; no picture's bytes are read, and headers only where no index is known.

    Args:
        text: what means them, see `find_shards`.
        shown: the data as the user named them.
        multilabel: a picture has any number of labels, whatever the shards say.
        unlabelled: a picture of a single-label task may have none.

    Raises:
        DataError: if there are no shards, one cannot be read or holds what is refused, or a label is missing.
    """
    found = find_shards(text, shown)
    index = _index(found, shown)
    task: Task = "multilabel" if multilabel or index.several else "single"
    counts = np.diff(index.offsets)
    if task == "single" and not unlabelled and (counts == 0).any():
        row = int(np.flatnonzero(counts == 0)[0])
        raise DataError(
            f"{shown}: {count(int((counts == 0).sum()), 'image has', 'images have')} no label, first "
            f"{printable(index.paths[row])}.",
            "A picture NAME.jpg has its class in NAME.cls or NAME.json beside it. A trained model labels it:  "
            "imgkit predict",
        )
    labels, codes = _named(index, _class_names(found, shown), shown)
    rows = Rows.of(index.paths, codes, index.offsets, labels, _splits(found, index), index.groups)
    note = f"{count(len(rows), 'image')} in {count(len(found.shards), 'shard')}."
    return Source(found.root, shown, rows, notes=[note], task=task)


def _splits(found: Shards, index: ShardIndex) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    """What a sample says of its split, else what the folder of its shard is called by."""
    of = [found.split_of(shard) for shard in index.shards]
    if not any(of):
        return index.splits
    codes = np.array([-1 if split is None else SPLITS.index(split) for split in of], dtype=np.int8)
    splits = kept(index.splits, np.int8)
    unsaid = splits < 0
    splits[unsaid] = codes[index.paths.file[unsaid]]
    return splits


def _named(
    index: ShardIndex, classes: tuple[str, ...] | None, shown: str
) -> tuple[list[str], "np.ndarray[tuple[int], np.dtype[np.int32]]"]:
    """Names of labels, each once, and the codes of all labels by them."""
    names = [_name(label, classes, shown) for label in index.labels]
    once = list(dict.fromkeys(names))
    if len(once) == len(names):
        return once, index.codes
    position = {name: code for code, name in enumerate(once)}
    return once, kept(np.array([position[name] for name in names], dtype=np.int32)[index.codes], np.int32)


def _name(label: Label, classes: tuple[str, ...] | None, shown: str) -> str:
    if isinstance(label, str) or classes is None:
        return str(label)
    if not 0 <= label < len(classes):
        raise DataError(
            f"{shown}: a picture is of class {label}, and {CLASSES} has {count(len(classes), 'line')}, counted from 0.",
            f"Mend {CLASSES}.",
        )
    return classes[label]


def _class_names(found: Shards, shown: str) -> tuple[str, ...] | None:
    """The lines of classes.txt beside the shards, or above their folder where it is a split's; None: there is none."""
    above = [Shards(found.root.parent, ())] if found.root.name in FOLDER_SPLITS else []
    for place in (found, *above):
        with _beside(place, CLASSES) as stream:
            content = None if stream is None else stream.read(_MOST_CLASSES + 1)
        if content is not None:
            break
    else:
        return None
    try:
        lines = content.decode("utf-8-sig").splitlines() if len(content) <= _MOST_CLASSES else []
    except UnicodeDecodeError:
        lines = []
    if not lines or len({*lines}) < len(lines) or not all(map(str.strip, lines)):
        raise DataError(
            f"{shown}: {CLASSES} is no list of names, each on a line of its own and once.",
            "Line 1 is the name of class 0. Mend it, or remove it: classes are then called by their numbers.",
        )
    return tuple(lines)


@contextmanager
def _beside(found: Shards, name: str) -> Iterator[IO[bytes] | None]:
    """A file beside the shards; None where there is none."""
    place = found.where(name)
    try:
        if url_of(place):
            system, path = file_system(place)
            stream: IO[bytes] = system.open(path, "rb")
        else:
            stream = Path(place).open("rb")  # noqa: SIM115  # closed below
    except Exception:  # each package of fsspec has errors of its own, and what is forbidden is no file either
        yield None
        return
    with stream:
        yield stream


def _index(found: Shards, shown: str) -> ShardIndex:
    """The index of shards: the one beside them where it is of them, else the one in the cache, else it is made."""
    with _beside(found, NAME) as stream:
        if stream is not None:
            name = f"{shown}: {NAME}"
            known = {shard.name: shard.size for shard in read_lists(stream, name)}
            if known == {shard.name: shard.size for shard in found.shards} and not _is_behind(stream, found):
                stream.seek(0)
                return read_index(stream, name)
    about = [_VERSION, str(found.root), *found.shards]
    file = cache_folder() / "shards" / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.parquet"
    if file.is_file():
        with suppress(DataError):  # it was damaged: it is made again
            return read_index(file, shown)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return _make(found, file, shown)
    except OSError:  # a cache that cannot be written costs time and nothing else
        with tempfile.TemporaryDirectory() as folder:
            return _make(found, Path(folder) / NAME, shown)


def _is_behind(index: IO[bytes], found: Shards) -> bool:
    """Whether a shard was written after the index beside it: other labels may take as many bytes.

    Of a URL it is not known.
    """
    if url_of(found.root):
        return False
    written = os.fstat(index.fileno()).st_mtime_ns
    return any(shard.stamp is not None and shard.stamp > written for shard in found.shards)


def _make(found: Shards, file: Path, shown: str) -> ShardIndex:
    draft = neighbour(file)
    try:
        with index_writer(draft, shown) as index:
            for shard in found.shards:
                index.add(shard, _samples_of(found, shard, f"{shown}: {printable(shard.name)}"))
        made = read_index(draft, shown)
        if not len(made.paths):
            raise DataError(
                f"{shown} has no picture in {count(len(found.shards), 'shard')}.",
                "A sample is NAME.jpg beside NAME.cls.",
            )
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return made


def _samples_of(found: Shards, shard: Shard, shown: str) -> Iterator[Sample]:
    place = found.where(shard.name)
    try:
        with faults_of(place):
            if url_of(place):
                system, path = file_system(place)
                stream: IO[bytes] = system.open(path, "rb")
            else:
                stream = Path(place).open("rb", buffering=_BUFFER)  # noqa: SIM115  # closed below
            with stream:
                yield from samples(members(stream, shard.size, shown), stream, shown)
    except OSError as error:
        raise DataError(f"{printable(place)} cannot be read: {error.strerror or error}.", "Check it.") from error
