"""From a decoded picture to the pixels that a network is evaluated on: one stored rule.

It gives uint8, so that batches stay small on their way to the device; `Preprocessing.normalise` does the rest there.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from imgkit.errors import UsageError, suggestion

Fit = Literal["crop", "squash", "letterbox"]
CROP_MODES: Mapping[Fit, str] = {"crop": "center", "squash": "squash", "letterbox": "border"}
"""timm's word for each fit."""
RESAMPLING = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
QUICK_FILTERS = ("bilinear", "bicubic")
"""Those that torch has, too: with antialias it computes what Pillow does, in a quarter of the time."""
_LONG = 8  # times the area of a square picture; a resized picture larger than this is not made in full


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: resize, centre crop, normalise, as timm does it for evaluation.

    Attributes:
        size: (height, width) of the result, pixels.
        crop_pct: share of the resized picture that the crop keeps, in (0, 1]; the picture is resized to
            floor(size / crop_pct).
        interpolation: a filter of Pillow: "bicubic", "bilinear", "lanczos", "box", "hamming", "nearest".
        mean: of each channel, for pixels in [0, 1]; one alone means that pictures are turned to grey.
        std: of each channel, for pixels in [0, 1].
        fit: "crop" keeps the aspect ratio, the shorter side sets the scale, and what is left of the longer one is
            cut off; "squash" gives up the aspect ratio; "letterbox" keeps it, the longer side sets the scale, and bars
            of the colour `fill` take up the rest. With crop_pct 1 these two lose nothing.

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
        channels = len(self.mean)
        finite = channels in (1, 3) and all(map(math.isfinite, self.mean))
        _check("mean", self.mean, finite, "three finite numbers, or one for greys")
        positive = len(self.std) == channels and all(0 < s < math.inf for s in self.std)
        _check("std", self.std, positive, "numbers above 0, as many as of mean")
        _check("fit", self.fit, self.fit in get_args(Fit), f"one of {', '.join(get_args(Fit))}")

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """The rule in timm's resolved data config (`timm.data.resolve_model_data_config(model)`).

        Raises:
            UsageError: for a rule that imgkit does not have: another crop_mode, other than one or three channels.
        """
        channels, height, width = config["input_size"]
        if channels not in (1, 3):
            raise UsageError(
                f"the network reads {channels} channels; imgkit gives it 3 (RGB) or 1 (greys)",
                "Choose a network of 3 channels.",
            )
        mode = config.get("crop_mode") or "center"
        fit = next((fit for fit, of_timm in CROP_MODES.items() if of_timm == mode), None)
        if fit is None:
            raise UsageError(
                f"the network's crop_mode {mode!r} is not one of {', '.join(CROP_MODES.values())}",
                "Choose another network.",
            )
        return cls(
            size=(int(height), int(width)),
            crop_pct=float(config["crop_pct"]),
            interpolation=str(config["interpolation"]),
            mean=tuple(map(float, config["mean"])),
            std=tuple(map(float, config["std"])),
            fit=fit,
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

    def with_fit(self, fit: Fit) -> "Preprocessing":
        """The same rule with another fit. One that is asked for in order to lose nothing of a picture loses nothing."""
        return replace(self, fit=fit, crop_pct=self.crop_pct if fit in ("crop", self.fit) else 1.0)

    @property
    def channels(self) -> int:
        """What the network reads: 3 for RGB, 1 for greys."""
        return len(self.mean)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour of bars: the mean, in grey levels, as timm has it."""
        levels = [min(255, max(0, round(255 * value))) for value in self.mean]
        red, green, blue = levels * (3 // self.channels)
        return red, green, blue

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
        """The pixels that the network is evaluated on: RGB picture -> uint8 (C, H, W) in channels-last memory."""
        return self.to_pixels(self.fit_image(self.in_its_colours(image)))

    def quick(self, image: Image.Image) -> torch.Tensor:
        """As `__call__`, but resized by torch, in a quarter of Pillow's time; with a filter that torch lacks, the same.

        Pixels differ by two grey levels at most, 0.004 in the mean (measured, 400 x 310 to 224): for an inference that
        looks whether its answers stay.
        """
        image = self.in_its_colours(image)
        (high, wide), (height, width) = self.resized(image.height, image.width), self.size
        usual = self.scale_size[0] * self.scale_size[1]
        torn = (high > image.height) != (wide > image.width)  # wider and lower: the roundings of both ways add up
        if torn or self.fit == "letterbox" or self.interpolation not in QUICK_FILTERS or high * wide > _LONG * usual:
            return self.to_pixels(self.fit_image(image))
        made = quick_resize(self.to_pixels(image), (high, wide), self.interpolation)
        top, left = round((high - height) / 2), round((wide - width) / 2)
        return made[:, top : top + height, left : left + width]

    def in_its_colours(self, image: Image.Image) -> Image.Image:
        """The picture, RGB, without its colours (ITU-R 601-2) where the network reads greys."""
        return image if self.channels == 3 else image.convert("L").convert("RGB")

    def to_pixels(self, image: Image.Image) -> torch.Tensor:
        """RGB picture -> uint8 (C, H, W) in channels-last memory."""
        return pixels_of(image if self.channels == 3 else image.convert("L"))

    def fit_image(
        self,
        image: Image.Image,
        was: tuple[int, int] | None = None,
        part: tuple[float, float, float, float] | None = None,
    ) -> Image.Image:
        """The resized and centred picture, (W, H) = `size` reversed; the same bytes as torchvision's.

        Args:
            image: RGB.
            was: its (width, height) before it was shrunk, whose aspect ratio counts; None: it was not.
            part: all that is taken of it, left, top, right, bottom, pixels, and `was` is that part's size; with
                "letterbox" alone. None: the whole.
        """
        before = was or image.size
        (high, wide), (height, width) = self.resized(before[1], before[0]), self.size
        usual = self.scale_size[0] * self.scale_size[1]
        top, left = round((high - height) / 2), round((wide - width) / 2)
        filtering = RESAMPLING[self.interpolation]
        if self.fit == "letterbox":
            whole = Image.new("RGB", (width, height), self.fill)
            place = (width - wide) // 2 if wide < width else -left, (height - high) // 2 if high < height else -top
            whole.paste(image.resize((wide, high), filtering, box=part), place)
            return whole
        if high * wide <= _LONG * usual:
            return image.resize((wide, high), filtering).crop((left, top, left + width, top + height))
        # A picture of 1 x 5,000 would become one of 224 x 1,120,000. Pillow's filters look beyond `box`, so the crop
        # alone comes out the same, up to two grey levels of rounding.
        x, y = image.width / wide, image.height / high
        box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        return image.resize((width, height), filtering, box=box)

    def seen(self, height: int, width: int) -> tuple[float, float, float, float]:
        """What of a picture of that size the network sees: left, top, right, bottom, in shares of its sides.

        Below 0 and above 1 are the bars of a letterbox.
        """
        (high, wide), (rows, columns) = self.resized(height, width), self.size
        left, top = round((wide - columns) / 2), round((high - rows) / 2)
        if self.fit == "letterbox":
            left = -((columns - wide) // 2) if wide < columns else left
            top = -((rows - high) // 2) if high < rows else top
        return left / wide, top / high, (left + columns) / wide, (top + rows) / high

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 of the same shape, memory and device: (images / 255 - mean) / std."""
        values = images.to(torch.float32).div_(255)
        mean, std = _constants(self.mean, self.std, images.device)
        rows = values.permute(0, 2, 3, 1)
        if images.device.type == "cpu" and rows.is_contiguous():
            # The same sums in a third of the time: torch has no quick loop over three channels that lie side by side.
            rows = rows.flatten(2)  # (B, H, W * C)
            mean, std = mean.view(-1).repeat(images.shape[3]), std.view(-1).repeat(images.shape[3])
            rows.sub_(mean).div_(std)
            return values
        return values.sub_(mean).div_(std)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the picture after resizing, before the crop, rounded as timm and torchvision do."""
        high, wide = self.scale_size
        if self.fit == "squash":
            return high, wide
        if self.fit == "letterbox":
            ratio = max(height / high, width / wide)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if high != wide:
            ratio = min(height / high, width / wide)
            return round(height / ratio), round(width / ratio)
        if width <= height:
            return int(wide * height / width), wide
        return high, int(high * width / height)


def pixels_of(image: Image.Image) -> torch.Tensor:
    """Picture -> uint8 (C, H, W), a view of (H, W, C) memory: the channels-last layout costs nothing here."""
    pixels = np.array(image, dtype=np.uint8)
    return torch.from_numpy(pixels.reshape(image.height, image.width, -1)).permute(2, 0, 1)  # -> (C, H, W)


def quick_resize(pixels: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """uint8 (C, H, W) -> uint8 (C, *size), by one of `QUICK_FILTERS`; Pillow's pixels but for two grey levels.

    Memory that is channels-last stays so, and takes half the time.
    """
    batch = pixels.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # `pixels[None]` has strides of no known format
    return interpolate(batch, size=size, mode=interpolation, antialias=True)[0]


@lru_cache(maxsize=8)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std as (C, 1, 1) on the device, sent once rather than with each batch."""
    return torch.tensor(mean, device=device).view(-1, 1, 1), torch.tensor(std, device=device).view(-1, 1, 1)


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
