"""A picture inside a larger file, named like a file: `shard-00012.tar#000000001536+4321/cat/0001.jpg`.

Before the mark is a tar shard or an Arrow file, on a disk or behind a URL; then come where the picture's bytes begin,
how many they are, and what it is called. Whatever reads pictures asks here for their bytes, so that all which goes
by path (messages, caches, a run's index, resume) is the same for a file and for a part of one.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from imgkit.errors import ImgkitError, brief

MARK = "#"
DIGITS = 12
"""Of an offset at least, so that paths sort by it: a shard has less than 10^12 bytes."""
EMPTY = "empty file (0 bytes)"
"""What a picture without content is called."""
AGAIN_S = (0.5, 4.0)
"""Pauses after which a remote picture is asked for again."""
_FORM = re.compile(rf"(?P<file>.+?\.(?:tar|arrow))#(?P<offset>[0-9]{{{DIGITS}}})\+(?P<size>[0-9]+)/(?P<name>.+)", re.S)
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>[^/].*)", re.S)  # two letters: C:/ is a drive
_SHORT = "its shard ends within it"
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class ByteRange(NamedTuple):
    """A part of a file."""

    file: str  # a path, or a URL
    offset: int  # bytes
    size: int  # bytes
    name: str


class Status(NamedTuple):
    """What tells that a picture is as it was."""

    size: int  # bytes
    mtime_ns: int  # of the file that it is in; of a remote one a number that changes with it


def parse(path: str | os.PathLike[str]) -> ByteRange | None:
    """The part of a file that a path means; None: a file of its own."""
    text = _slashed(path)
    match = _FORM.fullmatch(text) if MARK in text else None
    if match is None:
        return None
    return ByteRange(url_of(match["file"]) or match["file"], int(match["offset"]), int(match["size"]), match["name"])


def url_of(path: str | os.PathLike[str]) -> str:
    """The URL that a path or a text means, `s3://bucket/x.tar` of Path("s3:/bucket/x.tar") too; "" where it is none."""
    match = _URL.fullmatch(_slashed(path))
    if match is None:
        return ""
    scheme = match["scheme"].lower()
    return f"{scheme}:///{match['rest']}" if scheme == "file" else f"{scheme}://{match['rest']}"


def _slashed(path: str | os.PathLike[str]) -> str:
    """A path with the slashes that it was made of: on Windows a `Path` turns them around."""
    return os.fspath(path).replace(os.sep, "/")


def resolved(path: Path) -> str:
    """A path from the root of the file system and without links, or the URL that it means, for a run's files."""
    return url_of(path) or str(path.resolve())


def holder(path: str) -> str:
    """The file that holds a picture: a picture's own file, or its shard."""
    part = parse(path)
    return path if part is None else part.file


def opened(path: str | os.PathLike[str]) -> BufferedReader | BytesIO:
    """The bytes of a picture as a stream.

    Raises:
        OSError: if they cannot be read, or a shard has not as many.
    """
    part = parse(path)
    return Path(path).open("rb") if part is None else BytesIO(_read(part))


def status(path: str | os.PathLike[str]) -> Status:
    """The size of a picture's bytes, and when the file that holds them was written.

    Raises:
        OSError: if there is no such file, or a shard has not as many bytes.
        ValueError: if a path can be none.
    """
    part = parse(path)
    if part is None:
        return _status_of(path)
    found = remote_status(part.file) if url_of(part.file) else _status_of(part.file)
    if part.offset + part.size > found.size:
        raise OSError(0, _SHORT, os.fspath(path))
    return Status(part.size, found.mtime_ns)


def check_regular(path: str | os.PathLike[str]) -> str:
    """Why a picture's file is none that can be read without an end or an error; "" where it can.

    Raises:
        OSError: if there is no such file.
    """
    part = parse(path)
    file = os.fspath(path) if part is None else part.file
    if part is None or not url_of(file):
        found = os.stat(file)  # noqa: PTH116  # a Path for each of a million files takes longer than its look-up
        if stat.S_ISDIR(found.st_mode):
            return "a folder"
        if not stat.S_ISREG(found.st_mode):  # reading a FIFO or /dev/zero would never end
            return "not a regular file"
        if part is None:
            return "" if found.st_size else EMPTY
    return "" if part is None or part.size else "empty (0 bytes)"


def file_system(url: str) -> tuple[Any, str]:
    """Who reads a URL, a file system of fsspec, and what it calls the URL.

    Raises:
        ImportError: if the package for such URLs is missing; its text names it.
        ValueError: if there are no such URLs.
    """
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, path


def _read(part: ByteRange) -> bytes:
    if url_of(part.file):
        with faults_of(part.file):
            content = _fetched(part)
        if len(content) > part.size:
            raise OSError(0, "its server gives whole files and no ranges of them", part.file)
    else:
        content = _pread(part)
    if len(content) != part.size:
        raise OSError(0, _SHORT, part.file)
    return content


def _fetched(part: ByteRange) -> bytes:
    """The bytes of a remote part, asked for again where a network or a server fails for a moment."""
    system, path = file_system(part.file)
    for pause_s in (*AGAIN_S, None):
        try:
            content: bytes = system.cat_file(path, start=part.offset, end=part.offset + part.size)
        except Exception as error:  # each package of fsspec has errors of its own
            if pause_s is None or isinstance(error, FileNotFoundError | PermissionError):
                raise
            time.sleep(pause_s)
        else:
            break
    return content


def _pread(part: ByteRange) -> bytes:
    if part.offset + part.size > os.stat(part.file).st_size:  # noqa: PTH116  # as above; before memory is asked for it
        raise OSError(0, _SHORT, part.file)
    number = os.open(part.file, _READ)
    try:
        with os.fdopen(number, "rb", buffering=0, closefd=False) as file:
            file.seek(part.offset)
            content = file.read(part.size) or b""
            while len(content) < part.size and (more := file.read(part.size - len(content))):
                content += more
            return content
    finally:
        os.close(number)


def _status_of(file: str | os.PathLike[str]) -> Status:
    found = os.stat(file)  # noqa: PTH116  # as above
    return Status(found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def remote_status(url: str) -> Status:
    """That of a whole remote file, asked for once by each process.

    Raises:
        OSError: if there is no such file.
    """
    with faults_of(url):
        system, path = file_system(url)
        about: dict[str, Any] = system.info(path)
        stamp = hashlib.blake2b(str(system.ukey(path)).encode(), digest_size=7).digest()
        return Status(int(about["size"]), int.from_bytes(stamp, "big"))


@contextmanager
def faults_of(place: str) -> Iterator[None]:
    """Raise an OSError of what keeps a URL from being read: each of fsspec's packages has errors of its own.

    Of a path nothing is changed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError | ImgkitError) or not url_of(place):
            raise
        raise OSError(0, brief(error) or type(error).__name__, place) from error
