"""TensorBoard: numbers over steps, if its package is installed."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from imgkit.errors import UsageError


def check_tensorboard() -> None:
    """See that TensorBoard can be written.

    Raises:
        UsageError: if the package is missing.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UsageError(
            "run.tensorboard is true, but the package tensorboard is not installed.",
            "pip install 'imgkit-timm[tensorboard]', or leave it out: history.jsonl and steps.jsonl hold the same.",
        ) from None


class Events:
    """Numbers over steps as TensorBoard reads them.

    Args:
        place: the folder.
        after: step of the checkpoint that the run goes on from: TensorBoard leaves out older events of later steps.
    """

    def __init__(self, place: Path, *, after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(place), purge_step=after + 1 if after else None)

    def add(self, group: str, row: Mapping[str, Any]) -> None:
        """Each number of a row but its step, as GROUP/KEY."""
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                with suppress(OSError):
                    self._writer.add_scalar(f"{group}/{name}", value, row["step"])

    def close(self) -> None:
        """Write what is still in memory."""
        with suppress(OSError):
            self._writer.close()
