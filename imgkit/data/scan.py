"""The scan: every file is opened, decoded and hashed once, before training."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from imgkit import machine
from imgkit.data.apart import Apart
from imgkit.data.builtin import cache_folder
from imgkit.data.byte_range import opened, status
from imgkit.data.decode import Decoded, read_image
from imgkit.data.facts import Facts, FileFacts, ScanReport
from imgkit.errors import BadImage
from imgkit.signals import signal_name

_MIN_SIDE = 64  # a JPEG decoded smaller is still read to its last byte
_THREADS = 8  # at most: each may hold a picture of max_pixels
_TIMEOUT_S = 5.0  # how long to wait for another scan that writes its facts
_FACTS = "size, sha256, format, mode, width, height, rotated"  # columns
_CHUNK = 64  # files between two reports of progress


def scan(files: Collection[str], *, max_pixels: int, progress: Callable[[int, int], None] | None = None) -> ScanReport:
    """Open, decode and hash every file.

    It is done in a process of its own where there is a fork: a file that crashes the decoder is a bad one like others.

    Good files are remembered in $IMGKIT_CACHE/scan.sqlite by path, size, modification time and `max_pixels`, and not
    read again while these are the same; bad files are always read again.

    Args:
        files: absolute paths.
        max_pixels: see `load_image`.
        progress: called with (files done, files in all).
    """
    facts = Facts(len(files))
    bad: list[BadImage] = []
    work = partial(examine, max_pixels=max_pixels)
    threads = min(_THREADS, machine.cores())
    left, done = iter(files), 0
    with closing(FactCache()) as cache, Apart(work, crashed, threads) as apart:
        while chunk := list(islice(left, _CHUNK)):
            known = cache.facts(chunk, max_pixels)
            new = [file for file in chunk if file not in known]
            examined = dict(zip(new, apart.map(new), strict=True))
            cache.put({file: found for file, found in examined.items() if isinstance(found, Examined)}, max_pixels)
            known.update((file, found.facts) for file, found in examined.items() if isinstance(found, Examined))
            for row, file in enumerate(chunk, done):
                found = examined.get(file)
                if isinstance(found, BadImage):
                    bad.append(found)
                else:
                    facts.put(row, known[file])
            done += len(chunk)
            if progress is not None:
                progress(done, len(files))
    return ScanReport(facts, tuple(bad))


def digests(files: Iterable[str]) -> Iterator[str]:
    """SHA-256 of each file, hex, in order.

    Taken from $IMGKIT_CACHE/scan.sqlite where a file's size and modification time are as they were; else the file is
    read, and its digest remembered there.

    Raises:
        OSError: at a file that cannot be read; its `filename` says which.
    """
    left = iter(files)
    with closing(FactCache()) as cache, ThreadPoolExecutor(min(_THREADS, machine.cores())) as pool:
        while chunk := list(islice(left, _CHUNK)):
            known = {file: cache.digest(file) for file in chunk}
            read = [file for file, digest in known.items() if digest is None]
            hashed = dict(zip(read, pool.map(_hash, read), strict=True))
            cache.put_digests(hashed)
            yield from (known[file] or hashed[file].sha256 for file in chunk)


class _Hashed(NamedTuple):
    """A file's content, and the time and size that go with it."""

    mtime_ns: int
    size: int  # bytes
    sha256: str  # hex


def _hash(file: str) -> _Hashed:
    try:
        size, mtime_ns = status(file)  # before it is read: what is written meanwhile has another time
        with opened(file) as handle:
            return _Hashed(mtime_ns, size, hashlib.file_digest(handle, "sha256").hexdigest())
    except OSError as error:
        error.filename = file  # which a failing read leaves out
        raise


class Examined(NamedTuple):
    """A picture, and the time that goes with it."""

    mtime_ns: int
    facts: FileFacts
    look: bytes = b""


def examine(file: str, max_pixels: int, looked: Callable[[Decoded], bytes] | None = None) -> Examined | BadImage:
    """Open, decode and hash a file; `looked` says what else to remember of its picture."""
    path = Path(file)
    mtime_ns = _mtime_ns(path)  # before it is read: what is written meanwhile has another time
    try:
        picture = read_image(path, max_pixels=max_pixels, min_side=_MIN_SIDE)
        look = b"" if looked is None else looked(picture)
        with opened(path) as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            size = handle.seek(0, os.SEEK_END)
    except BadImage as error:
        return error.with_traceback(None)  # a traceback would keep the decoder's buffers alive
    except OSError as error:
        return BadImage(path, error.strerror or type(error).__name__)
    facts = FileFacts(size, digest, picture.format, picture.mode, picture.width, picture.height, picture.rotated)
    return Examined(mtime_ns, facts, look)


def crashed(file: str, number: int) -> Examined | BadImage:
    """What is said of a file whose decoder dies by a signal."""
    return BadImage(file, f"its decoder crashes ({signal_name(number)})")


