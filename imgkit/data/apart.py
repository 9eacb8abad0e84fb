"""Work in a process beside this one, so that what crashes it costs one answer and not the command."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

from imgkit.signals import HEARD

FORKS = sys.platform == "linux"
"""Whether there is a fork that takes a hundredth of a second, as of loader processes."""
T = TypeVar("T")
R = TypeVar("R")


class Apart(Generic[T, R]):
    """Does `work` on items in a forked process with several threads, which starts at the first items.

    On systems without a cheap fork the work is done in this process.

    Args:
        work: takes an item.
        crashed: the answer for an item whose work ends its process, by the number of the signal.
        threads: that work at once.
    """

    def __init__(self, work: Callable[[T], R], crashed: Callable[[T, int], R], threads: int) -> None:
        self._work, self._crashed, self._threads = work, crashed, threads
        self._process: _Process[T, R] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.end()

    def start(self) -> None:
        """Fork now, where there is a fork: of several, from one thread, so that each hears when this process ends.

        A process holds the pipes of those before it, and none of those after it.
        """
        if FORKS and self._process is None:
            self._process = _Process(self._work, self._threads)

    def map(self, items: Sequence[T]) -> list[R]:
        """The answers to `items`, in order. Where the process dies, each of them has one of its own."""
        if not items:
            return []
        if not FORKS:
            with ThreadPoolExecutor(self._threads) as pool:
                return list(pool.map(self._work, items))
        try:
            return self._asked(items)
        except _Died as died:
            if len(items) == 1:
                return [self._crashed(items[0], died.signal)]
            return [answer for item in items for answer in self.map([item])]

    def _asked(self, items: Sequence[T]) -> list[R]:
        if self._process is None:
            self._process = _Process(self._work, self._threads)
        try:
            return self._process.ask(items)
        except _Died:
            self._process = None
            raise


class _Died(Exception):
    """The process ended by a signal, or 0 where it just went."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class _Process(Generic[T, R]):
    """A forked process that answers lists of items."""

    def __init__(self, work: Callable[[T], R], threads: int) -> None:
        context = get_context("fork")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._pipe, work, threads), daemon=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            self._process.start()
        other.close()  # else its end would never be told

    def ask(self, items: Sequence[T]) -> list[R]:
        try:
            self._pipe.send(items)
            answers: list[R] | Exception = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise _Died(max(0, -(self._process.exitcode or 0))) from None
        if isinstance(answers, Exception):
            raise answers
        return answers

    def end(self) -> None:
        self._pipe.close()
        self._process.kill()  # it holds nothing that could be lost
        self._process.join()


def _serve(pipe: Connection, other: Connection, work: Callable[[T], R], threads: int) -> None:
    """Answer until the other end is closed, which it also is where the main process is killed."""
    other.close()
    for one in HEARD:  # a signal to the whole group is for the main process
        signal.signal(one, signal.SIG_IGN)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            try:
                items: Sequence[T] = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            try:
                answer: list[R] | Exception = list(pool.map(work, items))
            except Exception as error:
                answer = error
            pipe.send(answer)
