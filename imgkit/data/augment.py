"""From a decoded picture to pixels to train on: keyed augmentation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from imgkit.data.framing import between, crop_box, scaled_box, uniforms
from imgkit.data.preprocessing import RESAMPLING, Preprocessing, to_pixels
from imgkit.recipe.augment import AugmentSettings


@dataclass(frozen=True)
class TrainTransform:
    """Random framing, flips and colour jitter: a pure function of the picture and a key.

    The framing is a random resized crop (`augment.crop`), or the evaluation's scale times a random factor at a random
    place (`augment.scale_jitter`), or the evaluation's own. The draws are hashes of the key, so no generator's state
    is read or changed.

    Args:
        preprocessing: size and filter, and the evaluation's framing.
        augment: what may happen to a picture.
    """

    preprocessing: Preprocessing
    augment: AugmentSettings

    @cached_property
    def min_side(self) -> int:
        """The smallest side, in pixels, that a JPEG may be decoded at: no crop of a square picture is then enlarged."""
        if self.augment.crop is None:
            return math.ceil(self.preprocessing.min_side * max(1.0, (self.augment.scale_jitter or (1.0, 1.0))[1]))
        smallest = math.sqrt(self.augment.crop[0] / max(self.augment.ratio[1], 1 / self.augment.ratio[0]))
        return max(self.preprocessing.min_side, math.ceil(max(self.preprocessing.size) / smallest))

    def __call__(self, image: Image.Image, key: int) -> torch.Tensor:
        """RGB picture -> uint8 (3, H, W) in channels-last memory.

        Args:
            image: the decoded picture, RGB.
            key: 64-bit number of (seed, epoch, sample), from `imgkit.keys.key`.
        """
        draws = uniforms(key)
        height, width = self.preprocessing.size
        filtering = RESAMPLING[self.preprocessing.interpolation]
        if self.augment.crop is not None:
            image = image.crop(crop_box(draws, image.width, image.height, self.augment.crop, self.augment.ratio))
            image = image.resize((width, height), filtering)
        elif self.augment.scale_jitter is not None:
            box = scaled_box(draws, image.width, image.height, self.preprocessing, self.augment.scale_jitter)
            image = image.resize((width, height), filtering, box=box)
        else:
            image = self.preprocessing.fit_image(image)
        if next(draws) < self.augment.hflip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if next(draws) < self.augment.vflip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.augment.jitter is not None and next(draws) < self.augment.jitter_p:
            image = jittered(draws, image, self.augment.jitter)
        return to_pixels(image)


def jittered(draws: Iterator[float], image: Image.Image, amounts: tuple[float, float, float, float]) -> Image.Image:
    """Brightness, contrast, saturation and hue changed in random order, with the rules of torchvision's ColorJitter.

    Each of the first three factors is uniform in [max(0, 1 - amount), 1 + amount], the hue's shift in
    [-amount, amount] of the whole circle.
    """
    changes: list[tuple[Callable[[Image.Image, float], Image.Image], float]] = [
        (functional.adjust_brightness, between(draws, max(0.0, 1 - amounts[0]), 1 + amounts[0])),
        (functional.adjust_contrast, between(draws, max(0.0, 1 - amounts[1]), 1 + amounts[1])),
        (functional.adjust_saturation, between(draws, max(0.0, 1 - amounts[2]), 1 + amounts[2])),
        (functional.adjust_hue, between(draws, -amounts[3], amounts[3])),
    ]
    turns = [next(draws) for _ in changes]
    for i in sorted(range(len(changes)), key=turns.__getitem__):
        if amounts[i] > 0:
            change, factor = changes[i]
            image = change(image, factor)
    return image
