"""From a decoded picture to pixels: the stored evaluation rule, and keyed augmentation for training.

Both give uint8, so that batches stay small on their way to the device; `Preprocessing.normalise` does the rest there.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from imgkit.errors import UsageError, suggestion
from imgkit.keys import splitmix64
from imgkit.recipe.augment import AugmentSettings

Fit = Literal["crop", "squash"]
RESAMPLING = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
_LONG = 8  # times the area of a square picture; a resized picture larger than this is not made in full


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: resize, centre crop, normalise, as timm does it for evaluation.

    Attributes:
        size: (height, width) of the result, pixels.
        crop_pct: share of the resized picture that the crop keeps, in (0, 1]; the picture is resized to
            floor(size / crop_pct).
        interpolation: a filter of Pillow: "bicubic", "bilinear", "lanczos", "box", "hamming", "nearest".
        mean: of each channel, for pixels in [0, 1].
        std: of each channel, for pixels in [0, 1].
        fit: "crop" keeps the aspect ratio, the shorter side sets the scale; "squash" does not, and so loses nothing
            of a picture that is not square.

    Raises:
        UsageError: for a value outside these ranges.
    """

    size: tuple[int, int]
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        _check("size", self.size, len(self.size) == 2 and min(self.size) >= 1, "two sides of at least 1 pixel")
        _check("crop_pct", self.crop_pct, 0 < self.crop_pct <= 1, "a number above 0 and at most 1")
        known = self.interpolation in RESAMPLING
        _check("interpolation", self.interpolation, known, f"one of {', '.join(RESAMPLING)}")
        _check("mean", self.mean, len(self.mean) == 3 and all(map(math.isfinite, self.mean)), "three finite numbers")
        _check("std", self.std, len(self.std) == 3 and all(0 < s < math.inf for s in self.std), "three numbers above 0")
        _check("fit", self.fit, self.fit in get_args(Fit), f"one of {', '.join(get_args(Fit))}")

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """The rule in timm's resolved data config (`timm.data.resolve_model_data_config(model)`).

        Raises:
            UsageError: for a rule that imgkit does not have: crop_mode "border", other than three channels.
        """
        channels, height, width = config["input_size"]
        if channels != 3:
            raise UsageError(
                f"the network reads {channels} channels; imgkit gives it 3 (RGB)", "Choose a network of 3 channels."
            )
        fits: dict[str, Fit] = {"center": "crop", "squash": "squash"}
        mode = config.get("crop_mode") or "center"
        if mode not in fits:
            raise UsageError(
                f"the network's crop_mode {mode!r} is not one of {', '.join(fits)}", "Choose another network."
            )
        return cls(
            size=(int(height), int(width)),
            crop_pct=float(config["crop_pct"]),
            interpolation=str(config["interpolation"]),
            mean=tuple(map(float, config["mean"])),
            std=tuple(map(float, config["std"])),
            fit=fits[mode],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to preprocessing.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`: each key exactly once, no other.

        Raises:
            UsageError: for a key that is missing or unknown, or a value of the wrong kind.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"preprocessing has no key {name!r}{suggestion(name, known)}", f"Known: {known}.")
        for name in known:
            if name not in values:
                raise UsageError(f"preprocessing lacks the key {name!r}", f"It needs: {', '.join(known)}.")
        return cls(
            size=_sides(values["size"]),
            crop_pct=_floats("crop_pct", [values["crop_pct"]])[0],
            interpolation=str(values["interpolation"]),
            mean=_floats("mean", values["mean"]),
            std=_floats("std", values["std"]),
            fit=values["fit"],
        )

    @property
    def scale_size(self) -> tuple[int, int]:
        """What the picture is resized to before the crop: (height, width) that the result must at least have."""
        return math.floor(self.size[0] / self.crop_pct), math.floor(self.size[1] / self.crop_pct)

    @property
    def min_side(self) -> int:
        """The smallest side, in pixels, that a JPEG may be decoded at: twice the resized picture's.

        The result then differs from that of a full decode by 0.3 grey levels in the mean for a picture with a natural
        spectrum and by 0.7 for noise; with no such reserve by 1.1 and 2.0 (measured, 3,000 x 2,000 to 224).
        """
        return 2 * max(self.scale_size)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The pixels that the network is evaluated on: RGB picture -> uint8 (3, H, W) in channels-last memory."""
        return to_pixels(self.fit_image(image))

    def fit_image(self, image: Image.Image) -> Image.Image:
        """The resized and centre-cropped picture, (W, H) = `size` reversed; the same bytes as torchvision's."""
        (high, wide), (height, width) = self.resized(image.height, image.width), self.size
        usual = self.scale_size[0] * self.scale_size[1]
        top, left = round((high - height) / 2), round((wide - width) / 2)
        filtering = RESAMPLING[self.interpolation]
        if high * wide <= _LONG * usual:
            return image.resize((wide, high), filtering).crop((left, top, left + width, top + height))
        # A picture of 1 x 5,000 would become one of 224 x 1,120,000. Pillow's filters look beyond `box`, so the crop
        # alone comes out the same, up to two grey levels of rounding.
        x, y = image.width / wide, image.height / high
        box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        return image.resize((width, height), filtering, box=box)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) -> float32 of the same shape, memory and device: (images / 255 - mean) / std."""
        mean, std = _constants(self.mean, self.std, images.device)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the picture after resizing, before the crop, rounded as timm and torchvision do."""
        high, wide = self.scale_size
        if self.fit == "squash":
            return high, wide
        if high != wide:
            ratio = min(height / high, width / wide)
            return round(height / ratio), round(width / ratio)
        if width <= height:
            return int(wide * height / width), wide
        return high, int(high * width / height)


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


def uniforms(key: int, n: int = 64) -> Iterator[float]:
    """The first `n` numbers in [0, 1) of SplitMix64 (Steele, Lea and Flood 2014) from state `key`.

    Integers only, so the same for ever and everywhere. A picture takes at most 33: 22 for the crop, 2 for the flips,
    9 for the jitter.
    """
    with np.errstate(over="ignore"):
        states = np.uint64(key) + np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return iter(((splitmix64(states) >> np.uint64(11)) * 2.0**-53).tolist())


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
        target = width * height * _between(draws, *area)
        aspect = math.exp(_between(draws, math.log(ratio[0]), math.log(ratio[1])))
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
) -> tuple[float, float, float, float]:
    """A part of a picture at a random place, in about the scale that the network is evaluated at.

    Scale jittering of the VGG paper (Simonyan and Zisserman 2015), around the evaluation's scale: what a solved head
    saw, and what the network will be scored on, differs from this by no more than the factor.

    Args:
        draws: uniform in [0, 1).
        width: of the picture, pixels.
        height: of the picture, pixels.
        preprocessing: the evaluation's rule.
        factors: smallest and largest scale, 1 being the evaluation's; log-uniform. One that would need more than the
            picture becomes the smallest that does not.

    Returns:
        (left, top, right, bottom) in pixels of the picture.
    """
    high, wide = preprocessing.resized(height, width)
    factor = math.exp(_between(draws, math.log(factors[0]), math.log(factors[1])))
    factor = max(factor, preprocessing.size[0] / high, preprocessing.size[1] / wide)
    h, w = preprocessing.size[0] / factor * height / high, preprocessing.size[1] / factor * width / wide
    top, left = next(draws) * (height - h), next(draws) * (width - w)
    return max(0.0, left), max(0.0, top), min(float(width), left + w), min(float(height), top + h)


def jittered(draws: Iterator[float], image: Image.Image, amounts: tuple[float, float, float, float]) -> Image.Image:
    """Brightness, contrast, saturation and hue changed in random order, with the rules of torchvision's ColorJitter.

    Each of the first three factors is uniform in [max(0, 1 - amount), 1 + amount], the hue's shift in
    [-amount, amount] of the whole circle.
    """
    changes: list[tuple[Callable[[Image.Image, float], Image.Image], float]] = [
        (functional.adjust_brightness, _between(draws, max(0.0, 1 - amounts[0]), 1 + amounts[0])),
        (functional.adjust_contrast, _between(draws, max(0.0, 1 - amounts[1]), 1 + amounts[1])),
        (functional.adjust_saturation, _between(draws, max(0.0, 1 - amounts[2]), 1 + amounts[2])),
        (functional.adjust_hue, _between(draws, -amounts[3], amounts[3])),
    ]
    turns = [next(draws) for _ in changes]
    for i in sorted(range(len(changes)), key=turns.__getitem__):
        if amounts[i] > 0:
            change, factor = changes[i]
            image = change(image, factor)
    return image


def to_pixels(image: Image.Image) -> torch.Tensor:
    """RGB picture -> uint8 (3, H, W), a view of (H, W, 3) memory: the channels-last layout costs nothing here."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _between(draws: Iterator[float], low: float, high: float) -> float:
    return low + (high - low) * next(draws)


@lru_cache(maxsize=8)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std as (3, 1, 1) on the device, sent once rather than with each batch."""
    return torch.tensor(mean, device=device).view(3, 1, 1), torch.tensor(std, device=device).view(3, 1, 1)


def _floats(name: str, values: object) -> tuple[float, ...]:
    """A list of numbers, as read from JSON; text and booleans are refused."""
    listed = tuple(values) if isinstance(values, list | tuple) else ()
    good = bool(listed) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in listed)
    _check(name, values, good, "a list of numbers")
    return tuple(map(float, listed))


def _sides(values: object) -> tuple[int, int]:
    sides = _floats("size", values)
    _check("size", values, len(sides) == 2 and all(side == int(side) for side in sides), "two whole numbers")
    return int(sides[0]), int(sides[1])


def _check(name: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise UsageError(f"preprocessing.{name} is {value!r}; it must be {rule}", "Correct preprocessing.json.")
