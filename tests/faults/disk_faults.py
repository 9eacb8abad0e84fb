"""Disks that say no: at one byte of a file, at a sync, at a rename; and the system's own refusals."""

import ctypes
import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from forked import answer_of

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def refusal(number: int) -> OSError:
    """An error of the system."""
    return OSError(number, os.strerror(number))


class _Short(io.FileIO):
    """A file that takes so many bytes and no more."""

    def __init__(self, place: str, mode: str, room: int, number: int) -> None:
        super().__init__(place, mode)
        self._room, self._error = room, number

    def write(self, data: Any) -> int:  # noqa: ANN401  (any buffer)
        taken = super().write(memoryview(data)[: self._room])
        self._room -= taken
        if taken < len(data):
            raise refusal(self._error)
        return taken


@contextmanager
def short_file(name: str, room: int, number: int) -> Iterator[None]:
    """New files whose name holds `name` take `room` bytes."""
    real = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:  # noqa: ANN401
        if "x" not in mode or name not in Path(file).name:
            return real(file, mode, *args, **kwargs)
        stream = io.BufferedWriter(_Short(str(file), "x", room, number))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        yield


@contextmanager
def refused(call: str, nth: int, number: int) -> Iterator[None]:
    """The n-th call of a function of `os`, from 0 on, fails."""
    real, left = getattr(os, call), nth

    def fail(*args: object, **kwargs: object) -> object:
        nonlocal left
        left -= 1
        if left == -1:
            raise refusal(number)
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fail)
        yield


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes; Python ignores the signal that comes with the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


_NEW_NAMESPACE, _NEW_USER, _RECURSIVE, _PRIVATE = 0x00020000, 0x10000000, 0x4000, 0x40000


def on_small_disk(place: Path, size: int, work: Callable[[], dict[str, int]]) -> dict[str, int] | None:
    """What `work` counts in a process that sees a disk of `size` bytes at `place`; None where none may be mounted.

    The process has mounts of its own, so nothing is left of the disk once it has ended.
    """
    found: dict[str, int] | None = answer_of(lambda: work() if _mount(place, size) else None)
    return found


def _mount(place: Path, size: int) -> bool:
    system = ctypes.CDLL(None, use_errno=True)
    flags = _NEW_NAMESPACE | (0 if os.geteuid() == 0 else _NEW_USER)
    if system.unshare(flags) or system.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None):
        return False
    return not system.mount(b"tmpfs", bytes(place), b"tmpfs", 0, f"size={size}".encode())
