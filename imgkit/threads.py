"""Work by threads, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(
    items: Iterable[Item],
    work: Callable[[Item], Made],
    threads: int,
    ahead: int,
    begin: Callable[[], None] | None = None,
) -> Generator[Made, None, None]:
    """What threads make of items, in order; at most `ahead` of them are taken before they are asked for.

    Each thread calls `begin` first. Closing the generator ends the threads, once what they have in hand is done.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
