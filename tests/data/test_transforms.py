import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from timm.data import create_transform
from torchvision.transforms import v2

from imgkit.data.transforms import (
    RESAMPLING,
    Preprocessing,
    TrainTransform,
    crop_box,
    jittered,
    scaled_box,
    uniforms,
)
from imgkit.errors import UsageError
from imgkit.recipe.augment import AugmentSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = AugmentSettings(crop=None, hflip=0.0)
JITTER = (0.4, 0.4, 0.4, 0.1)


def rule(side: int = 32, **changes: object) -> Preprocessing:
    values: dict[str, object] = {"size": [side, side], "crop_pct": 0.875, "interpolation": "bicubic"}
    return Preprocessing.from_dict({**values, "mean": list(MEAN), "std": list(STD), "fit": "crop", **changes})


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))


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
    fit=st.sampled_from(["crop", "squash"]),
)
def test_evaluation_rule_equals_timm(
    width: int, height: int, size: tuple[int, int], crop_pct: float, interpolation: str, fit: str
) -> None:
    preprocessing = rule(size=list(size), crop_pct=crop_pct, interpolation=interpolation, fit=fit)
    image = picture(width, height)
    ours = preprocessing(image)
    theirs = by_timm(image, preprocessing, "center" if fit == "crop" else fit)
    assert ours.shape == (3, *size)
    assert ours.dtype == torch.uint8
    if size[0] == size[1] and max(width, height) <= 4 * min(width, height):
        assert torch.equal(ours, theirs)
    elif interpolation in ("bilinear", "bicubic"):  # the others have edges, where a coordinate may round either way
        assert (ours.int() - theirs.int()).abs().max() <= 2


def test_long_thin_pictures_cost_no_more() -> None:
    assert rule()(Image.new("RGB", (60_000, 1), (10, 20, 30))).shape == (3, 32, 32)
    assert rule()(Image.new("RGB", (1, 60_000), (10, 20, 30)))[:, 5, 5].tolist() == [10, 20, 30]


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
        ({"mean": [0.5]}, "preprocessing.mean"),
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


def test_missing_key_is_named() -> None:
    values = rule().to_dict()
    del values["std"]
    with pytest.raises(UsageError, match="lacks the key 'std'"):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crop_mode": "border"}, "crop_mode 'border'"), ({"input_size": (1, 32, 32)}, "1 channels")],
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


# Training


