"""A map drawn over its picture."""

import numpy as np
import numpy.typing as npt
from PIL import Image

_RAMP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""matplotlib's inferno at 0, 1/4, … 1: it grows lighter all the way, so hue is never the only sign."""
_STRONGEST = 0.75  # how much of the picture the colour of 1 takes away
_UNSEEN = 0.3  # brightness of what the network did not see


def draw_overlay(
    picture: Image.Image, heat: npt.NDArray[np.float32], seen: tuple[float, float, float, float]
) -> Image.Image:
    """The picture, RGB, with the map laid over what the network saw of it; the rest is darkened.

    Args:
        picture: of any size.
        heat: the map (h, w) in [0, 1], interpolated between the middles of its places; 0 leaves the picture as it is.
        seen: left, top, right, bottom of what the map is of, in shares of the picture; it may go beyond its sides.
    """
    width, height = picture.size
    left, right = (round(share * width) for share in (seen[0], seen[2]))
    top, bottom = (round(share * height) for share in (seen[1], seen[3]))
    size = max(1, right - left), max(1, bottom - top)
    inside, whole = Image.new("1", picture.size), Image.new("F", picture.size)
    inside.paste(1, (left, top, left + size[0], top + size[1]))
    whole.paste(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR), (left, top))
    strength = np.clip(np.asarray(whole), 0, 1)[:, :, None]
    at = np.linspace(0, 1, len(_RAMP))
    colours = np.concatenate([np.interp(strength, at, one) for one in zip(*_RAMP, strict=True)], axis=2)  # (H, W, 3)
    share = _STRONGEST * strength
    bright = np.where(np.asarray(inside)[:, :, None], 1.0, _UNSEEN)
    mixed = (np.asarray(picture, dtype=np.float64) * (1 - share) + colours * share) * bright
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
