import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rules import picture
from torchvision.transforms import v2

from imgkit.data.effects import blurred, by_policy, erased, make_policy, moved, without_colour
from imgkit.keys import key as make_key
from imgkit.keys import seed_everything, uniforms
from imgkit.recipe.augment import AugmentSettings

FILL = (1, 2, 3)


def moves(**values: object) -> AugmentSettings:
    return AugmentSettings.model_validate(values)


def image_moved(image: Image.Image, key: int, strength: float = 1.0, **values: object) -> Image.Image:
    return moved(uniforms(key, 16), image, moves(**values), strength, FILL)


@settings(max_examples=40, deadline=None)
@given(key=st.integers(0, 2**64 - 1), rotate=st.floats(0, 180), translate=st.floats(0, 0.9), shear=st.floats(0, 60))
def test_moves_stay_within_their_keys_and_grow_with_the_strength(
    key: int, rotate: float, translate: float, shear: float
) -> None:
    """The move is torchvision's, with parameters inside the ranges: found back from the same draws."""
    image = picture(24, 18)
    half = image_moved(image, key, 0.5, rotate=rotate, translate=translate, shear=shear, scale=(0.8, 1.5))
    angle, x, y, size, *tilt = [2 * draw - 1 for draw in list(uniforms(key, 6))]
    expected = v2.functional.affine(
        image,
        angle=0.5 * rotate * angle,
        translate=[0.5 * 24 * translate * x, 0.5 * 18 * translate * y],
        scale=0.8 ** (0.25 * (1 - size)) * 1.5 ** (0.25 * (1 + size)),
        shear=[0.5 * shear * one for one in tilt],
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=list(FILL),
    )
    assert np.abs(np.asarray(half, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


@pytest.mark.parametrize("values", [{"rotate": 30.0}, {"translate": 0.3}, {"shear": 20.0}, {"scale": (0.5, 0.7)}])
def test_each_move_moves_and_fills_with_the_colour(values: dict[str, object]) -> None:
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    results = [np.asarray(image_moved(white, key, **values)) for key in range(20)]
    assert all((image[image.sum(2) < 10] == FILL).all() for image in results)
    assert sum(bool((image.sum(2) < 10).any()) for image in results) >= 15
    assert all(image_moved(white, key, 0.0, **values).tobytes() == white.tobytes() for key in range(5))


@pytest.mark.parametrize("values", [{"rotate": 30.0}, {"translate": 0.3}, {"shear": 20.0}])
def test_moves_go_either_way_alike(values: dict[str, object]) -> None:
    """The mean of many moved pictures is symmetric, up to what chance allows."""
    dot = Image.new("RGB", (33, 33))
    dot.paste((255, 255, 255), (6, 14, 27, 19))
    mean = np.mean([np.asarray(image_moved(dot, key, **values))[..., 0] for key in range(400)], axis=0, dtype=float)
    assert np.abs(mean - mean[::-1, ::-1]).mean() < 4


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        (
            {"policy": "randaugment", "policy_ops": 3, "policy_magnitude": 20},
            v2.RandAugment(3, 20, interpolation=v2.InterpolationMode.BILINEAR, fill=list(FILL)),
        ),
        (
            {"policy": "trivialaugment"},
            v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=list(FILL)),
        ),
        ({"policy": "augmix", "policy_magnitude": 15}, v2.AugMix(5, fill=list(FILL))),
    ],
    ids=["randaugment", "trivialaugment", "augmix"],
)
def test_policies_are_torchvisions_and_functions_of_the_key(values: dict[str, object], theirs: torch.nn.Module) -> None:
    image, policy = picture(20, 16), make_policy(moves(**values), FILL)
    seen = set()
    for key in range(25):
        torch.manual_seed(key + 1)
        random.seed(key + 2)
        np.random.seed(key + 3)
        ours = by_policy(policy, key, image)
        seed_everything(key)
        assert ours.tobytes() == theirs(image).tobytes()
        seen.add(ours.tobytes())
    assert len(seen) > 12


@pytest.mark.parametrize("magnitude", [0, 1, 30])
@pytest.mark.parametrize("policy", ["randaugment", "augmix"])
def test_every_magnitude_is_one_of_the_policys(policy: str, magnitude: int) -> None:
    assert by_policy(make_policy(moves(policy=policy, policy_magnitude=magnitude), FILL), 1, picture(8, 8))


def test_greys_equal_torchvision() -> None:
    image = picture(9, 9)
    assert without_colour(image).tobytes() == v2.functional.rgb_to_grayscale(image, 3).tobytes()


def test_a_blur_smooths_in_proportion_to_the_picture() -> None:
    def roughness(image: Image.Image) -> float:
        return float(np.abs(np.diff(np.asarray(image, dtype=float), axis=0)).mean())

    for side in (56, 224):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
        left = [roughness(blurred(uniforms(key, 1), noise)) / roughness(noise) for key in range(30)]
        assert min(left) < (0.2 if side == 224 else 0.4)
        assert max(left) > 0.9


def test_erased_boxes_are_drawn_like_torchvision_and_full_of_noise() -> None:
    theirs = v2.RandomErasing(p=1.0, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3))
    torch.manual_seed(0)
    black = torch.zeros(3, 48, 40, dtype=torch.uint8)
    drawn = [theirs.make_params([black]) for _ in range(1500)]
    expected = [(p["i"], p["j"], p["h"], p["w"]) for p in drawn]
    ours, bytes_seen = [], []
    for key in range(1500):
        box = erased(uniforms(key, 32), make_key(key, "noise"), black.clone())
        bytes_seen.append(box[box > 0])
        rows, columns = torch.nonzero(box.amax(0).amax(1)).flatten(), torch.nonzero(box.amax(0).amax(0)).flatten()
        ours.append((rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    for quantile in (0.1, 0.5, 0.9):
        found, wanted = np.quantile(ours, quantile, axis=0), np.quantile(expected, quantile, axis=0)
        assert np.abs(found - wanted).max() <= 2
    values = torch.bincount(torch.cat(bytes_seen).long(), minlength=256)[1:].double()
    assert float(values.std() / values.mean()) < 0.03  # every byte as often
