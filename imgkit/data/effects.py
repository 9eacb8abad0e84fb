"""What augmentation does to a framed picture: moves it, changes its colours, takes a part away.

Every function is pure; `draws` are uniform in [0, 1), `strength` in [0, 1] is how far a ramp has come.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from imgkit.data.framing import between, crop_box
from imgkit.keys import seed_everything, stream
from imgkit.recipe.augment import AugmentSettings

Colour = tuple[int, int, int]
Jitter = tuple[float, float, float, float]

_SIGMA = (0.1, 2.0)  # of the blur, pixels of a picture of 224 (Chen et al. 2020, SimCLR)
_SEEN = 1.0  # pixels: with half of that nothing is to be seen of a blur
_ERASED = (0.02, 1 / 3)  # share of the area (Zhong et al. 2020)
_ERASED_RATIO = (0.3, 1 / 0.3)  # width / height of it (as there)
_BINS = 31  # magnitudes of a policy: 0 to 30 (Cubuk et al. 2020)


def moved(
    draws: Iterator[float], image: Image.Image, augment: AugmentSettings, strength: float, fill: Colour
) -> Image.Image:
    """The picture rotated, translated, scaled and sheared about its centre, in one bilinear resampling.

    Angles and shifts are uniform within plus or minus their key times the strength; the scale is log-uniform.

    Args:
        draws: takes six.
        image: RGB.
        augment: has the keys `rotate`, `translate`, `scale`, `shear`.
        strength: in [0, 1].
        fill: colour of what comes in from outside.
    """
    low, high = augment.scale or (1.0, 1.0)
    angle = strength * between(draws, -augment.rotate, augment.rotate)
    shift = [strength * side * between(draws, -augment.translate, augment.translate) for side in image.size]
    scale = math.exp(strength * between(draws, math.log(low), math.log(high)))
    shear = [strength * between(draws, -augment.shear, augment.shear) for _ in image.size]
    result: Image.Image = functional.affine(
        image,
        angle=angle,
        translate=shift,
        scale=scale,
        shear=shear,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=list(fill),
    )
    return result


def make_policy(augment: AugmentSettings, fill: Colour) -> nn.Module:
    """Torchvision's transform for `augment.policy`; it draws from torch's global generator.

    RandAugment (Cubuk et al. 2020), TrivialAugment with the wide space (Müller and Hutter 2021), AugMix (Hendrycks et
    al. 2020).
    """
    settings = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(fill)}
    policy: nn.Module
    match augment.policy:
        case "randaugment":
            policy = v2.RandAugment(augment.policy_ops, augment.policy_magnitude, _BINS, **settings)
        case "trivialaugment":
            policy = v2.TrivialAugmentWide(_BINS, **settings)
        case _:
            policy = v2.AugMix(severity=max(1, round(augment.policy_magnitude / 3)), **settings)
    return policy


def by_policy(policy: nn.Module, key: int, image: Image.Image) -> Image.Image:
    """What a policy makes of the picture: a function of picture and key, since all generators are seeded by the key."""
    seed_everything(key)
    result: Image.Image = policy(image)
    return result


def jittered(draws: Iterator[float], image: Image.Image, amounts: Jitter) -> Image.Image:
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


def without_colour(image: Image.Image) -> Image.Image:
    """The picture in greys (ITU-R 601-2), still RGB."""
    return image.convert("L").convert("RGB")


def blurred(draws: Iterator[float], image: Image.Image) -> Image.Image:
    """A Gaussian blur; sigma is uniform in 0.1 pixel to 2 of a picture of 224, and in proportion, but 1 at least."""
    largest = max(_SEEN, _SIGMA[1] * min(image.size) / 224)
    return image.filter(ImageFilter.GaussianBlur(between(draws, _SIGMA[0], largest)))


def erased(draws: Iterator[float], key: int, pixels: torch.Tensor) -> torch.Tensor:
    """A box of the picture replaced by noise, in place: random erasing (Zhong et al. 2020).

    Args:
        draws: of the box.
        key: of the noise, 64 bits; each byte uniform in 0 to 255.
        pixels: uint8 (C, H, W), changed.
    """
    channels, height, width = pixels.shape
    left, top, right, bottom = crop_box(draws, width, height, _ERASED, _ERASED_RATIO)
    n = channels * (bottom - top) * (right - left)
    noise = stream(key, math.ceil(n / 8)).astype("<u8").view(np.uint8)[:n]  # eight bytes a number
    pixels[:, top:bottom, left:right] = torch.from_numpy(noise).view(channels, bottom - top, right - left)
    return pixels