def test_uniforms_are_uniform_and_follow_the_reference() -> None:
    draws = np.array([list(uniforms(key)) for key in range(500)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.15
    state, mask = 2**64 - 5, 2**64 - 1  # the generator as published, in Python's integers
    for draw in uniforms(state):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        assert draw == ((z ^ (z >> 31)) >> 11) * 2.0**-53


@settings(max_examples=60, deadline=None)
@given(key=st.integers(0, 2**64 - 1), width=st.integers(1, 90), height=st.integers(1, 90), jitter=st.booleans())
def test_a_pure_function_of_image_and_key(key: int, width: int, height: int, jitter: bool) -> None:
    transform = TrainTransform(rule(24), AugmentSettings(vflip=0.5, jitter=JITTER if jitter else None))
    image = picture(width, height)
    before = image.tobytes()
    torch.manual_seed(1)
    state = random.getstate()
    first = transform(image, key)
    assert random.getstate() == state
    torch.manual_seed(2)
    random.seed(key)
    np.random.seed(3)
    transform(image, key ^ 1)
    assert torch.equal(first, TrainTransform(rule(24), transform.augment)(image, key))
    assert first.shape == (3, 24, 24)
    assert first.dtype == torch.uint8
    assert image.tobytes() == before


def test_the_same_in_any_order_and_thread() -> None:
    transform = TrainTransform(rule(16), AugmentSettings(jitter=JITTER))
    image = picture(40, 30)
    keys = list(range(64))
    one_by_one = [transform(image, key) for key in keys]
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(lambda key: transform(image, key), reversed(keys)))
    assert all(torch.equal(a, b) for a, b in zip(one_by_one, reversed(backwards), strict=True))


def test_different_keys_give_different_pixels() -> None:
    transform = TrainTransform(rule(16), AugmentSettings())
    image = picture(60, 60)
    assert len({transform(image, key).numpy().tobytes() for key in range(200)}) >= 199


def test_without_augmentation_it_is_the_evaluation_rule() -> None:
    image = picture(50, 70)
    for augment in (PLAIN, PLAIN.model_copy(update={"jitter": JITTER, "jitter_p": 0.0})):
        for key in range(20):
            assert torch.equal(TrainTransform(rule(), augment)(image, key), rule()(image))


@pytest.mark.parametrize(("name", "axis"), [("hflip", 2), ("vflip", 1)])
@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_flips_happen_as_often_as_asked(name: str, axis: int, chance: float) -> None:
    transform = TrainTransform(rule(8), PLAIN.model_copy(update={name: chance}))
    image = picture(12, 12)
    straight, flipped = rule(8)(image), rule(8)(image).flip(axis)
    n, hits = 1000, 0
    for key in range(n):
        result = transform(image, key)
        hit = torch.equal(result, flipped)
        assert hit or torch.equal(result, straight)
        hits += hit
    assert abs(hits - n * chance) <= 4 * math.sqrt(n * chance * (1 - chance))


def test_jitter_happens_as_often_as_asked() -> None:
    augment = PLAIN.model_copy(update={"jitter": (0.5, 0.0, 0.0, 0.0), "jitter_p": 0.2})
    image = picture(12, 12)
    changed = sum(not torch.equal(TrainTransform(rule(8), augment)(image, key), rule(8)(image)) for key in range(1000))
    assert 150 <= changed <= 250


def test_crops_are_drawn_like_torchvision() -> None:
    image = Image.new("RGB", (50, 40))
    theirs = v2.RandomResizedCrop(8, scale=(0.3, 0.9), ratio=(0.7, 1.5))
    torch.manual_seed(0)
    expected = [
        (p["left"], p["top"], p["width"], p["height"]) for p in (theirs.make_params([image]) for _ in range(4000))
    ]
    boxes = [crop_box(uniforms(key), 50, 40, (0.3, 0.9), (0.7, 1.5)) for key in range(4000)]
    ours = [(left, top, right - left, bottom - top) for left, top, right, bottom in boxes]
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.abs(np.quantile(ours, quantile, axis=0) - np.quantile(expected, quantile, axis=0)).max() <= 1
    assert np.abs(np.mean(ours, axis=0) - np.mean(expected, axis=0)).max() < 0.5


@settings(max_examples=200, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    low=st.floats(0.01, 1),
    wide=st.floats(0.2, 1),
)
def test_crop_lies_inside(key: int, width: int, height: int, low: float, wide: float) -> None:
    left, top, right, bottom = crop_box(uniforms(key), width, height, (low, 1.0), (wide, 1 / wide))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("width", "height", "box"), [(100, 10, (43, 0, 56, 10)), (10, 100, (0, 43, 10, 56))])
def test_centre_crop_where_no_draw_fits(width: int, height: int, box: tuple[int, ...]) -> None:
    assert crop_box(uniforms(0), width, height, (1.0, 1.0), (3 / 4, 4 / 3)) == box


def test_crop_pixels_equal_torchvision() -> None:
    image, preprocessing = picture(60, 45), rule(20)
    transform = TrainTransform(preprocessing, AugmentSettings(hflip=0.0))
    for key in range(20):
        left, top, right, bottom = crop_box(uniforms(key), 60, 45, (0.5, 1.0), (3 / 4, 4 / 3))
        bicubic = v2.InterpolationMode.BICUBIC
        theirs = v2.functional.resized_crop(image, top, left, bottom - top, right - left, [20, 20], bicubic)
        assert torch.equal(transform(image, key), v2.functional.pil_to_tensor(theirs))


