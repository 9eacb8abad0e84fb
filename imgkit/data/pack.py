"""`imgkit data pack`: pictures as tar shards in WebDataset's convention, with their index.

The same pictures give the same bytes: members stand in the order of the rows, with one fixed owner, mode and time. The
bytes of a picture's file are copied as they are. A sample is `NAME.jpg` and `NAME.cls`, the number of its class in
`classes.txt`; what that cannot say (several labels, a group) stands in `NAME.json`. NAME is the picture's path, with
`_` for the dots in its last part. Splits that the data bring along are folders.
"""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from imgkit.data.byte_range import opened, parse
from imgkit.data.classes import validation_warnings
from imgkit.data.index import SPLITS, Index
from imgkit.data.load import list_data, load_data
from imgkit.data.paths import Files
from imgkit.data.rows import EXTENSIONS, Row, count
from imgkit.data.samples import Sample
from imgkit.data.scan import scan
from imgkit.data.shard_index import NAME, Shard, index_writer
from imgkit.data.shards import CLASSES
from imgkit.data.sources import refuse_inside
from imgkit.data.tar_headers import BLOCK, Member
from imgkit.errors import DataError, DiskError, UsageError, disk_told, printable
from imgkit.files import neighbour, room, sync
from imgkit.recipe.schema import DataSettings

RECORD = 20 * BLOCK
"""A tar file ends on a multiple of this, as tar itself would write it."""
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
_MOST_SHARDS = 100_000


class Packed(NamedTuple):
    """What was written."""

    pictures: int
    shards: int
    size: int  # bytes, of the shards
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Work:
    """Checked pictures on their way into shards."""

    index: Index
    formats: list[str]  # as Pillow calls them, by row
    row: Callable[[int], Row]  # as the source describes it
    named: bool  # the data bring splits along

    def folder(self, row: int) -> str:
        return f"{SPLITS[self.index.splits[row]]}/" if self.named else ""

    def name(self, row: int) -> tuple[str, str]:
        """The name of a sample, and the ending of its picture."""
        path = self.index.paths[row]
        part = parse(path)
        folder, slash, name = (path if part is None else part.name).rpartition("/")
        stem, _, suffix = name.rpartition(".")
        if not stem or f".{suffix.lower()}" not in EXTENSIONS:
            stem, suffix = name, _ENDINGS.get(self.formats[row], self.formats[row])
        return folder.lstrip("/") + slash + stem.replace(".", "_"), f".{suffix.lower()}"

    def said(self, row: int) -> dict[str, bytes]:
        """What stands beside a picture, by ending."""
        index = self.index
        codes = index.codes[index.offsets[row] : index.offsets[row + 1]].tolist()
        about: dict[str, object] = {}
        if index.task == "multilabel":
            about["labels"] = [index.classes[code] for code in codes]
        if index.groups is not None:
            about["group"] = self.row(row).group
        beside = {} if index.task == "multilabel" else {".cls": str(*codes).encode()}
        return beside | ({".json": json.dumps(about, ensure_ascii=False).encode()} if about else {})


