"""Batches on their way to a GPU while it computes on the one before."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from imgkit.data.batches import Batch


class Ahead:
    """The batches of `batches`, in order; on CUDA one is sent while the one before is in use.

    Whoever uses a batch asks the device for its work, then calls `fetch`, then waits for the answer: so that the next
    batch is taken from its loader, and copied by a stream of its own from memory that the system does not move, while
    the device computes. Elsewhere `fetch` does nothing, and a batch stays where it was made.

    Args:
        batches: in the processor's memory.
        device: where they are used.
        whole: whether they are used whole; else only their copy in memory that does not move is made ahead, since a
            batch that is used in parts may be one for which the device has no room.
    """

    def __init__(self, batches: Iterator[Batch], device: torch.device, *, whole: bool = True) -> None:
        self._batches, self._device, self._whole = batches, device, whole
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: Batch | None = None
        self._error: Exception | None = None

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Batch:
        """The next batch: on the device if it was fetched and is used whole, but for its ids.

        Raises:
            Exception: what the loader raised, as this batch was fetched or now.
        """
        if self._error is not None:
            raise self._error
        if self._next is None or self._stream is None:
            return next(self._batches)
        found, self._next = self._next, None
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for tensor in (found.images, found.targets):
            if tensor.is_cuda:
                tensor.record_stream(current)  # its memory is another's once that has used it, not before
        return found

    def close(self) -> None:
        """Let go of a batch that nobody will use."""
        self._next, self._batches = None, iter(())

    def fetch(self) -> None:
        """Begin to send the next batch, if the device computes beside this process; an error waits for its turn."""
        if self._stream is None or self._next is not None or self._error is not None:
            return
        try:
            batch = next(self._batches, None)
            if batch is not None:
                with torch.cuda.stream(self._stream):
                    self._next = batch._replace(images=self._sent(batch.images), targets=self._sent(batch.targets))
        except Exception as error:  # whatever it is, the batch in use is not to blame
            self._error = error

    def _sent(self, values: Tensor) -> Tensor:
        pinned = values.pin_memory()
        return pinned.to(self._device, non_blocking=True) if self._whole else pinned
