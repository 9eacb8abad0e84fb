"""From a decoded picture to pixels to train on: keyed augmentation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
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
from imgkit.data.preprocessing import QUICK_FILTERS, RESAMPLING, Preprocessing, pixels_of, quick_resize
from imgkit.keys import key as make_key
from imgkit.keys import uniforms
from imgkit.recipe.augment import AugmentSettings, Ramp

Effect = Callable[[Image.Image], Image.Image]
Pixels = npt.NDArray[np.uint8]
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
        self, image: Image.Image | Pixels, key: int, strength: float = 1.0, *, size: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """RGB picture -> uint8 (C, H, W) in channels-last memory.

        Args:
            image: the decoded picture, RGB, or its pixels (H, W, 3).
            key: 64-bit number of (seed, epoch, sample), from `imgkit.keys.key`.
            strength: in [0, 1], times the amounts of moves and jitter, and times the probabilities of all others but
                the flips.
            size: (width, height) of the picture before it was shrunk, which the framing is drawn for; None: it was not.
        """
        augment, draws = self.augment, uniforms(key, _DRAWS)
        if self.preprocessing.channels == 1:
            image = self.preprocessing.in_its_colours(_image_of(image))
        pixels = self._framed(draws, image, size)
        if next(draws) < augment.hflip:
            pixels = pixels.flip(2)
        if next(draws) < augment.vflip:
            pixels = pixels.flip(1)
        effects = list(self._effects(draws, key, strength))
        if effects or self.preprocessing.channels == 1:  # else it need not become a picture again, which takes longer
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())  # -> (H, W, C)
            for effect in effects:
                image = effect(image)
            pixels = self.preprocessing.to_pixels(image)
        if _happens(key, "erase", strength * augment.erase):
            pixels = erased(uniforms(make_key(key, "erase"), _ERASE_DRAWS), make_key(key, "noise"), pixels)
        return pixels

    def _framed(
        self, draws: Iterator[float], image: Image.Image | Pixels, size: tuple[int, int] | None
    ) -> torch.Tensor:
        """The part of a picture that was (W, H) = `size` that is trained on, uint8 (3, H, W) of the input's size."""
        preprocessing, augment = self.preprocessing, self.augment
        now = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
        size = size or now
        if augment.crop is None:
            image = _image_of(image)
            if augment.scale_jitter is None:
                return pixels_of(preprocessing.fit_image(image, size))
            shown = scaled_box(draws, *size, preprocessing, augment.scale_jitter)
            return pixels_of(cut(image, on(image, shown, size), preprocessing))
        # Where the evaluation shows a picture whole, the crop's aspect ratio is relative to the picture's own.
        own = 1.0 if preprocessing.fit == "crop" else size[0] / size[1]
        box = crop_box(draws, *size, augment.crop, (own * augment.ratio[0], own * augment.ratio[1]))
        if now == size and preprocessing.fit != "letterbox" and preprocessing.interpolation in QUICK_FILTERS:
            return quick_resize(_part_of(image, box), preprocessing.size, preprocessing.interpolation)
        image = _image_of(image)
        part = None if now == size else on(image, box, size)
        image = image.crop(box) if part is None else image
        if preprocessing.fit == "letterbox":
            return pixels_of(preprocessing.fit_image(image, (box[2] - box[0], box[3] - box[1]), part))
        height, width = preprocessing.size
        return pixels_of(image.resize((width, height), RESAMPLING[preprocessing.interpolation], box=part))

    def _effects(self, draws: Iterator[float], key: int, strength: float) -> Iterator[Effect]:
        """What happens to the colours and the place of a picture that is framed, in order."""
        augment = self.augment
        if augment.moves:
            yield lambda image: moved(uniforms(make_key(key, "move"), _FEW), image, augment, strength, self.fill)
        if augment.policy is not None and _happens(key, "policy", strength * augment.policy_p):
            yield partial(by_policy, self._policy, make_key(key, "policy"))
        if augment.jitter is not None and next(draws) < augment.jitter_p:
            brightness, contrast, saturation, hue = augment.jitter
            amounts = strength * brightness, strength * contrast, strength * saturation, strength * hue
            yield lambda image: jittered(draws, image, amounts)
        if _happens(key, "gray", strength * augment.gray):
            yield without_colour
        if _happens(key, "blur", strength * augment.blur):
            yield partial(blurred, uniforms(make_key(key, "blur"), _FEW))


def _image_of(image: Image.Image | Pixels) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _part_of(image: Image.Image | Pixels, box: tuple[int, int, int, int]) -> torch.Tensor:
    """What lies in (left, top, right, bottom), RGB -> uint8 (3, H, W) in channels-last memory."""
    if isinstance(image, Image.Image):
        return pixels_of(image.crop(box))
    left, top, right, bottom = box
    return torch.from_numpy(image[top:bottom, left:right].copy()).permute(2, 0, 1)  # -> (C, H, W)


def _happens(key: int, what: str, chance: float) -> bool:
    """Whether an effect of probability `chance` happens; the same draw at every strength."""
    return chance > 0 and next(uniforms(make_key(key, what, "whether"), 1)) < chance
