"""The processes that load batches: started, watched, replaced where one dies, ended.

What a batch holds is a function of its places, so that fresh processes read it again to the same bits. Each process
tells which row it has in hand, and whoever dies over a picture or never comes back from it is known by that.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from imgkit.data.torch_loader import PREFETCH, Asked, end, kill, loader_of, say_over, started
from imgkit.data.worker_process import FEWER, NONE, Watch, memory_left, prepare_worker
from imgkit.errors import BadImage, DeviceError, ImgkitError, brief, printable
from imgkit.signals import signal_name

P = TypeVar("P")  # what a sample is made from
S = TypeVar("S")
T = TypeVar("T", bound=tuple[torch.Tensor, ...])
PATIENCE = 300
"""Waits of a second without a batch, and without a picture begun, after which processes are given up."""
_WAIT_S = 1
_RESTARTS = 3  # in one pass over the data: more deaths are no accident


class _Died(DeviceError):
    """A process died; `row` is what it had in hand, or -1."""

    row = NONE


def start_method() -> str:
    """How processes are started: forked on Linux, in a hundredth of a second; elsewhere as Python does.

    They never touch the device, so a fork is safe after CUDA has started.
    """
    return "fork" if sys.platform == "linux" else "spawn"


class Reader(Generic[P, S, T]):
    """Batches of samples, pass after pass; its processes are started by the first one and stay until it is closed.

    Args:
        pictures: samples by place.
        collate: makes a batch of samples, or tells the error among them.
        workers: processes; 0: this one.
        path: the file of a row.
        warn: told what was done again.
        join: makes a batch of its parts. Then each process reads a part of every batch, while the main one waits for
            it. None: each process reads whole batches, ahead.
    """

    def __init__(
        self,
        pictures: Dataset[S],
        collate: Callable[[Sequence[S]], T | ImgkitError],
        workers: int,
        path: Callable[[int], Path],
        warn: Callable[[str], object],
        join: Callable[[Sequence[T]], T] | None = None,
    ) -> None:
        self._pictures, self._collate, self._workers = pictures, collate, workers
        self._path, self._warn, self._join = path, warn, join if workers else None
        self._asked = Asked[P]()
        self._running: tuple[DataLoader[S], Iterator[T | ImgkitError], Watch] | None = None

    def batches(self, places: Iterable[list[P]]) -> Generator[T, None, None]:
        """Batches of `places`, in order; a generator that is left before its end ends the processes.

        Where one dies, fresh ones go on with the batch that is due, and `warn` is told: most often memory was short for
        a moment. The second death over one row is that file's fault. No batch is read in this process instead: what
        killed another one would kill the run.

        Raises:
            BadImage: a file that cannot be read, kills whoever reads it, or never ends.
            DeviceError: if processes die for other reasons, or batches cannot be handed over.
        """
        return self._read(places) if self._join is None else self._joined(places, self._join)

    def _joined(self, places: Iterable[list[P]], join: Callable[[Sequence[T]], T]) -> Generator[T, None, None]:
        """Batches of which each process reads a part, at most."""
        counts = deque[int]()

        def parts() -> Iterator[list[P]]:
            for batch in places:
                each = -(-len(batch) // self._workers)
                cut = [batch[at : at + each] for at in range(0, len(batch), each)]
                counts.append(len(cut))
                yield from cut

        with closing(self._read(parts())) as read:
            for first in read:
                count = counts.popleft()
                yield join([first, *islice(read, count - 1)])
                if self._running is not None:  # the next one is asked for
                    self._running[2].grant(count)

    def _read(self, places: Iterable[list[P]]) -> Generator[T, None, None]:
        """What processes make of `places`, in order."""
        due: deque[list[P]] = deque()  # asked of processes and not given yet, the next one first
        left, deaths, whole = iter(places), list[int](), False
        while True:
            again, due = due, deque()
            iterator, watch = self._begun(_noted(chain(again, left), due))
            try:
                for batch in _patient(iterator, watch, self._path):
                    due.popleft()
                    if isinstance(batch, ImgkitError):
                        raise batch
                    yield batch
                whole = True
                return
            except _Died as died:
                if died.row != NONE and died.row in deaths:
                    why = "loader processes die of reading it, again and again"
                    raise BadImage(self._path(died.row), why) from died
                deaths.append(died.row)
                if len(deaths) > _RESTARTS:
                    raise DeviceError(died.message, died.hint) from died
                told = f"{died.message}. Fresh ones read the batch again, to the same bits."
            finally:
                if not whole:
                    self.close()
            self._warn(told)

    def start(self) -> None:
        """Start the processes, for a pass that comes later.

        Raises:
            DeviceError: if the system has no room for them.
        """
        self._begun(iter(()))

    def close(self) -> None:
        """End the processes."""
        if self._running is not None:
            _, iterator, watch = self._running
            say_over(iterator)
            watch.grant(PREFETCH * self._workers)  # so that nobody waits for a turn and hears of nothing
            end(iterator)
        self._running = None

    def _begun(self, places: Iterator[list[P]]) -> "tuple[Iterator[T | ImgkitError], Watch]":
        """A pass that begins, by the processes that are there or by new ones."""
        self._asked.places = places
        if self._running is not None:
            loader, iterator, watch = self._running
            watch.begin()
            try:
                return iter(loader), watch
            except (RuntimeError, EOFError, OSError):  # one has died since the last pass, or answers late
                if (died := _died(iterator, watch, self._path)) is not None:
                    self._warn(f"{died.message}. Fresh ones take over.")
                kill(iterator)
                self.close()
        try:
            watch = Watch(self._workers, start_method(), in_turn=self._join is not None)
            prepare = partial(prepare_worker, watch)
            loader = loader_of(
                self._pictures, self._asked, self._collate, self._workers, start_method(), _WAIT_S, prepare
            )
            iterator = started(loader)
        except OSError as error:  # its queues need shared memory, files and processes
            raise DeviceError(f"Loader processes cannot be started{memory_left()}: {brief(error)}", FEWER) from error
        self._running = loader, iterator, watch
        return iterator, watch


def load(
    pictures: Dataset[S],
    places: Iterable[list[P]],
    collate: Callable[[Sequence[S]], T | ImgkitError],
    workers: int,
    path: Callable[[int], Path],
    warn: Callable[[str], object],
    join: Callable[[Sequence[T]], T] | None = None,
) -> Generator[T, None, None]:
    """The batches of one pass over `places`, see `Reader`; at its end, or where it is closed, its processes end."""
    reader: Reader[P, S, T] = Reader(pictures, collate, workers, path, warn, join)
    with closing(reader), closing(reader.batches(places)) as batches:
        yield from batches


def _noted(places: Iterable[list[P]], due: deque[list[P]]) -> Iterator[list[P]]:
    for one in places:
        due.append(one)
        yield one


def _patient(
    iterator: Iterator[T | ImgkitError], watch: Watch, path: Callable[[int], Path]
) -> Iterator[T | ImgkitError]:
    """What `iterator` gives; a process that dies or never comes back is an error."""
    with _Guard(iterator, watch) as guard:
        while True:
            guard.waiting = True
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, EOFError, OSError) as error:  # which one depends on what the process was doing
                died = _died(iterator, watch, path)
                if guard.stuck is not None:  # looked at after that: it may be the guard who killed
                    raise _never_ends(guard.stuck, path) from error
                if died is not None:
                    raise died from error
                if not str(error).startswith("DataLoader timed out"):
                    raise
                continue
            guard.waiting, guard.given = False, guard.given + 1
            yield batch


class _Guard:
    """Kills the processes that keep this one waiting.

    A thread does: this one may wait for a process that has a batch ready and cannot hand it over.

    Attributes:
        waiting: whether a batch is being waited for.
        given: how many came.
        stuck: the rows in hand as patience ended; None: it has not.
    """

    def __init__(self, iterator: object, watch: Watch) -> None:
        self.waiting, self.given = False, 0
        self.stuck: list[int] | None = None
        self._iterator, self._watch = iterator, watch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True) if watch.workers else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        waits, before = 0, [0]
        while not self._over.wait(_WAIT_S):
            now = [self.given, *self._watch.now()] if self.waiting else []
            waits = waits + 1 if now and now == before else 0  # waits and no time: a machine may sleep
            before = now
            if waits >= PATIENCE:
                self.stuck = self._watch.busy()
                kill(self._iterator)
                return


def _died(iterator: object, watch: Watch, path: Callable[[int], Path]) -> _Died | None:
    """The error of the first process that has died; None while all live."""
    workers = getattr(iterator, "_workers", ())
    ended = wait([worker.sentinel for worker in workers], 0.1)  # the broken pipe may be seen before that
    for number, worker in enumerate(workers):
        worker.join(1 if worker.sentinel in ended else 0)  # and that before the exit code
        if worker.exitcode not in (None, 0):
            died = _worker_died(watch, worker.exitcode, watch.row(number), path)
            died.row = watch.row(number)
            return died
    return None


def _worker_died(watch: Watch, code: int, row: int, path: Callable[[int], Path]) -> _Died:
    """The error for a process that ended with `code`: minus a signal, or its exit status."""
    how = f"was killed ({signal_name(-code)})" if code < 0 else f"ended (exit status {code})"
    while_ = "" if row == NONE else f" while it read {printable(str(path(row)))}"
    return _Died(
        f"one of the {watch.workers} loader processes {how}{while_}, most often for lack of memory or of shared memory"
        f"{memory_left()}",
        FEWER,
    )


def _never_ends(rows: list[int], path: Callable[[int], Path]) -> ImgkitError:
    if rows:
        return BadImage(path(rows[0]), f"its reading has not ended within {PATIENCE * _WAIT_S:.0f} s")
    return DeviceError(f"No loader process gave a batch within {PATIENCE * _WAIT_S:.0f} s{memory_left()}.", FEWER)
