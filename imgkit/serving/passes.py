"""Pictures of several requests go through the network together: what comes during one pass goes into the next."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Ask = Callable[[Sequence[torch.Tensor]], npt.NDArray[np.float64]]
    Asked = tuple[torch.Tensor, asyncio.Future[npt.NDArray[np.float64]]]

MOST = 32
"""Pictures in a pass, as in `predict`."""


class Passes:
    """One pass at a time, in a thread of its own. Nobody waits for a batch to fill: a picture alone goes alone.

    Args:
        ask: the network: pictures uint8 (C, H, W) -> probabilities (B, K); one thread calls it.
        most: pictures in a pass.
    """

    def __init__(self, ask: "Ask", most: int = MOST) -> None:
        self._ask, self._most = ask, most
        self._waiting: deque[Asked] = deque()
        self._thread = ThreadPoolExecutor(1, "pass")
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, image: "torch.Tensor") -> "npt.NDArray[np.float64]":
        """The probabilities (K,) of a picture uint8 (C, H, W).

        Raises:
            Exception: what the network raised at the pass.
        """
        answer: asyncio.Future[npt.NDArray[np.float64]] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._go())
        return await answer

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            chunk = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            found: Iterable[npt.NDArray[np.float64] | Exception]
            try:
                found = await loop.run_in_executor(self._thread, self._ask, [image for image, _ in chunk])
            except Exception as error:
                found = [error] * len(chunk)
            for (_, answer), one in zip(chunk, found, strict=True):
                if answer.done():  # nobody waits for it any more
                    continue
                if isinstance(one, Exception):
                    answer.set_exception(one)
                else:
                    answer.set_result(one)
