"""Which part of a picture a network is trained on: random boxes, from uniform draws."""

import math
from collections.abc import Iterator

from PIL import Image

from imgkit.data.preprocessing import RESAMPLING, Preprocessing

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of a picture; it may reach beyond the picture."""


def crop_box(
    draws: Iterator[float], width: int, height: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """A random part of a picture (Szegedy et al. 2015), with the rules of torchvision's RandomResizedCrop.

    The share of the area is uniform, the aspect ratio log-uniform. After ten draws that do not fit, the largest
    centred crop whose aspect ratio is allowed.

    Args:
        draws: uniform in [0, 1).
        width: of the picture, pixels.
        height: of the picture, pixels.
        area: smallest and largest share of the area.
        ratio: smallest and largest width / height.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    for _ in range(10):
        target = width * height * between(draws, *area)
        aspect = math.exp(between(draws, math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(next(draws) * (height - h + 1)), int(next(draws) * (width - w + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def scaled_box(
    draws: Iterator[float], width: int, height: int, preprocessing: Preprocessing, factors: tuple[float, float]
) -> Box:
    """A part of a picture at a random place, in about the scale that the network is evaluated at.

    Scale jittering of the VGG paper (Simonyan and Zisserman 2015), around the evaluation's scale: what a solved head
    saw, and what the network will be scored on, differs from this by no more than the factor.

    Args:
        draws: uniform in [0, 1).
        width: of the picture, pixels.
        height: of the picture, pixels.
        preprocessing: the evaluation's rule.
        factors: smallest and largest scale, 1 being the evaluation's; log-uniform. One that would need more than the
            picture becomes the smallest that does not, save where the evaluation pads (fit "letterbox").

    Returns:
        The part; it reaches beyond the picture, which then lies somewhere in it, only with "letterbox".
    """
    high, wide = preprocessing.resized(height, width)
    factor = math.exp(between(draws, math.log(factors[0]), math.log(factors[1])))
    padded = preprocessing.fit == "letterbox"
    if not padded:
        factor = max(factor, preprocessing.size[0] / high, preprocessing.size[1] / wide)
    h, w = preprocessing.size[0] / factor * height / high, preprocessing.size[1] / factor * width / wide
    top, left = next(draws) * (height - h), next(draws) * (width - w)
    if padded:
        return left, top, left + w, top + h
    return max(0.0, left), max(0.0, top), min(float(width), left + w), min(float(height), top + h)


def on(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """The same part of a picture that was (width, height) = `size`, in pixels of `image`, which it was shrunk to."""
    x, y = image.width / size[0], image.height / size[1]
    left, top, right, bottom = box
    # What lay inside lies inside, whatever the rounding.
    right_, bottom_ = (
        min(edge * scale, within) if edge <= whole else edge * scale
        for edge, scale, whole, within in ((right, x, size[0], image.width), (bottom, y, size[1], image.height))
    )
    return left * x, top * y, right_, bottom_


def cut(image: Image.Image, box: Box, preprocessing: Preprocessing) -> Image.Image:
    """A part of a picture, resized to the network's input; what lies outside the picture has the fill colour."""
    left, top, right, bottom = box
    (height, width), filtering = preprocessing.size, RESAMPLING[preprocessing.interpolation]
    inside = max(0.0, left), max(0.0, top), min(float(image.width), right), min(float(image.height), bottom)
    if inside == box:
        return image.resize((width, height), filtering, box=box)
    x, y = width / (right - left), height / (bottom - top)
    place = round((inside[0] - left) * x), round((inside[1] - top) * y)
    shape = round((inside[2] - inside[0]) * x), round((inside[3] - inside[1]) * y)
    whole = Image.new("RGB", (width, height), preprocessing.fill)
    whole.paste(image.resize((max(1, shape[0]), max(1, shape[1])), filtering, box=inside), place)
    return whole


def between(draws: Iterator[float], low: float, high: float) -> float:
    """The next draw, spread over [low, high)."""
    return low + (high - low) * next(draws)
