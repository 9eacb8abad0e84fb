"""The lines of log.txt, and of a pipe, that a program can read: one an epoch, and those of checkpoints.

    Epoch 3: step=36 phase=all solved=false lr=0.0004 train_loss=0.412345 … val/loss=0.512345 … best=true seconds=37.25

A line of an epoch has the keys of its row in history.jsonl, in the same order. docs/run-folder.md says how
they are read.
"""

from collections.abc import Mapping
from typing import Any

_DIGITS = 6  # that count, of a number that is not whole


def epoch_line(row: Mapping[str, Any]) -> str:
    """The line of an epoch, from its row of history.jsonl; no value has a space in it."""
    values = " ".join(f"{key}={_text(value)}" for key, value in row.items() if key != "epoch")
    return f"Epoch {row['epoch']}: {values}"


def saved_line(epoch: int) -> str:
    """That the checkpoint at the end of an epoch is on the disk."""
    return f"Checkpoint saved at epoch {epoch}"


def saved_within_line(step: int) -> str:
    """That one is, of a step within an epoch."""
    return f"Checkpoint saved at step {step}"


def loaded_line(epoch: int) -> str:
    """That a later life of the run goes on; `epoch` is the last one that was done."""
    return f"Checkpoint loaded, resuming from epoch {epoch}"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
