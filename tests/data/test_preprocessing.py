import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from rules import MEAN, STD, picture, rule
from timm.data import create_transform

from imgkit.data.preprocessing import CROP_MODES, RESAMPLING, Fit, Preprocessing
from imgkit.errors import UsageError


def by_timm(image: Image.Image, preprocessing: Preprocessing, mode: str) -> torch.Tensor:
    transform = create_transform(
        input_size=(3, *preprocessing.size),
        is_training=False,
        interpolation=preprocessing.interpolation,
        crop_pct=preprocessing.crop_pct,
        crop_mode=mode,
        normalize=False,
    )
    pixels = transform(image)
    assert isinstance(pixels, torch.Tensor)
    return pixels


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(3, 130),
    height=st.integers(3, 130),
    size=st.tuples(st.integers(8, 48), st.integers(8, 48)) | st.integers(8, 48).map(lambda s: (s, s)),
    crop_pct=st.sampled_from([0.7, 0.8, 0.875, 0.9, 0.95, 1.0]),
    interpolation=st.sampled_from(sorted(RESAMPLING)),
    fit=st.sampled_from(["crop", "squash", "letterbox"]),
)
@example(width=3, height=48, size=(8, 8), crop_pct=0.9, interpolation="bicubic", fit="letterbox")
def test_evaluation_rule_equals_timm(
    width: int, height: int, size: tuple[int, int], crop_pct: float, interpolation: str, fit: str
) -> None:
    preprocessing = rule(size=list(size), crop_pct=crop_pct, interpolation=interpolation, fit=fit)
    image = picture(width, height)
    ours = preprocessing(image)
    assert ours.shape == (3, *size)
    assert ours.dtype == torch.uint8
    tall, wide = (math.floor(side / crop_pct) for side in size)
    if fit == "letterbox" and round(min(width * tall / height, height * wide / width)) == 0:
        with pytest.raises(ValueError, match="must be > 0"):  # of so thin a picture timm leaves no row or column
            by_timm(image, preprocessing, CROP_MODES[preprocessing.fit])
        return
    theirs = by_timm(image, preprocessing, CROP_MODES[preprocessing.fit])
    if fit == "letterbox" or (size[0] == size[1] and max(width, height) <= 4 * min(width, height)):
        assert torch.equal(ours, theirs)
    elif interpolation in ("bilinear", "bicubic"):  # the others have edges, where a coordinate may round either way
        assert (ours.int() - theirs.int()).abs().max() <= 2


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(40, 200), st.integers(40, 200)),
    wanted=st.tuples(st.integers(24, 48), st.integers(24, 48)),
    crop_pct=st.sampled_from([0.7, 0.875, 1.0]),
    fit=st.sampled_from(["crop", "squash", "letterbox"]),
)
def test_what_is_seen_is_where_the_pixels_came_from(
    size: tuple[int, int], wanted: tuple[int, int], crop_pct: float, fit: str
) -> None:
    """Pictures whose grey level is their column, or their row, in shares of the side."""
    preprocessing = rule(size=list(wanted), crop_pct=crop_pct, interpolation="bilinear", fit=fit)
    width, height = size
    left, top, right, bottom = preprocessing.seen(height, width)
    for axis, side, (low, high) in ((1, width, (left, right)), (0, height, (top, bottom))):
        level = np.broadcast_to((np.arange(side) + 0.5) / side, (height if axis else width, side))
        image = Image.fromarray(np.rint(255 * (level if axis else level.T)).astype(np.uint8)).convert("RGB")
        pixels = preprocessing(image)[0].double() / 255
        middle = pixels[wanted[0] // 2] if axis else pixels[:, wanted[1] // 2]
        expected = low + (np.arange(wanted[axis]) + 0.5) / wanted[axis] * (high - low)
        inside = (expected > 0.1) & (expected < 0.9)  # away from the edges and from bars
        assert np.abs(middle.numpy() - expected)[inside].max() < 1 / 255 + 1 / min(wanted) / 2


def test_long_thin_pictures_cost_no_more() -> None:
    assert rule()(Image.new("RGB", (60_000, 1), (10, 20, 30))).shape == (3, 32, 32)
    assert rule()(Image.new("RGB", (1, 60_000), (10, 20, 30)))[:, 5, 5].tolist() == [10, 20, 30]


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(8, 300),
    height=st.integers(8, 300),
    size=st.sampled_from([(32, 32), (24, 40)]),
    crop_pct=st.sampled_from([1.0, 0.875]),
    filtering=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    fit=st.sampled_from(sorted(CROP_MODES)),
    channels=st.sampled_from([1, 3]),
)
def test_quick_pixels_are_those_of_pillow_but_for_rounding(
    width: int, height: int, size: tuple[int, int], crop_pct: float, filtering: str, fit: Fit, channels: int
) -> None:
    own = Preprocessing(size, crop_pct, filtering, (0.5,) * channels, (0.5,) * channels, fit)
    image = picture(width, height)
    exact, found = own(image).int(), own.quick(image)
    assert (found.dtype, found.shape) == (torch.uint8, exact.shape)
    apart = (found.int() - exact).abs()
    assert apart.max() <= (2 if fit != "letterbox" and filtering != "lanczos" else 0)
    assert apart.float().mean() < 0.25


