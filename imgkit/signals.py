"""Signals only set a flag; the training loop looks at it between steps. Before it, they end a command cleanly."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Final

Watched = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a line of progress with a label; what it gives takes (done, total), and stops the run when somebody asked."""


SAVE: Final = getattr(signal, "SIGUSR1", None)
"""Asks for a checkpoint; the run goes on. Windows has no such signal."""
_HANG_UP: Final = getattr(signal, "SIGHUP", None)  # the terminal was closed
HEARD: Final = tuple(one for one in (signal.SIGINT, signal.SIGTERM, _HANG_UP, SAVE) if one is not None)
_ENDS: Final = {128 + one: one for one in HEARD if one != SAVE}  # by exit code
_AGAIN_S: Final = 0.1  # s, which is outside of what dropped it
_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG, prctl(2)
_AT_ONCE: Final = b"\nStopped at once: what came after the last checkpoint is lost. Go on:  imgkit resume latest\n"


class Request:
    """What somebody asked of the run by a signal.

    Attributes:
        stop: number of the signal that asked to stop, or None.
        save: whether a checkpoint was asked for; whoever writes it sets this back.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False

    def heed(self) -> None:
        """End this process if it was asked to stop, where nothing is to be saved.

        Raises:
            SystemExit: then.
        """
        if self.stop is not None:
            raise SystemExit(128 + self.stop)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; a second SIGINT ends the process at once (the next start cleans up)."""
        if number == SAVE:
            self.save = True
            return
        if self.stop is not None and number == signal.SIGINT:
            with suppress(OSError):
                os.write(2, _AT_ONCE)  # no print: what holds its lock may be what this interrupts
            os._exit(130)
        self.stop = number


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """While inside, SIGTERM and a closed terminal end a command as Ctrl-C does: what it began to write is removed.

    The wish for a checkpoint is heard by a training alone, see `hear_signals`; it ends nothing before or after it.
    Signals that are heard or ignored already stay so, and outside the main thread nothing is changed.
    """
    found = [number for number in HEARD if signal.getsignal(number) is signal.SIG_DFL]
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, _leave) for number in found if here}
    hook = sys.unraisablehook
    if here:
        sys.unraisablehook = _ask_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _ask_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Python drops what a signal raises while a forgotten generator is closed; then the signal comes once more."""
    error = dropped.exc_value
    code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else getattr(error, "code", None)
    if code not in _ENDS or not hasattr(signal, "setitimer"):  # Windows has none
        sys.__unraisablehook__(dropped)
        return
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), _ENDS[code]))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)  # no thread, in whose start the signal could be dropped again


def _leave(number: int, frame: FrameType | None) -> None:
    if number != SAVE:
        raise SystemExit(128 + number)


@contextmanager
def hear_signals() -> Iterator[Request]:
    """While inside, the signals of HEARD only set a flag, except those ignored before, as nohup does with SIGHUP.

    Outside the main thread nothing is changed.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heard = [number for number in HEARD if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_name(number: int) -> str:
    """`SIGSEGV`; of a number that has no name, the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_with_parent(number: int) -> None:
    """On Linux: be sent a signal when the process that started this one is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, number)
