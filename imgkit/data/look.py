"""What one look at a picture gives: its pixels as a hash, a thumbnail, brightness and spread of its channels."""

import hashlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from imgkit.data.decode import Decoded

SIDE = 16
"""Pixels on each side of a thumbnail."""
HASH_BYTES = 16
_LEVELS = np.arange(256) / 255.0


class Look(NamedTuple):
    """What is remembered of a picture, upright and as RGB."""

    pixels: bytes  # a hash of its size and pixels, (HASH_BYTES,)
    whole: bool  # False: a JPEG decoded at a fraction of its size, so that other pixels may have this hash
    mean: tuple[float, float, float]  # of each channel, in [0, 1]
    square: tuple[float, float, float]  # mean of the squares
    thumb: bytes  # grey, squashed to SIDE x SIDE, uint8


def look(picture: Decoded) -> Look:
    """One look at a decoded picture."""
    image = picture.image
    # (3 x 256,) how many pixels of each channel have each level
    levels = np.array(image.histogram(), dtype=np.float64).reshape(3, 256) / (image.width * image.height)
    mean, square = levels @ _LEVELS, levels @ _LEVELS**2
    # The triangle of BILINEAR weighs pixels without a jump: BOX gives a mirrored picture another thumbnail.
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Look(
        pixels=pixel_hash(image),
        whole=image.width * image.height == picture.width * picture.height,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        square=(float(square[0]), float(square[1]), float(square[2])),
        thumb=small.tobytes(),
    )


def pixel_hash(image: Image.Image) -> bytes:
    """Of size and pixels of an RGB picture, (HASH_BYTES,)."""
    found = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=HASH_BYTES)
    found.update(image.tobytes())
    return found.digest()