@pytest.mark.parametrize("filtering", ["bilinear", "bicubic"])
def test_quick_pixels_of_a_usual_picture_are_nearly_all_those_of_pillow(filtering: str) -> None:
    own, image = rule(224, interpolation=filtering), picture(400, 310)
    apart = (own.quick(image).int() - own(image).int()).abs().float()
    assert apart.mean() < 0.1


def test_normalise_has_the_same_bits_in_either_memory_format() -> None:
    preprocessing, images = rule(24, mean=[0.485, 0.456, 0.406], std=[0.2, 0.3, 0.4]), torch.arange(2 * 3 * 8 * 6 * 2)
    images = images.to(torch.uint8).view(4, 3, 8, 6)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(preprocessing.normalise(images), preprocessing.normalise(last))
    assert preprocessing.normalise(last).is_contiguous(memory_format=torch.channels_last)


def test_normalise_equals_the_formula_and_keeps_the_memory_format() -> None:
    preprocessing = rule(8)
    images = torch.stack([preprocessing(picture(20, 30, seed)) for seed in range(4)])
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    result = preprocessing.normalise(images)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    expected = (images.numpy() / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert np.abs(result.numpy() - expected).max() < 1e-5
    assert torch.equal(images, before)


def test_letterbox_keeps_shape_and_whole_between_bars_of_the_mean() -> None:
    preprocessing = rule(32, fit="letterbox", crop_pct=1.0)
    assert preprocessing.fill == (124, 116, 104)
    pixels = preprocessing(Image.new("RGB", (80, 40), (10, 20, 30)))
    assert pixels[:, 8:24].unique(dim=2).squeeze().T.tolist() == [[10, 20, 30]] * 16
    for bar in (pixels[:, :8], pixels[:, 24:]):
        assert bar.flatten(1).T.unique(dim=0).tolist() == [[124, 116, 104]]


def test_a_fit_that_is_asked_for_loses_nothing() -> None:
    assert rule().with_fit("letterbox") == rule(fit="letterbox", crop_pct=1.0)
    assert rule().with_fit("squash") == rule(fit="squash", crop_pct=1.0)
    assert rule().with_fit("crop") == rule()
    own = rule(fit="squash", crop_pct=0.9)  # as its weights were made
    assert own.with_fit("squash") == own


def test_from_timm_and_back() -> None:
    config = {
        "input_size": (3, 40, 48),
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
        "crop_mode": "squash",
    }
    preprocessing = Preprocessing.from_timm(config)
    assert preprocessing.size == (40, 48)
    assert preprocessing.fit == "squash"
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert hash(preprocessing) == hash(Preprocessing.from_dict(preprocessing.to_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [0, 32]}, "preprocessing.size is (0, 32)"),
        ({"size": [32.5, 32]}, "preprocessing.size is [32.5, 32]"),
        ({"size": 32}, "preprocessing.size is 32"),
        ({"crop_pct": 1.1}, "preprocessing.crop_pct is 1.1"),
        ({"crop_pct": "0.9"}, "preprocessing.crop_pct"),
        ({"crop_pct": math.nan}, "preprocessing.crop_pct is nan"),
        ({"interpolation": "cubic"}, "preprocessing.interpolation is 'cubic'"),
        ({"mean": [0.5]}, "preprocessing.std"),
        ({"mean": [0.5, 0.5]}, "preprocessing.mean"),
        ({"std": [1, 1, 0]}, "preprocessing.std"),
        ({"std": [True, 1, 1]}, "preprocessing.std"),
        ({"fit": "border"}, "preprocessing.fit is 'border'"),
        ({"crop_ptc": 0.9}, "no key 'crop_ptc' (did you mean 'crop_pct'?)"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rule(**change)
    assert message in caught.value.message


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(3, 90),
    height=st.integers(3, 90),
    interpolation=st.sampled_from(sorted(RESAMPLING)),
    fit=st.sampled_from(["crop", "squash", "letterbox"]),
    level=st.floats(0.01, 0.99),
)
def test_greys_are_pillows_and_framed_as_colours_are(
    width: int, height: int, interpolation: str, fit: str, level: float
) -> None:
    image, more = picture(width, height), {"interpolation": interpolation, "fit": fit}
    ours = rule(24, mean=[level], std=[0.3], **more)(image)
    assert ours.shape == (1, 24, 24)
    grey = Image.merge("RGB", [image.convert("L")] * 3)
    for channel in rule(24, mean=[level] * 3, std=[0.3] * 3, **more)(grey):
        assert torch.equal(ours[0], channel)


def test_greys_equal_timm_on_a_grey_picture() -> None:
    preprocessing, image = rule(mean=[0.4], std=[0.2]), picture(60, 44)
    assert torch.equal(preprocessing(image), by_timm(image.convert("L"), preprocessing, "center"))
    pixels = preprocessing(image)[None]
    assert preprocessing.channels == 1
    torch.testing.assert_close(preprocessing.normalise(pixels), (pixels / 255 - 0.4) / 0.2)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@given(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)))
