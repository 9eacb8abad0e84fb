import math
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from rules import picture, rule
from torch.nn.functional import interpolate
from torchvision.transforms import v2

from imgkit.data.augment import TrainTransform
from imgkit.data.effects import jittered
from imgkit.data.framing import crop_box
from imgkit.data.preprocessing import Fit
from imgkit.keys import uniforms
from imgkit.mixing import draw_mix
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.recipe.toml import value_text

PLAIN = AugmentSettings(crop=None, hflip=0.0)
JITTER = (0.4, 0.4, 0.4, 0.1)


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


@settings(max_examples=40)
@given(
    key=st.integers(0, 2**64 - 1),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    fit=st.sampled_from(["crop", "squash", "letterbox"]),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    augment=st.sampled_from(
        [
            AugmentSettings(vflip=0.5),
            AugmentSettings(crop=None, scale_jitter=(0.5, 2.0)),
            AugmentSettings(jitter=JITTER),
        ]
    ),
)
def test_pixels_are_augmented_as_their_picture_is(
    key: int, width: int, height: int, fit: Fit, interpolation: str, augment: AugmentSettings
) -> None:
    transform = TrainTransform(rule(24, fit=fit, interpolation=interpolation), augment)
    image = picture(width, height)
    pixels = np.asarray(image)  # not writable, as a picture's own memory is not
    result = transform(pixels, key)
    assert torch.equal(result, transform(image, key))
    assert result.stride() == (1, 3 * 24, 3)  # channels-last, so that a batch is put together without moving bytes


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_crop_and_flips_are_those_of_pillow_and_one_resize(flip: float) -> None:
    """Against another way: crop and flips by Pillow, and each picture resized in memory that is not channels-last."""
    image = picture(90, 70)
    transform = TrainTransform(rule(24), AugmentSettings(hflip=flip, vflip=flip))
    for key in range(30):
        box = crop_box(uniforms(key, 64), 90, 70, transform.augment.crop or (1, 1), transform.augment.ratio)
        part = v2.functional.pil_to_tensor(image.crop(box)).contiguous()
        resized = interpolate(part[None], size=(24, 24), mode=rule(24).interpolation, antialias=True)[0]
        theirs = Image.fromarray(resized.permute(1, 2, 0).contiguous().numpy())
        if flip:
            theirs = theirs.transpose(Image.Transpose.ROTATE_180)
        assert torch.equal(transform(image, key), v2.functional.pil_to_tensor(theirs))


@pytest.mark.parametrize("augment", [AugmentSettings(vflip=0.5), AugmentSettings(crop=None, rotate=30, blur=0.5)])
def test_greys_are_augmented_as_a_grey_picture_is(augment: AugmentSettings) -> None:
    greys, colours = rule(24, mean=[0.4], std=[0.2]), rule(24, mean=[0.4] * 3, std=[0.2] * 3)
    image = picture(50, 40)
    grey = image.convert("L").convert("RGB")
    for key in range(20):
        theirs = TrainTransform(colours, augment)(grey, key)
        assert torch.equal(TrainTransform(greys, augment)(image, key), theirs[:1])


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "augmix"])
def test_greys_stay_one_channel_whatever_happens(policy: str) -> None:
    augment = AugmentSettings(policy=policy, jitter=JITTER, fill=(255, 0, 0), rotate=40, gray=0.5, blur=0.5, erase=1)
    transform = TrainTransform(rule(16, mean=[0.4], std=[0.2]), augment)
    seen = [transform(picture(30, 30), key) for key in range(20)]
    assert {(tuple(pixels.shape), pixels.dtype) for pixels in seen} == {((1, 16, 16), torch.uint8)}


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


