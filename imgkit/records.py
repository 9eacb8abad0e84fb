"""What a run writes down while it trains: rows of steps.jsonl and history.jsonl, and the same for TensorBoard."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from imgkit.errors import DiskError
from imgkit.events import Events
from imgkit.run import RunFolder


class Records:
    """The rows of a run. A full disk never stops them: checkpoints hold the history too.

    Args:
        folder: the run.
        history: its epochs so far; what a killed life wrote after its last checkpoint is removed, to be made again.
        step: updates done.
        tensorboard: whether to write events into `tensorboard/`, too.
    """

    def __init__(
        self, folder: RunFolder, history: Sequence[Mapping[str, Any]], *, step: int, tensorboard: bool
    ) -> None:
        self._folder = folder
        self._events = Events(folder.path / "tensorboard", after=step) if tensorboard else None
        folder.write_rows("history.jsonl", history)
        folder.write_rows("steps.jsonl", [row for row in folder.rows("steps.jsonl") if row["step"] <= step])

    def step(self, row: Mapping[str, Any]) -> None:
        """Add a row of steps.jsonl."""
        with suppress(DiskError):  # the next save says so
            self._folder.append_row("steps.jsonl", row)
        if self._events is not None:
            self._events.add("step", row)

    def epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write history.jsonl anew; its last row is new."""
        with suppress(DiskError):
            self._folder.write_rows("history.jsonl", history)
        if self._events is not None:
            self._events.add("epoch", history[-1])

    def close(self) -> None:
        """Nothing follows in this life of the run."""
        if self._events is not None:
            self._events.close()
