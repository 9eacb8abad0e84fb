"""The loss scale of float16: gradients that would vanish are multiplied, and updates that overflow are skipped.

Micikevicius et al. 2018; the scale and its growth are torch's GradScaler.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from imgkit.errors import DivergedError

LONGEST = 50  # overflowing updates in a row: by then the scale is 2**50 times smaller, and it is not the scale
WIDER = "Use a format with a wider range: --set train.precision=bfloat16, or float32."


class LossScale:
    """What float16 needs around each update.

    Args:
        device: where the gradients are.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self._in_row = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to take the gradient of."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the gradients their true size, so that they can be clipped; one that overflowed is not finite."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, *, overflowed: bool, place: str) -> None:
        """Make the update, unless its gradient overflowed, and adapt the scale.

        Args:
            optimizer: after `unscale`.
            overflowed: whether a gradient is not finite.
            place: the step, for the message.

        Raises:
            DivergedError: at the last of LONGEST updates in a row that overflowed.
        """
        self._scaler.step(optimizer)
        self._scaler.update()
        self._in_row = self._in_row + 1 if overflowed else 0
        if self._in_row >= LONGEST:
            raise DivergedError(f"{LONGEST} updates in a row overflowed in float16, the last at {place}.", WIDER)

    def numbers(self) -> dict[str, Any]:
        """Everything it remembers, as JSON: the five numbers of the GradScaler and the overflows in a row."""
        return {**self._scaler.state_dict(), "in_row": self._in_row}

    def restore(self, numbers: Mapping[str, Any]) -> None:
        """Take up what `numbers` gave."""
        scaler = dict(numbers)
        self._in_row = scaler.pop("in_row")
        self._scaler.load_state_dict(scaler)
