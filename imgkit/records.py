"""What a run writes down while it trains: rows of steps.jsonl and history.jsonl; trackers are told the same."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from imgkit.errors import DiskError
from imgkit.run import RunFolder
from imgkit.tracking import Tracking


class Records:
    """The rows of a run. A full disk never stops them: checkpoints hold the history too.

    Args:
        folder: the run.
        history: its epochs so far; what a killed life wrote after its last checkpoint is removed, to be made again.
        step: updates done.
        tracking: trackers that have begun; they are told again what is there.
    """

    def __init__(
        self, folder: RunFolder, history: Sequence[Mapping[str, Any]], *, step: int, tracking: Tracking
    ) -> None:
        self._folder = folder
        self._tracking = tracking
        folder.write_rows("history.jsonl", history)
        steps = [row for row in folder.rows("steps.jsonl") if row["step"] <= step]
        folder.write_rows("steps.jsonl", steps)
        told = [("step", row) for row in steps] + [("epoch", row) for row in history]
        for group, row in sorted(told, key=lambda pair: pair[1]["step"]):  # stable: a step before its epoch
            tracking.row(group, row)

    def step(self, row: Mapping[str, Any]) -> None:
        """Add a row of steps.jsonl."""
        with suppress(DiskError):  # the next save says so
            self._folder.append_row("steps.jsonl", row)
        self._tracking.row("step", row)

    def epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write history.jsonl anew; its last row is new."""
        with suppress(DiskError):
            self._folder.write_rows("history.jsonl", history)
        self._tracking.row("epoch", history[-1])
