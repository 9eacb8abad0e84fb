"""How much of the pictures a centre crop leaves out, from their shapes alone."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_TOO_MUCH = 0.2  # share of the area


def crop_warnings(aspects: Floats, size: tuple[int, int] = (1, 1), fit: str = "crop") -> list[str]:
    """What to say where the crop to the network's shape leaves out over a fifth of the median picture; else nothing.

    The margin that crop_pct cuts off all round is not counted: pretrained networks expect it.

    Args:
        aspects: width / height of each picture as it is shown, (n,).
        size: (height, width) of the network's input; in what ratio they are is all that matters.
        fit: of the network's preprocessing; only "crop" cuts.
    """
    wanted = size[1] / size[0]
    lost = 1 - float(np.median(np.minimum(aspects / wanted, wanted / aspects)))
    if fit != "crop" or lost <= _TOO_MUCH:
        return []
    shape = "a square" if wanted == 1 else f"{size[1]}×{size[0]}"
    return [
        f"The crop to {shape} cuts {lost:.0%} off the median image, at two of its sides. "
        "To see all of it: --fit letterbox (with bars) or --fit squash."
    ]