def pack(
    settings: DataSettings, out: Path, shard_bytes: int, progress: Callable[[int, int], None] | None = None
) -> Packed:
    """Check all pictures of a data set, and write them as shards: all of them, or nothing.

    Args:
        settings: `[data]` of a recipe, which holds nothing out.
        out: a folder that does not exist yet, or is empty.
        shard_bytes: of a shard at most; one that holds a single picture may be larger.
        progress: called with (pictures done, in all), first of the check and then of the writing.

    Raises:
        DataError: if the data cannot be used, see `load_data`, or a picture changed meanwhile.
        UsageError: if `out` lies in the data or holds something.
        DiskError: if there is no room, or the disk says no.
    """
    listed = list_data(settings)
    refuse_inside(listed.place, settings.root, out, called="folder of shards", beside="shards")
    _check_empty(out)
    source = listed.source
    report = scan(Files(source.root, source.rows.paths), max_pixels=settings.max_pixels, progress=progress)
    data = load_data(settings, listed=listed, report=report)
    good = np.flatnonzero(report.facts.good)
    formats = [fact.format for fact in data.facts if fact is not None]
    work = _Work(data.index, formats, lambda row: source.rows[int(good[row])], bool(data.named.any()))
    plan = list(_plan(work, shard_bytes))
    with disk_told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(out, work, len(plan))
    draft = neighbour(out)
    try:
        with disk_told(out):
            draft.mkdir()
            size = _write(work, plan, draft, progress)
            if out.is_dir():
                out.rmdir()
            draft.rename(out)
            sync(out.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    nothing_held_out = validation_warnings(data.index, share=0.0)
    warnings = tuple(text for text in data.warnings if text not in nothing_held_out)
    return Packed(len(data.index), len(plan), size, data.notes, warnings)


def _check_empty(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise UsageError(
            f"--out {printable(str(out))} is there already, and is no empty folder.",
            "Give a new one: what is there is not written over.",
        )


def _check_room(out: Path, work: _Work, shards: int) -> None:
    size = int(work.index.sizes.sum()) + len(work.index) * 4 * BLOCK + shards * RECORD
    with disk_told(out):
        if shutil.disk_usage(out.parent).free < 1.05 * size:
            raise DiskError(
                f"The shards do not fit where {printable(str(out))} lies: {room(out.parent, size)}.",
                "Free some space, or give another --out.",
            )


def _plan(work: _Work, shard_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """The shards: the name and the rows of each."""
    order = np.argsort([work.folder(row) for row in range(len(work.index))], kind="stable") if work.named else None
    rows = np.arange(len(work.index)) if order is None else order
    folder, number, here, size = "", 0, list[int](), 0
    for row in rows.tolist():
        own = work.folder(row)
        takes = _padded(int(work.index.sizes[row])) + sum(_padded(len(content)) for content in work.said(row).values())
        if here and (own != folder or size + takes + 2 * BLOCK > shard_bytes):
            yield _shard_name(folder, number), here
            number, here, size = (number + 1 if own == folder else 0), [], 0
        folder = own
        here.append(row)
        size += takes
    yield _shard_name(folder, number), here


def _shard_name(folder: str, number: int) -> str:
    if number >= _MOST_SHARDS:
        raise UsageError(f"That would be more than {count(_MOST_SHARDS, 'shard')}.", "Give a larger --shard-size.")
    return f"{folder}shard-{number:05d}.tar"


def _write(
    work: _Work, plan: list[tuple[str, list[int]]], out: Path, progress: Callable[[int, int], None] | None
) -> int:
    """Write all files into a new folder; returns the bytes of the shards."""
    total = done = 0
    with index_writer(out / NAME, "imgkit data pack") as written:
        if work.index.task == "single":
            written.know([], range(len(work.index.classes)))
        for name, rows in plan:
            (out / name).parent.mkdir(exist_ok=True)
            with (out / name).open("xb") as stream:
                samples = list(_samples(work, rows, stream))
                stream.write(bytes(2 * BLOCK))
                stream.write(bytes(-stream.tell() % RECORD))
                size = stream.tell()
            sync(out / name)
            written.add(Shard(name, size), samples)
            total += size
            done += len(rows)
            if progress is not None:
                progress(done, len(work.index))
    (out / CLASSES).write_text("".join(f"{name}\n" for name in work.index.classes), encoding="utf-8")
    for file in (NAME, CLASSES):
        sync(out / file)
    for folder in {out, *((out / name).parent for name, _ in plan)}:
        sync(folder)
    return total


def _samples(work: _Work, rows: list[int], stream: IO[bytes]) -> Iterator[Sample]:
    """Write the samples of a shard, one after the other."""
    taken = set[str]()
    for row in rows:
        stem, ending = work.name(row)
        unlike = (stem if number == 0 else f"{stem}-{number}" for number in chain(range(1), range(2, 1 << 40)))
        key = next(name for name in unlike if name not in taken)
        taken.add(key)
        picture = _put(stream, key + ending, _content(work.index, row))
        for kind, content in work.said(row).items():
            _put(stream, key + kind, content)
        yield _sample(work, row, picture)


def _sample(work: _Work, row: int, picture: Member) -> Sample:
    index = work.index
    codes = index.codes[index.offsets[row] : index.offsets[row + 1]].tolist()
    several = index.task == "multilabel"
    labels = tuple(index.classes[code] for code in codes) if several else tuple(codes)
    return Sample(picture, labels, several, None, None if index.groups is None else work.row(row).group)


def _content(index: Index, row: int) -> bytes:
    path = index.path(row)
    try:
        with opened(path) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror or error}.", "Pack again.") from error
    if hashlib.sha256(content).digest() != index.hashes[row].tobytes():
        raise DataError(
            f"{printable(str(path))} changed while it was packed.", "Pack again, when nothing writes there."
        )
    return content


def _put(stream: IO[bytes], name: str, content: bytes) -> Member:
    """Write a member, the same bytes at any time and by anybody."""
    info = tarfile.TarInfo(name)
    info.size = len(content)  # its mode is 0644, its owner 0 and its time 0
    stream.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    offset = stream.tell()
    stream.write(content)
    stream.write(bytes(-len(content) % BLOCK))
    return Member(name, offset, len(content))


def _padded(size: int) -> int:
    """What a member takes: its header, and its content up to a full block."""
    return BLOCK + -(-size // BLOCK) * BLOCK