def test_greys_weigh_colours_as_itu_r_601_does(colour: tuple[int, int, int]) -> None:
    pixels = rule(2, mean=[0.5], std=[0.5])(Image.new("RGB", (4, 4), colour))
    red, green, blue = colour
    assert pixels.unique().numel() == 1
    assert abs(int(pixels[0, 0, 0]) - (0.299 * red + 0.587 * green + 0.114 * blue)) <= 0.501


def test_missing_key_is_named() -> None:
    values = rule().to_dict()
    del values["std"]
    with pytest.raises(UsageError, match="lacks the key 'std'"):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crop_mode": "naflex"}, "crop_mode 'naflex'"), ({"input_size": (4, 32, 32)}, "4 channels")],
)
def test_rules_of_timm_that_imgkit_lacks(change: dict[str, object], message: str) -> None:
    config = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    with pytest.raises(UsageError, match=message):
        Preprocessing.from_timm({**config, **change})


def test_draft_at_min_side_keeps_the_pixels(tmp_path: Path) -> None:
    preprocessing = rule(64)
    photo = picture(1500, 1100).filter(ImageFilter.GaussianBlur(3))
    photo.save(tmp_path / "a.jpg", quality=92)
    full = Image.open(tmp_path / "a.jpg")
    drafted = Image.open(tmp_path / "a.jpg")
    drafted.draft("RGB", (preprocessing.min_side, preprocessing.min_side))
    assert drafted.width < full.width
    assert min(drafted.size) >= preprocessing.min_side
    difference = (preprocessing(full).int() - preprocessing(drafted).int()).abs().float()
    assert difference.mean() < 1
