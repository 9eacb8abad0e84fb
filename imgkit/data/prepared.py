"""Prepared pictures: what is decoded once and the same in every epoch.

Two kinds. To train on: the decoded picture, its shorter side at most `data.prepared` pixels, from which each epoch
takes its random part. For evaluation: the pixels themselves. Either is a function of the picture's file alone; whether
a store has it, and where, never changes it.
"""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from inspect import getsource
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from imgkit.data import decode, preprocessing
from imgkit.data.augment import TrainTransform
from imgkit.data.decode import load_image
from imgkit.data.preprocessing import Preprocessing

Rule = Preprocessing | int
"""What pictures are prepared for: an evaluation, or training with a shorter side of at most so many pixels."""
MAX_BYTES = 16 << 20
"""A picture that takes more is not kept: a strip of 512 x 10,000 pixels."""
_FORM = 1  # another one is due where a picture is prepared otherwise
_FILTER = Image.Resampling.LANCZOS  # bicubic differs from unprepared pictures by half as much again (measured)


class Prepared(NamedTuple):
    """A picture as it is kept."""

    pixels: npt.NDArray[np.uint8]  # (H, W, C)
    size: tuple[int, int]  # (width, height) before it was shrunk, pixels; of an evaluation's pixels, theirs


def rule_of(transform: TrainTransform | Preprocessing) -> Rule | None:
    """How the pictures of a transform are prepared; None: not at all."""
    return transform if isinstance(transform, Preprocessing) else transform.prepared


def prepare(path: Path, rule: Rule, max_pixels: int) -> Prepared:
    """A picture's file, decoded and made as small as the rule allows.

    To train on, the shorter side is at most the rule's; a picture that is no larger stays as it was decoded.

    Raises:
        BadImage: if the file cannot be read.
    """
    if isinstance(rule, Preprocessing):
        image = load_image(path, max_pixels=max_pixels, min_side=rule.min_side)
        return Prepared(rule(image).permute(1, 2, 0).numpy(), (rule.size[1], rule.size[0]))  # -> (H, W, C)
    image = load_image(path, max_pixels=max_pixels, min_side=rule)
    shorter = min(image.size)
    if shorter <= rule:
        return Prepared(np.asarray(image), image.size)
    width, height = (max(rule, round(side * rule / shorter)) for side in image.size)
    return Prepared(np.asarray(image.resize((width, height), _FILTER)), image.size)


def about(rule: Rule) -> dict[str, Any]:
    """All that the pictures of a rule have in common, as JSON; not mean and deviation, which come after."""
    made: Any = rule
    if isinstance(rule, Preprocessing):
        made = [rule.size, rule.crop_pct, rule.interpolation, rule.fit, rule.fill, rule.channels]
    return {"form": _FORM, "rule": made, "pillow": _decoders(), "code": _code()}


@lru_cache(maxsize=1)
def _decoders() -> list[str | None]:
    """The versions of what turns files into pixels."""
    libraries = (features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib", "webp", "libtiff"))
    return [version("pillow"), *libraries]


@lru_cache(maxsize=1)
def _code() -> str:
    return hashlib.sha256("".join(map(getsource, (decode, preprocessing))).encode()).hexdigest()
