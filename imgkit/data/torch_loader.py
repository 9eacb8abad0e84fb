"""torch's data loader as it is used here, and what it lacks.

Its processes are started unheard by signals, stay from one pass to the next, and end at once, whatever they hold.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from imgkit.freed_memory import give_back_freed_memory
from imgkit.signals import HEARD

P = TypeVar("P")  # what a sample is made from
S = TypeVar("S")
_WAIT_S = 1
PREFETCH = 2
"""Batches that each worker has in hand or holds ready."""


class Asked(Generic[P]):
    """The places of the next pass, batch by batch; torch takes them as each one begins."""

    def __init__(self) -> None:
        self.places: Iterator[list[P]] = iter(())

    def __iter__(self) -> Iterator[list[P]]:
        """Those that are set now."""
        return self.places


def loader_of(
    pictures: Dataset[S],
    asked: Asked[P],
    collate: Callable[[Sequence[S]], object],
    workers: int,
    method: str,
    wait_s: float,
    prepare: Callable[[int], None],
) -> DataLoader[S]:
    """A loader of batches of samples, whose processes `started` starts.

    Args:
        pictures: samples by place.
        asked: places of each batch.
        collate: makes a batch of samples.
        workers: processes; 0: this one.
        method: how they are started, as multiprocessing names it.
        wait_s: seconds without a batch after which a RuntimeError says so.
        prepare: called in each process with its number.
    """
    with _unwarned():
        return DataLoader(
            pictures,
            batch_sampler=asked,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=prepare,
            prefetch_factor=PREFETCH if workers else None,
            multiprocessing_context=method if workers else None,
            generator=torch.Generator(),  # it would draw from the global one, for seeds that nothing reads
            timeout=wait_s if workers else 0,
            persistent_workers=workers > 0,
        )


def started(loader: DataLoader[S]) -> Iterator[Any]:
    """Start the processes; the iterator of the first pass, whose next ones are what `iter(loader)` gives.

    Raises:
        OSError: if the system has no room for processes and queues.
    """
    in_main = threading.current_thread() is threading.main_thread()
    child_signal = getattr(signal, "SIGCHLD", None)  # Windows has none
    previous = signal.getsignal(child_signal) if child_signal else None
    if loader.num_workers and loader.multiprocessing_context.get_start_method() == "fork":
        give_back_freed_memory()
    with signals_held(), _unwarned():
        iterator: Any = iter(loader)
    if child_signal and in_main:
        # torch's handler raises in whatever code runs when a worker dies; `next` notices it too.
        signal.signal(child_signal, previous)
    if loader.num_workers:
        iterator._workers_done_event = Done(iterator._workers_done_event)
    found: Iterator[Any] = iterator
    return found


class Done:
    """torch's event that says that all is over, as this process sees it: no lock of it is waited for.

    Processes look at the event for each batch, and one that is killed meanwhile holds its lock for ever.
    """

    def __init__(self, shared: Event) -> None:
        self._shared, self._set = shared, False

    def is_set(self) -> bool:
        """Whether this process has said so."""
        return self._set

    def set(self) -> None:
        """Say so; to processes, too, unless a dead one holds the lock: then there is nobody who need hear it."""
        self._set = True
        telling = threading.Thread(target=self._shared.set, daemon=True)
        telling.start()
        telling.join(_WAIT_S)


def take_no_precedence() -> None:
    """Have this process wait for its turn of a processor, of which it then has as much as others.

    One that wakes for a batch would interrupt a thread of the network, for which all others wait at the end of a layer.
    Measured on two cores with tf_efficientnet_lite0: 2 to 4 % more updates a second.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # else somebody has chosen another
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@contextmanager
def _unwarned() -> Iterator[None]:
    """More workers than cores, or a fork beside threads, is not wrong here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


@contextmanager
def signals_held() -> Iterator[None]:
    """Those for the main process wait meanwhile, and a worker inherits this: none finds it before it ignores them."""
    hold = getattr(signal, "pthread_sigmask", None)  # Windows has none
    if hold is None:
        yield
        return
    before = hold(signal.SIG_BLOCK, HEARD)
    try:
        yield
    finally:
        hold(signal.SIG_SETMASK, before)


def say_over(iterator: object) -> None:
    """Tell the processes of a DataLoader's iterator that what they have in hand is the last they need read."""
    done = getattr(iterator, "_workers_done_event", None)
    if done is not None:
        done.set()


def end(iterator: object) -> None:
    """End the processes of a DataLoader's iterator."""
    if any(worker.exitcode for worker in getattr(iterator, "_workers", ())):
        kill(iterator)  # torch would wait for the others, who may wait for what a dead one holds
    # torch has no public way to end workers before the iterator is garbage, which a traceback can put off.
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is not None:
        shut_down()
    kill(iterator)


def kill(iterator: object) -> None:
    """Kill them: they only read."""
    for worker in getattr(iterator, "_workers", ()):
        if worker.is_alive():
            worker.kill()