def _mtime_ns(path: Path) -> int:
    """When a file was modified last; -1 where it cannot be told: what is wrong with the file, its reader says."""
    try:
        return status(path).mtime_ns
    except (OSError, ValueError):
        return -1


class FactCache:
    """Facts and digests by file; a cache that cannot be opened or written is none.

    Another table name is due when the columns change, or when `read_image` refuses what it took before.
    """

    def __init__(self) -> None:
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            self._database = self._open(str(folder / "scan.sqlite"))
        except (OSError, sqlite3.Error):
            self._database = self._open(":memory:")

    def _open(self, name: str) -> sqlite3.Connection:
        database = sqlite3.connect(name, timeout=_TIMEOUT_S)
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS facts_v1 (path BLOB, max_pixels INTEGER, mtime_ns INTEGER, size INTEGER,"
                " sha256 TEXT, format TEXT, mode TEXT, width INTEGER, height INTEGER, rotated INTEGER,"
                " PRIMARY KEY (path, max_pixels)) WITHOUT ROWID"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS digests_v1 (path BLOB PRIMARY KEY, mtime_ns INTEGER, size INTEGER,"
                " sha256 TEXT) WITHOUT ROWID"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS looks_v1 (path BLOB, max_pixels INTEGER, mtime_ns INTEGER, size INTEGER,"
                " look BLOB, PRIMARY KEY (path, max_pixels)) WITHOUT ROWID"
            )
        except sqlite3.Error:
            database.close()
            raise
        return database

    def facts(self, files: Sequence[str], max_pixels: int) -> dict[str, FileFacts]:
        """What `put` was given for those files that are as they were, by file."""
        rows = self._kept("facts_v1", _FACTS, files, max_pixels)
        return {file: FileFacts._make((*row[:-1], bool(row[-1]))) for file, row in rows}

    def put(self, examined: Mapping[str, Examined], max_pixels: int) -> None:
        """Remember the facts of files."""
        with suppress(OSError, sqlite3.Error), self._database:
            for file, (mtime_ns, facts, _) in examined.items():
                self._database.execute(
                    "INSERT OR REPLACE INTO facts_v1 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (os.fsencode(file), max_pixels, mtime_ns, *facts),
                )

    def digest(self, file: str) -> str | None:
        """The SHA-256 of a file, hex, while it is as it was."""
        try:
            size, mtime_ns = status(file)
            row = self._database.execute(
                "SELECT sha256 FROM facts_v1 WHERE path = ?1 AND mtime_ns = ?2 AND size = ?3 UNION ALL"
                " SELECT sha256 FROM digests_v1 WHERE path = ?1 AND mtime_ns = ?2 AND size = ?3 LIMIT 1",
                (os.fsencode(file), mtime_ns, size),
            ).fetchone()
        except (OSError, ValueError, sqlite3.Error):
            return None
        return None if row is None else str(row[0])

    def put_digests(self, hashed: Mapping[str, _Hashed]) -> None:
        """Remember SHA-256s."""
        with suppress(OSError, sqlite3.Error), self._database:
            for file, found in hashed.items():
                self._database.execute(
                    "INSERT OR REPLACE INTO digests_v1 VALUES (?, ?, ?, ?)", (os.fsencode(file), *found)
                )

    def seen(self, files: Sequence[str], max_pixels: int) -> dict[str, tuple[FileFacts, bytes]]:
        """What `put` and `put_looks` were given for those files that are as they were, by file."""
        both = "facts_v1 JOIN looks_v1 USING (path, max_pixels, mtime_ns, size)"
        rows = self._kept(both, f"{_FACTS}, look", files, max_pixels)
        return {file: (FileFacts._make((*row[:-2], bool(row[-2]))), row[-1]) for file, row in rows}

    def _kept(
        self, table: str, columns: str, files: Sequence[str], max_pixels: int
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """Those files that are as they were, each with its row of `columns`, of which the first is the size."""
        names = {os.fsencode(file): file for file in files}
        marks = ",".join("?" * len(names))
        try:
            rows = self._database.execute(
                f"SELECT path, mtime_ns, {columns} FROM {table} WHERE max_pixels = ? AND path IN ({marks})",  # noqa: S608
                (max_pixels, *names),
            ).fetchall()
        except sqlite3.Error:
            return
        for name, mtime_ns, *row in rows:
            with suppress(OSError, ValueError):
                if status(names[name]) == (row[0], mtime_ns):
                    yield names[name], row

    def put_looks(self, looks: Mapping[str, tuple[int, int, bytes]], max_pixels: int) -> None:
        """Remember looks, each with the modification time and size of its file."""
        with suppress(OSError, sqlite3.Error), self._database:
            for file, found in looks.items():
                self._database.execute(
                    "INSERT OR REPLACE INTO looks_v1 VALUES (?, ?, ?, ?, ?)", (os.fsencode(file), max_pixels, *found)
                )

    def close(self) -> None:
        """Close the database."""
        self._database.close()
