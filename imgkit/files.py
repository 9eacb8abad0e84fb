"""Files that are old or new but never half, and on the disk when that is said."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from imgkit.quantity import about_bytes

_WINDOWS = os.name == "nt"
_LEFTOVER = re.compile(r"^\.(.+\.tmp|trash)-[0-9a-f-]+$")
_ASIDE = re.compile(r"^\.(.+)\.was-[0-9a-f]+-[0-9a-f]+$")
_LEFT_S = 24 * 3600.0  # age from which a hidden leftover is of no process that still writes


@contextmanager
def whole_file(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """A stream to a hidden neighbour of `file`, which takes its place at the end of the block.

    At an error the old file stays. A link is followed; a pipe or a device is written as it is.

    Args:
        file: to write as UTF-8; a name that is none keeps its bytes.
        newline: see `open`.

    Raises:
        OSError: if the disk says no.
    """
    place = Path(os.path.realpath(file)) if file.is_symlink() else file
    if place.exists() and not place.is_file():
        with place.open("w", encoding="utf-8", errors="surrogateescape", newline=newline) as stream:
            yield stream
        return
    temporary = neighbour(place)
    try:
        with temporary.open("x", encoding="utf-8", errors="surrogateescape", newline=newline) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_bytes(file: Path, content: bytes) -> None:
    """Write `file` as `whole_file` does, at once.

    Raises:
        OSError: if the disk says no.
    """
    place = Path(os.path.realpath(file)) if file.is_symlink() else file
    if place.exists() and not place.is_file():
        place.write_bytes(content)
        return
    temporary = neighbour(place)
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def neighbour(place: Path) -> Path:
    """A hidden name beside `place`, to write under before the rename."""
    return place.with_name(f".{place.name}.tmp-{os.getpid():x}-{os.urandom(4).hex()}")


def is_leftover(name: str) -> bool:
    """Whether a name is one that a write or a removal has until it is done."""
    return _LEFTOVER.match(name) is not None


def sweep(place: Path) -> None:
    """Remove what writes that were killed over a day ago left in `place`, by its hidden names and its age.

    What this process writes stays: the disk's clock may be another one.
    """
    own = f"-{os.getpid():x}-"
    for entry in place.iterdir() if os.access(place, os.R_OK) else ():
        with suppress(OSError):  # another process may remove it, too
            old = time.time() - entry.lstat().st_mtime > _LEFT_S
            if old and own not in entry.name and is_leftover(entry.name):
                remove(entry)


def remove(entry: Path) -> None:
    """A file, or a folder with all that is in it; of a link, the link alone."""
    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def sync(place: Path) -> None:
    """Have the disk keep a file's content, or the names in a folder, which Windows cannot be asked for.

    Raises:
        OSError: if the disk says no.
    """
    if _WINDOWS and place.is_dir():
        return
    descriptor = os.open(place, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Give a folder that is whole the name `folder`, in place of one that is there, once the disk has it.

    Raises:
        OSError: if the disk says no; what was there before stays.
    """
    for place in (*temporary.rglob("*"), temporary):
        sync(place)
    if not folder.exists():
        temporary.rename(folder)
        sync(folder.parent)
        return
    aside = folder.rename(folder.with_name(f".{folder.name}.was-{os.getpid():x}-{os.urandom(4).hex()}"))
    try:
        temporary.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def put_back(place: Path) -> None:
    """Finish what a kill between the two renames of a replacement left in `place`: the old folder is still there."""
    for entry in list(place.iterdir()):
        if match := _ASIDE.match(entry.name):
            target = place / match[1]
            shutil.rmtree(entry, ignore_errors=True) if target.exists() else entry.rename(target)


def check_space(folder: Path, size: int) -> None:
    """See that `size` bytes, and a tenth more, are free where `folder` lies.

    Raises:
        OSError: if they are not.
    """
    if shutil.disk_usage(folder).free < 1.1 * size:
        raise OSError(f"too little room, {room(folder, size)}")


def room(folder: Path, size: int) -> str:
    """`12 MiB needed, 3 MiB free`: what a write of `size` bytes asks of the disk of `folder`, for people.

    Raises:
        OSError: if the disk does not say what is free.
    """
    return f"{about_bytes(size)} needed, {about_bytes(shutil.disk_usage(folder).free)} free"


def cache_folder() -> Path:
    """$IMGKIT_CACHE, else ~/.cache/imgkit. Need not exist."""
    return Path(os.environ.get("IMGKIT_CACHE") or Path.home() / ".cache" / "imgkit")
