"""Preprocessing and pictures for tests."""

import numpy as np
from PIL import Image, ImageFilter

from imgkit.data.preprocessing import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rule(side: int = 32, **changes: object) -> Preprocessing:
    values: dict[str, object] = {"size": [side, side], "crop_pct": 0.875, "interpolation": "bicubic"}
    return Preprocessing.from_dict({**values, "mean": list(MEAN), "std": list(STD), "fit": "crop", **changes})


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
