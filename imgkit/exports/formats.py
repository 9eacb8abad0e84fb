"""What a run can be exported to, and how that is asked for."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from imgkit.errors import UsageError, printable, suggestion
from imgkit.quantity import parse_bytes

Format = Literal["onnx", "onnx-int8", "torch-export", "timm"]
WEIGHTS = {"onnx": "model.onnx", "onnx-int8": "model.onnx", "torch-export": "model.pt2", "timm": "model.safetensors"}
"""The file of each format that holds the weights."""
EXTERNAL = ".data"
"""What is added to its name where ONNX keeps tensors in a file of their own, since a message has 2 GiB at most."""
TOLERANCE = 1e-3
"""How far a logit may be from the source's: six times what was measured at most (docs/export.md)."""
MAX_DROP = 1.0
"""How many points of macro F1 int8 may cost: about what a reader of a score in percent still calls the same."""
IMAGES, CALIBRATION = 256, 128


@dataclass(frozen=True)
class Wish:
    """An export that is asked for; None: not given.

    Args:
        to: the format.
        images: of validation that both networks answer; all of them where there are fewer.
        tolerance: of a logit, for formats that compute what the source does.
        max_drop: points of macro F1, for int8.
        calibration: images of train that tell int8 its ranges.
        max_size: of the file of weights, "100MB", or "none"; None: the run's limit.
    """

    to: Format
    images: int | None = None
    tolerance: float | None = None
    max_drop: float | None = None
    calibration: int | None = None
    max_size: str | None = None

    @property
    def rounds(self) -> bool:
        """Whether the network computes other numbers than the source, by intention."""
        return self.to == "onnx-int8"

    def check(self) -> None:
        """See that the format is known, and that it uses what is given with it.

        Raises:
            UsageError: where that is not so.
        """
        known = get_args(Format)
        if self.to not in known:
            raise UsageError(
                f"--to {printable(self.to)!r} is not known{suggestion(self.to, known)}.",
                f"Use one of: {', '.join(known)}.",
            )
        unused = ("tolerance",) if self.rounds else ("max_drop", "calibration")
        for name in unused:
            if getattr(self, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                why = "int8 rounds, so its logits are others: --max-drop limits what that costs"
                raise UsageError(
                    f"{flag} is not used: {why if self.rounds else 'it is for --to onnx-int8'}.", "Leave it out."
                )
        for name, least in (("images", 1), ("calibration", 1), ("tolerance", 0), ("max_drop", 0)):
            value: Any = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= least):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: must be at least {least}, got {value:g}.", "Give another number.")
        if self.max_size is not None and self.max_size != "none":
            try:
                parse_bytes(self.max_size)
            except ValueError as error:
                raise UsageError(f"--max-size: {error}.", "Or do without a limit:  --max-size none") from error