@pytest.mark.parametrize("filtering", ["bilinear", "bicubic", "lanczos"])
def test_crop_pixels_are_those_of_pillow(filtering: str) -> None:
    image, preprocessing = picture(60, 45), rule(20, interpolation=filtering)
    transform, worst = TrainTransform(preprocessing, AugmentSettings(hflip=0.0, crop=(0.1, 1.0))), 0
    for key in range(100):  # enlarged and shrunk
        left, top, right, bottom = crop_box(uniforms(key, 64), 60, 45, (0.1, 1.0), (3 / 4, 4 / 3))
        mode = v2.InterpolationMode(filtering)
        theirs = v2.functional.resized_crop(image, top, left, bottom - top, right - left, [20, 20], mode)
        differences = transform(image, key).int() - v2.functional.pil_to_tensor(theirs).int()
        worst = max(worst, int(differences.abs().max()))
        assert differences.abs().float().mean() <= 0.5  # noise; a torch picture is rounded between its two passes, too
    assert worst <= (0 if filtering == "lanczos" else 2)


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
    seen = np.array([np.asarray(jittered(uniforms(key, 64), image, amounts)) for key in range(300)], dtype=int)
    if place < 3:  # the hue goes round
        low, high = sorted((np.asarray(end, dtype=int) for end in ends), key=lambda pixels: pixels[0, 0, 0])
        assert ((seen >= np.minimum(low, high) - 1) & (seen <= np.maximum(low, high) + 1)).all()
        assert np.abs(seen.max(0) - np.maximum(low, high)).max() <= 3
        assert np.abs(seen.min(0) - np.minimum(low, high)).max() <= 3
    theirs = v2.ColorJitter(**{names[place]: 0.3})
    torch.manual_seed(0)
    expected = np.array([np.asarray(theirs(image)) for _ in range(300)], dtype=int)
    assert np.abs(seen.mean(0) - expected.mean(0)).max() < 6


ALL = AugmentSettings(
    rotate=20, translate=0.1, scale=(0.9, 1.1), shear=5, policy="trivialaugment", jitter=JITTER, gray=0.3, blur=0.3,
    erase=0.5,
)  # fmt: skip


@pytest.mark.parametrize("policy", [None, "randaugment", "trivialaugment", "augmix"])
@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_everything_at_once_is_a_function_of_picture_and_key(policy: str | None, fit: str) -> None:
    transform = TrainTransform(rule(24, fit=fit), ALL.model_copy(update={"policy": policy}))
    image = picture(40, 30)
    before = image.tobytes()
    first = [transform(image, key) for key in range(12)]
    torch.manual_seed(5)
    random.seed(6)
    np.random.seed(7)
    again = pickle.loads(pickle.dumps(transform))  # as a spawned worker gets it  # noqa: S301
    backwards = [again(image, key) for key in reversed(range(12))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(backwards), strict=True))
    assert len({pixels.numpy().tobytes() for pixels in first}) == 12
    assert image.tobytes() == before


CHANCES = [("gray", "gray"), ("blur", "blur"), ("erase", "erase"), ("policy_p", "randaugment")]


@pytest.mark.parametrize(("name", "policy"), CHANCES, ids=[name for name, _ in CHANCES])
@pytest.mark.parametrize(("chance", "strength"), [(0.3, 1.0), (1.0, 0.3), (1.0, 1.0), (1.0, 0.0)])
def test_effects_happen_as_often_as_asked(
    name: str, policy: str, chance: float, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "imgkit.data.augment.blurred", lambda _, image: ImageOps.invert(image)
    )  # a small one is not seen
    on = {"policy": policy, "policy_ops": 4, "policy_magnitude": 30} if name == "policy_p" else {}
    transform = TrainTransform(rule(24), PLAIN.model_copy(update={name: chance, **on}))
    image = picture(24, 24)
    changed = sum(not torch.equal(transform(image, key, strength), rule(24)(image)) for key in range(400))
    assert changed / 400 == pytest.approx(chance * strength, abs=0.08)


@pytest.mark.parametrize("values", [{"rotate": 40.0}, {"translate": 0.4}, {"shear": 40.0}, {"jitter": JITTER}])
def test_amounts_grow_with_the_strength(values: dict[str, object]) -> None:
    transform = TrainTransform(rule(24), PLAIN.model_copy(update=values))
    image = picture(24, 24)
    same = rule(24)(image).int()
    means = [
        np.mean([float((transform(image, key, strength).int() - same).abs().float().mean()) for key in range(40)])
        for strength in (0.0, 0.2, 0.6, 1.0)
    ]
    assert means[0] == 0
    assert means == sorted(means)