@settings(max_examples=200, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    low=st.floats(0.3, 1.5),
    span=st.floats(1, 2),
    fit=st.sampled_from(["crop", "squash"]),
    crop_pct=st.floats(0.5, 1),
)
def test_scaled_box_lies_inside_and_keeps_the_aspect(
    key: int, width: int, height: int, low: float, span: float, fit: str, crop_pct: float
) -> None:
    preprocessing = rule(32, fit=fit, crop_pct=crop_pct)
    left, top, right, bottom = scaled_box(uniforms(key), width, height, preprocessing, (low, low * span))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    high, wide = preprocessing.resized(height, width)
    assert (right - left) * wide / width == pytest.approx((bottom - top) * high / height, rel=1e-6)


def test_scaled_boxes_span_the_factors_and_the_whole_picture() -> None:
    boxes = np.array([scaled_box(uniforms(key), 80, 64, rule(32, crop_pct=0.5), (0.8, 1.25)) for key in range(2000)])
    sides = boxes[:, 2] - boxes[:, 0]  # the picture becomes 80 x 64 for a crop of 32
    assert (sides.min(), sides.max()) == pytest.approx((32 / 1.25, 32 / 0.8), rel=0.01)
    assert np.median(sides) == pytest.approx(32, rel=0.02)
    assert boxes[:, :2].min() < 0.5
    assert boxes[:, 2].max() > 79.5
    assert boxes[:, 3].max() > 63.5


def test_at_the_same_scale_and_place_it_is_the_evaluation_picture() -> None:
    image, preprocessing = picture(90, 60), rule(32, crop_pct=1.0)
    square = image.crop((15, 0, 75, 60))  # no room to move: the only box is the evaluation's
    transform = TrainTransform(preprocessing, AugmentSettings(crop=None, scale_jitter=(0.5, 1.0), hflip=0.0))
    assert all(torch.equal(transform(square, key), preprocessing(square)) for key in range(5))


@pytest.mark.parametrize("place", range(4))
def test_each_jitter_spans_the_range_of_torchvision(place: int) -> None:
    amounts = tuple(0.3 if i == place else 0.0 for i in range(4))
    names = ("brightness", "contrast", "saturation", "hue")
    image = Image.new("RGB", (2, 1), (100, 80, 60))
    image.putpixel((1, 0), (60, 120, 180))
    assert len(amounts) == 4
    changes: tuple[Callable[..., Image.Image], ...] = (
        v2.functional.adjust_brightness,
        v2.functional.adjust_contrast,
        v2.functional.adjust_saturation,
        v2.functional.adjust_hue,
    )
    ends = [changes[place](image, factor) for factor in ((0.7, 1.3) if place < 3 else (-0.3, 0.3))]
    seen = np.array([np.asarray(jittered(uniforms(key), image, amounts)) for key in range(300)], dtype=int)
    if place < 3:  # the hue goes round
        low, high = sorted((np.asarray(end, dtype=int) for end in ends), key=lambda pixels: pixels[0, 0, 0])
        assert ((seen >= np.minimum(low, high) - 1) & (seen <= np.maximum(low, high) + 1)).all()
        assert np.abs(seen.max(0) - np.maximum(low, high)).max() <= 3
        assert np.abs(seen.min(0) - np.minimum(low, high)).max() <= 3
    theirs = v2.ColorJitter(**{names[place]: 0.3})
    torch.manual_seed(0)
    expected = np.array([np.asarray(theirs(image)) for _ in range(300)], dtype=int)
    assert np.abs(seen.mean(0) - expected.mean(0)).max() < 6


def test_small_crops_ask_for_more_of_a_jpeg() -> None:
    assert TrainTransform(rule(), PLAIN).min_side == rule().min_side
    small = TrainTransform(rule(), AugmentSettings(crop=(0.04, 1.0), ratio=(1.0, 1.0)))
    jittered_scale = TrainTransform(rule(), AugmentSettings(crop=None, scale_jitter=(0.5, 1.5)))
    assert jittered_scale.min_side == 1.5 * rule().min_side
    assert small.min_side == 160  # 32 px from a crop of a fifth of the side
