"""What one look at a picture gives: its pixels as a hash, a thumbnail, brightness and spread of its channels."""

import hashlib

import numpy as np
from PIL import Image

from imgkit.data.decode import Decoded

SIDE = 16
"""Pixels on each side of a thumbnail."""
HASH_BYTES = 16
LOOK = np.dtype(
    [
        ("known", "?"),  # False: nobody has looked, and all else is 0
        ("whole", "?"),  # False: a JPEG decoded at a fraction of its size, so that other pixels may have this hash
        ("pixels", "u1", (HASH_BYTES,)),  # a hash of size and pixels
        ("mean", "<f4", (3,)),  # of each channel, in [0, 1]
        ("square", "<f4", (3,)),  # mean of the squares
        ("thumb", "u1", (SIDE, SIDE)),  # grey, squashed
    ]
)
"""A picture, upright and as RGB, in 300 bytes. A change of it, or of `look`, is due another table in the cache."""
_LEVELS = np.arange(256) / 255.0


def look(picture: Decoded) -> bytes:
    """One look at a decoded picture: a LOOK."""
    image = picture.image
    found = np.zeros((), dtype=LOOK)
    found["known"] = True
    found["whole"] = image.width * image.height == picture.width * picture.height
    found["pixels"] = np.frombuffer(pixel_hash(image), dtype=np.uint8)
    # (3, 256): the share of each channel's pixels that have each level
    shares = np.array(image.histogram(), dtype=np.float64).reshape(3, 256) / (image.width * image.height)
    found["mean"], found["square"] = shares @ _LEVELS, shares @ _LEVELS**2
    # The triangle of BILINEAR weighs pixels without a jump: with BOX a mirrored picture has another thumbnail.
    found["thumb"] = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return found.tobytes()


def pixel_hash(image: Image.Image) -> bytes:
    """Of size and pixels of an RGB picture, (HASH_BYTES,)."""
    found = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=HASH_BYTES)
    found.update(image.tobytes())
    return found.digest()