MOVING = {"rotate": 30.0}
RANDAUGMENT = {"policy": "randaugment"}
FLIPPED: dict[str, tuple[dict[str, object], object]] = {  # what a key needs, and another value of it
    "crop": ({}, (0.2, 0.9)),
    "scale_jitter": ({"crop": None}, (0.5, 1.5)),
    "ratio": ({}, (0.5, 2.0)),
    "hflip": ({}, 0.0),
    "vflip": ({}, 1.0),
    "rotate": ({}, 30.0),
    "translate": ({}, 0.3),
    "scale": ({}, (0.5, 1.5)),
    "shear": ({}, 30.0),
    "fill": (MOVING, (0, 0, 0)),
    "policy": ({}, "augmix"),
    "policy_p": (RANDAUGMENT, 0.2),
    "policy_ops": (RANDAUGMENT, 5),
    "policy_magnitude": (RANDAUGMENT, 30),
    "jitter": ({}, JITTER),
    "jitter_p": ({"jitter": JITTER}, 0.1),
    "gray": ({}, 0.5),
    "blur": ({}, 0.5),
    "erase": ({}, 0.5),
    "mixup": ({}, 0.2),
    "cutmix": ({}, 0.2),
    "mix_p": ({"mixup": 0.2}, 0.3),
    "ramp": (MOVING, "50%"),
    "preset": ({}, "light"),
}


@pytest.mark.parametrize("key", AugmentSettings.model_fields)
def test_no_key_is_without_effect(key: str) -> None:
    """Another value, laid over a recipe, makes other pictures or other mixes in the first two epochs of its plan."""
    needs, value = FLIPPED[key]
    image, seen = picture(40, 28), []
    for values in (needs, {**needs, key: value}):
        sets = [f"augment.{name}={'none' if one is None else value_text(one)}" for name, one in values.items()]
        (phase,) = make_plan(load_recipe("scratch", sets=sets), 8).phases
        transform = TrainTransform(rule(32), phase.augment, phase.ramp)
        pixels = [transform(image, number, phase.ramp.strength(number % 2)) for number in range(12)]
        mixes = [draw_mix(phase.augment, number, (32, 32), phase.strength(number % 2)) for number in range(12)]
        seen.append((torch.stack(pixels).numpy().tobytes(), mixes))
    assert seen[0] != seen[1]


def test_what_one_effect_draws_moves_no_other() -> None:
    image = picture(24, 24)
    for key in range(10):
        flipped = TrainTransform(rule(24), AugmentSettings(crop=None, vflip=0.5))(image, key)
        again = TrainTransform(rule(24), AugmentSettings(crop=None, vflip=0.5, erase=1.0))(image, key)
        share = float((flipped == again).float().mean())
        assert 0.6 < share < 1


def test_the_fill_colour() -> None:
    white = Image.new("RGB", (24, 24), (255, 255, 255))
    for fill, colour in (("mean", rule().fill), ((7, 8, 9), (7, 8, 9))):
        pixels = TrainTransform(rule(24), AugmentSettings(crop=None, translate=0.9, fill=fill))(white, 1)
        assert list(colour) in pixels.flatten(1).T.tolist()


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_crops_frame_as_the_evaluation_does(fit: str) -> None:
    """A crop keeps the distortion of a squashed picture, and the bars of one that keeps its shape, up to `ratio`."""
    circle = Image.new("RGB", (120, 60))
    circle.paste((255, 255, 255), (40, 10, 80, 50))  # a square, seen as 1 : 2 where it is squashed
    transform = TrainTransform(
        rule(60, fit=fit, crop_pct=1.0), AugmentSettings(crop=(0.95, 1.0), ratio=(1.0, 1.0), hflip=0.0)
    )
    for key in range(10):
        bright = transform(circle, key)[0] > 200
        high, wide = int(bright.any(1).sum()), int(bright.any(0).sum())
        assert high / wide == pytest.approx(2.0 if fit == "squash" else 1.0, rel=0.15)
    bars = (transform(circle, 0) == torch.tensor(rule().fill).view(3, 1, 1)).all(0).all(1).sum()
    assert int(bars) == (0 if fit == "squash" else 30)


def test_small_crops_ask_for_more_of_a_jpeg() -> None:
    assert TrainTransform(rule(), PLAIN).min_side == rule().min_side
    small = TrainTransform(rule(), AugmentSettings(crop=(0.04, 1.0), ratio=(1.0, 1.0)))
    jittered_scale = TrainTransform(rule(), AugmentSettings(crop=None, scale_jitter=(0.5, 1.5)))
    assert jittered_scale.min_side == 1.5 * rule().min_side
    assert small.min_side == 160  # 32 px from a crop of a fifth of the side
