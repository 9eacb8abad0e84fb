"""Small pictures for tests, and the types of the fixtures that make and check folders of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeFolders = Callable[..., Path]
"""Writes `{"train/cat": 5}` as folders with so many pictures; returns their root."""

TreeHash = Callable[[Path], str]
"""SHA-256 over names, bytes and modification times of everything below a folder."""


def square(number: int, *, code: int = 0, side_px: int = 16) -> Image.Image:
    """A picture (side, side) of a colour for each code, with noise for each number: no two have the same bytes."""
    colours = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200))
    random = np.random.default_rng([code, number])
    noise = random.integers(-30, 31, (side_px, side_px, 3))
    return Image.fromarray(np.clip(np.array(colours[code % len(colours)]) + noise, 0, 255).astype(np.uint8))
