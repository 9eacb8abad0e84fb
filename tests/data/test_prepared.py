"""What a prepared picture is, and how far what is trained on differs from a picture that is decoded each time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jpegs import scene
from PIL import Image

from imgkit.data.augment import TrainTransform
from imgkit.data.decode import load_image
from imgkit.data.prepared import about, prepare
from imgkit.data.preprocessing import Preprocessing
from imgkit.recipe.augment import AugmentSettings

GREY = (0.5, 0.5, 0.5)
RULE = Preprocessing((64, 64), 0.875, "bicubic", GREY, GREY)
LIMIT = 10_000_000
FRAMINGS = {
    "crop": AugmentSettings(crop=(0.5, 1.0), hflip=0.5),
    "jitter": AugmentSettings(crop=None, scale_jitter=(0.9, 1.1), hflip=0.5),
    "evaluation": AugmentSettings(crop=None, hflip=0.5),
}


def written(folder: Path, size: tuple[int, int], seed: int = 0, name: str = "a.png") -> Path:
    scene(*size, seed=seed).save(folder / name)
    return folder / name


def differences(path: Path, transform: TrainTransform, side: int, keys: int = 8) -> torch.Tensor:
    """Of pixels that a picture gives decoded each time and prepared, absolute, in grey levels."""
    image = load_image(path, min_side=transform.min_side)
    kept = prepare(path, side, LIMIT)
    found = []
    for key in range(keys):
        direct = transform(image, key)
        small = transform(Image.fromarray(kept.pixels), key, size=kept.size)
        found.append((direct.int() - small.int()).abs())
    return torch.stack(found).double()


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (60, 60), (300, 61), (10, 400), (1, 1)])
def test_a_picture_is_shrunk_to_its_shorter_side_or_left_alone(tmp_path: Path, size: tuple[int, int]) -> None:
    path = written(tmp_path, size)
    kept = prepare(path, 60, LIMIT)
    assert kept.size == size
    if min(size) <= 60:
        assert np.array_equal(kept.pixels, np.asarray(load_image(path)))
    else:
        assert kept.pixels.shape == (60, round(300 * 60 / 61), 3)


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_pictures_that_are_no_larger_give_the_same_bytes(tmp_path: Path, framing: str, fit: str) -> None:
    transform = TrainTransform(RULE.with_fit(fit), FRAMINGS[framing])  # type: ignore[arg-type]
    for size in ((transform.min_side, transform.min_side + 40), (50, 30)):
        assert differences(written(tmp_path, size), transform, transform.min_side).max() == 0


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_larger_ones_differ_by_less_than_a_grey_level(tmp_path: Path, framing: str, fit: str) -> None:
    transform = TrainTransform(RULE.with_fit(fit), FRAMINGS[framing])  # type: ignore[arg-type]
    found = differences(written(tmp_path, (503, 377)), transform, transform.min_side)
    assert 0 < found.mean() < 0.5
    assert found.max() <= 16


def test_a_jpeg_is_decoded_as_small_as_it_is_otherwise(tmp_path: Path) -> None:
    scene(800, 600, seed=1).save(tmp_path / "a.jpg", quality=95)
    transform = TrainTransform(RULE, FRAMINGS["crop"])
    assert prepare(tmp_path / "a.jpg", transform.min_side, LIMIT).size == (200, 150)  # a quarter: 146 px are needed
    assert differences(tmp_path / "a.jpg", transform, transform.min_side).mean() < 0.5


def test_less_than_is_needed_costs_more(tmp_path: Path) -> None:
    path, transform = written(tmp_path, (503, 377)), TrainTransform(RULE, FRAMINGS["jitter"])
    means = [float(differences(path, transform, side).mean()) for side in (73, 110, transform.min_side)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 4 * means[2]


@pytest.mark.parametrize("mean", [GREY, (0.5,)])
@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_evaluations_pixels_are_the_evaluations(tmp_path: Path, fit: str, mean: tuple[float, ...]) -> None:
    rule = Preprocessing((64, 48), 0.9, "bilinear", mean, mean, fit)  # type: ignore[arg-type]
    path = written(tmp_path, (301, 200))
    kept = prepare(path, rule, LIMIT)
    assert kept.pixels.shape == (64, 48, len(mean))
    assert torch.equal(torch.from_numpy(kept.pixels).permute(2, 0, 1), rule(load_image(path, min_side=rule.min_side)))


def test_what_changes_the_pixels_is_another_rule() -> None:
    rules = [
        *(64, 65, RULE, RULE.with_fit("squash")),
        Preprocessing((64, 65), 0.875, "bicubic", GREY, GREY),
        Preprocessing((64, 64), 0.8, "bicubic", GREY, GREY),
        Preprocessing((64, 64), 0.875, "bilinear", GREY, GREY),
        Preprocessing((64, 64), 0.875, "bicubic", (0.5,), (0.5,)),
    ]
    assert len({str(about(rule)) for rule in rules}) == len(rules)
    assert about(RULE) == about(Preprocessing((64, 64), 0.875, "bicubic", GREY, (0.1, 0.1, 0.1)))
    assert math.isfinite(about(64)["form"])
