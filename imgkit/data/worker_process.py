"""Inside a loader process: which row it has in hand, whose turn it is, and how a batch is handed over."""

import os
import shutil
import signal
import sys
import time
from ctypes import c_int64
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch
from torch.utils.data import get_worker_info

from imgkit.data.torch_loader import take_no_precedence
from imgkit.errors import DeviceError, brief
from imgkit.signals import HEARD, end_with_parent

T = TypeVar("T", bound=tuple[torch.Tensor, ...])
NONE = -1
"""Instead of a row: none is in hand."""
FEWER = "Use --workers 0, fewer workers, or give more shared memory (in Docker: --shm-size=2g)."
"""What helps where memory for batches is short."""
_LOOK_S = 5
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
_SHARED = Path("/dev") / "shm"


class Watch:
    """What processes and the main one tell each other: which row each has in hand, and whose turn it is.

    Args:
        workers: how many processes.
        method: how they are started, as multiprocessing names it.
        in_turn: whether they wait for turns, each for a part of a batch; at first everybody has one.
    """

    def __init__(self, workers: int, method: str, *, in_turn: bool = False) -> None:
        self.workers = workers
        context = get_context(method)
        # For each the row, and how many it took up. There is one cell more than needed: of none none can be shared.
        self._cells = context.RawArray(c_int64, [*[NONE, 0] * workers, 0])
        self._turns = [context.Semaphore(1) for _ in range(workers)] if in_turn else []
        self._next = 0  # the process that has the next turn

    def row(self, number: int) -> int:
        """What a process has in hand, or -1."""
        return int(self._cells[2 * number])

    def now(self) -> list[int]:
        """The state of all, in numbers that change as they get on."""
        return list(self._cells)

    def busy(self) -> list[int]:
        """The rows that are in hand."""
        return [row for row in map(self.row, range(self.workers)) if row != NONE]

    def begin(self) -> None:
        """A pass over the data begins: each process has at least one turn left, and the first one is the next."""
        self._next = 0

    def grant(self, parts: int) -> None:
        """Let so many parts of batches more be read, by one process after the other, as parts are handed out."""
        for _ in range(parts if self._turns else 0):
            self._turns[self._next % self.workers].release()
            self._next += 1

    def take_up(self, number: int, row: int) -> None:
        """In a process: have `row` in hand, the first one of a batch or part when it is its turn; -1: none any more."""
        if self._turns and row != NONE and self.row(number) == NONE:
            main = parent_process()
            while not self._turns[number].acquire(timeout=_LOOK_S):
                if main is not None and not main.is_alive():
                    os._exit(1)  # nobody is left to let it go on
        self._cells[2 * number] = row
        self._cells[2 * number + 1] += 1


_watch: Watch | None = None  # in a loader process


def reading(row: int) -> None:
    """Tell the main process that this one now has `row` in hand; -1: none any more."""
    info = get_worker_info()
    if _watch is not None and info is not None:
        _watch.take_up(info.id, row)


def shared(batch: T) -> T | DeviceError:
    """`batch` in memory that the main process can read, if this is a loader process.

    torch would do it in a thread of its own, where an error is printed and nobody hears of it: the main process would
    wait for ever.
    """
    reading(NONE)
    if _watch is not None:
        try:
            for tensor in batch:
                tensor.share_memory_()
        except (RuntimeError, OSError) as error:
            return DeviceError(
                f"A batch cannot be handed over by a loader process{memory_left()}: {brief(error)}", FEWER
            )
    return batch


def prepare_worker(watch: Watch, number: int) -> None:
    """What a process does first; `number` is its own."""
    global _watch  # noqa: PLW0603  (a process has one)
    _watch = watch
    # A signal to the whole group is for the main process: it finishes its step, saves, and ends the workers.
    for one in HEARD:
        signal.signal(one, signal.SIG_IGN)
    end_with_parent(_KILL)  # torch notices after seconds, in which this process would hold the run's lock
    sys.excepthook = _tell
    take_no_precedence()
    torch.set_num_threads(1)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error of a worker's threads; not that a batch was being handed over when the main process was killed."""
    if not (isinstance(error, EOFError | ConnectionError) and _is_orphan()):
        sys.__excepthook__(kind, error, trace)


def _is_orphan() -> bool:
    """Whether the main process is gone; its pipes break a moment before the system gives this one another parent."""
    main = parent_process()
    for _ in range(20):
        if main is None or os.getppid() != main.pid:
            return main is not None
        time.sleep(0.05)
    return False


def memory_left() -> str:
    """How much shared memory there is, in brackets after a space; nothing where that cannot be told."""
    if not os.path.ismount(_SHARED):
        return ""
    usage = shutil.disk_usage(_SHARED)
    return f" ({_SHARED} has {usage.free >> 20:,} of {usage.total >> 20:,} MiB free)"
