"""What torch's data loader lacks: to end its processes at once, whatever they hold, and to start them unheard."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

from imgkit.signals import HEARD

_WAIT_S = 1


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
