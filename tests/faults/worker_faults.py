"""Files that do something to the loader process that opens them."""

import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

from imgkit.data.index import Index

LONG_S = 8  # what hangs ends by itself, so that nothing is left of a test that fails


def killed(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def killed_with_lock() -> None:
    """While it looks whether torch's event is set, as each process does for each batch."""
    frame = sys._getframe()
    while "done_event" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    frame.f_locals["done_event"]._cond.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS: dict[str, Callable[[], object]] = {
    "a crash": lambda: (faulthandler.disable(), ctypes.string_at(0)),  # it is meant, so nobody needs its traceback
    **{name: killed(signal.Signals[name]) for name in ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")},
    "SIGKILL with a lock": killed_with_lock,
    "an exit": lambda: os._exit(3),
    "a bug": lambda: 1 // 0,
    "no end": lambda: time.sleep(LONG_S),
}


@dataclass(frozen=True, eq=False)
class Faulty(Index):
    """An index of which opening the file of `bad` does a fault in a loader process.

    Attributes:
        fault: of FAULTS.
        bad: the row.
        mark: a file that says it has been done, where it is done once; None: each time.
    """

    fault: str = ""
    bad: int = -1
    mark: Path | None = None

    def path(self, row: int) -> Path:
        if row == self.bad and parent_process() is not None and not (self.mark and self.mark.exists()):
            if self.mark:
                self.mark.touch()
            faulthandler.disable()  # pytest has it tell where
            FAULTS[self.fault]()
        return super().path(row)
