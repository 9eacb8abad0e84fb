"""From a decoded picture to pixels to train on: keyed augmentation."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import nn

from imgkit.data.effects import (
    Colour,
    blurred,
    by_policy,
    erased,
    jittered,
    make_policy,
    moved,
    without_colour,
)
from imgkit.data.framing import crop_box, cut, on, scaled_box
from imgkit.data.preprocessing import QUICK_FILTERS, RESAMPLING, Preprocessing, quick_resize
from imgkit.keys import key as make_key
from imgkit.keys import uniforms
from imgkit.recipe.augment import AugmentSettings, Ramp

_DRAWS = 64  # a picture takes at most 33 of these: 22 for the crop, 2 for the flips, 9 for the jitter
_FEW = 16  # draws of each effect with a stream of its own, so that none moves when another is switched on
_ERASE_DRAWS = 32  # as many as ten boxes that do not fit


@dataclass(frozen=True)
class TrainTransform:
    """Random framing and what comes after it: a pure function of the picture, a key and a strength.

    The framing is a random resized crop (`augment.crop`), or the evaluation's scale times a random factor at a random
    place (`augment.scale_jitter`), or the evaluation's own; in each, the picture fits into the input as in evaluation:
    cropped, squashed or with bars. Then, in this order: flips, moves, policy, colour jitter, greys, blur, erasing.

    The draws are hashes of the key. Only a policy draws from the global generators, which are seeded by the key before;
    whatever comes after in the same process has to seed them again, as each update does.

    Args:
        preprocessing: size and filter, and the evaluation's framing.
        augment: what may happen to a picture.
        ramp: which strength belongs to an epoch.
        prepared: the shorter side, in pixels, that pictures are shrunk to before (`data.prepared`); None: they are not.
    """

    preprocessing: Preprocessing
    augment: AugmentSettings
    ramp: Ramp = field(default_factory=Ramp)
    prepared: int | None = None

    @cached_property
    def min_side(self) -> int:
        """The smallest side, in pixels, that a JPEG may be decoded at: no crop of a square picture is then enlarged."""
        if self.augment.crop is None:
            return math.ceil(self.preprocessing.min_side * max(1.0, (self.augment.scale_jitter or (1.0, 1.0))[1]))
        smallest = math.sqrt(self.augment.crop[0] / max(self.augment.ratio[1], 1 / self.augment.ratio[0]))
        return max(self.preprocessing.min_side, math.ceil(max(self.preprocessing.size) / smallest))

    @cached_property
    def fill(self) -> Colour:
        """The colour of what is moved in from outside."""
        return self.preprocessing.fill if self.augment.fill == "mean" else self.augment.fill

    @cached_property
    def _policy(self) -> nn.Module:
        return make_policy(self.augment, self.fill)

    def __call__(
        self, image: Image.Image, key: int, strength: float = 1.0, *, size: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """RGB picture -> uint8 (C, H, W) in channels-last memory.

        Args:
            image: the decoded picture, RGB.
            key: 64-bit number of (seed, epoch, sample), from `imgkit.keys.key`.
            strength: in [0, 1], times the amounts of moves and jitter, and times the probabilities of all others but
                the flips.
            size: (width, height) of the picture before it was shrunk, which the framing is drawn for; None: it was not.
        """
        augment, draws = self.augment, uniforms(key, _DRAWS)
        image = self._framed(draws, self.preprocessing.in_its_colours(image), size or image.size)
        if next(draws) < augment.hflip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if next(draws) < augment.vflip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if augment.moves:
            image = moved(uniforms(make_key(key, "move"), _FEW), image, augment, strength, self.fill)
        if augment.policy is not None and _happens(key, "policy", strength * augment.policy_p):
            image = by_policy(self._policy, make_key(key, "policy"), image)
        if augment.jitter is not None and next(draws) < augment.jitter_p:
            brightness, contrast, saturation, hue = augment.jitter
            amounts = strength * brightness, strength * contrast, strength * saturation, strength * hue
            image = jittered(draws, image, amounts)
        if _happens(key, "gray", strength * augment.gray):
            image = without_colour(image)
        if _happens(key, "blur", strength * augment.blur):
            image = blurred(uniforms(make_key(key, "blur"), _FEW), image)
        pixels = self.preprocessing.to_pixels(image)
        if _happens(key, "erase", strength * augment.erase):
            pixels = erased(uniforms(make_key(key, "erase"), _ERASE_DRAWS), make_key(key, "noise"), pixels)
        return pixels

    def _framed(self, draws: Iterator[float], image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The part of a picture that was (W, H) = `size` that is trained on, (W, H) = the input's size reversed."""
        preprocessing, augment, (wide, high) = self.preprocessing, self.augment, size
        height, width = preprocessing.size
        if augment.crop is not None:
            # Where the evaluation shows a picture whole, the crop's aspect ratio is relative to the picture's own.
            own = 1.0 if preprocessing.fit == "crop" else wide / high
            ratio = own * augment.ratio[0], own * augment.ratio[1]
            box = crop_box(draws, wide, high, augment.crop, ratio)
            part = None if image.size == size else on(image, box, size)
            image = image.crop(box) if part is None else image
            if preprocessing.fit == "letterbox":
                return preprocessing.fit_image(image, (box[2] - box[0], box[3] - box[1]), part)
            if part is None and preprocessing.interpolation in QUICK_FILTERS:
                return _quickly(image, (height, width), preprocessing.interpolation)
            return image.resize((width, height), RESAMPLING[preprocessing.interpolation], box=part)
        if augment.scale_jitter is not None:
            shown = scaled_box(draws, wide, high, preprocessing, augment.scale_jitter)
            return cut(image, on(image, shown, size), preprocessing)
        return preprocessing.fit_image(image, size)


def _quickly(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """RGB, resized by torch to (height, width) = `size`."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, C) -> (C, H, W)
    return Image.fromarray(quick_resize(pixels, size, interpolation).permute(1, 2, 0).numpy())  # -> (H, W, C)


def _happens(key: int, what: str, chance: float) -> bool:
    """Whether an effect of probability `chance` happens; the same draw at every strength."""
    return chance > 0 and next(uniforms(make_key(key, what, "whether"), 1)) < chance
