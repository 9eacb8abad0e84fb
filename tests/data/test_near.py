"""Pictures that show the same."""

import numpy as np
import pytest
from PIL import Image

from imgkit.data import near
from imgkit.data.look import SIDE
from imgkit.data.near import DISTANCE, _hash, _within, flat, near_pairs


def scene(number: int, side_px: int = 96) -> Image.Image:
    """A smooth picture of its own: a few waves, such as no other number has."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    waves = sum(
        random.normal() * np.cos(2 * np.pi * (a * x + b * y) + random.uniform(0, 6))
        for a, b in random.uniform(-3, 3, (12, 2))
    )
    levels = 128 + 100 * waves / np.abs(waves).max()
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def thumbs(*pictures: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in pictures])


def pairs_of(found: near.Pairs) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_variants_are_found_and_nothing_else() -> None:
    scenes = [scene(number) for number in range(60)]
    box = (2, 2, 94, 94)
    variants = [
        scenes[0].resize((50, 50), Image.Resampling.BICUBIC),
        scenes[1].point(lambda level: round(0.8 * level)),
        scenes[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        scenes[3].crop(box),
        scenes[4],
    ]
    found = near_pairs(thumbs(*scenes, *variants))
    assert pairs_of(found) == {(number, 60 + number) for number in range(5)}
    straight = dict(zip(found.first.tolist(), found.straight.tolist(), strict=True))
    assert straight[4]
    assert not straight[2]
    assert (found.cosine >= near.ALIKE).all()
    assert not found.more


def test_pictures_that_show_nothing_have_no_pairs() -> None:
    blank = np.full((5, SIDE, SIDE), 200, dtype=np.uint8)
    assert flat(blank).all()
    assert len(near_pairs(blank).first) == 0
    assert len(near_pairs(blank[:0]).first) == 0


@pytest.mark.parametrize("distance", [0, 3, DISTANCE])
def test_bands_find_what_comparing_all_finds(distance: int) -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 1 << 63, 300, dtype=np.uint64)
    hashes[150:] = hashes[:150]
    for row in range(150):  # a neighbour of each, up to ten bits away
        for bit in random.choice(63, row % 11, replace=False).tolist():
            hashes[150 + row] ^= np.uint64(1 << bit)
    all_of_them = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    found = np.zeros_like(all_of_them)
    for one, two in _within(hashes, hashes, distance):
        found[one, two] = True
    assert (found == all_of_them).all()
    assert found.sum() > 300


def test_half_of_the_bits_are_set() -> None:
    hashes = _hash(np.random.default_rng(0).normal(size=(20, 63)).astype(np.float32))
    assert (np.bitwise_count(hashes) == 31).all()


def test_no_more_pairs_are_kept_than_asked_for() -> None:
    same = np.repeat(thumbs(scene(0)), 40, axis=0)
    assert len(near_pairs(same).first) == 40 * 39 / 2
    few = near_pairs(same, most=10)
    assert len(few.first) == 10
    assert few.more


def test_what_all_have_in_common_says_nothing() -> None:
    """Pictures of one frame and other contents are no pairs, however much of them the frame is."""
    frame = np.asarray(scene(1000), dtype=np.float64)
    framed = [Image.fromarray((0.92 * frame + 0.08 * np.asarray(scene(n))).astype(np.uint8)) for n in range(300)]
    assert len(near_pairs(thumbs(*framed)).first) == 0
    levels = thumbs(*framed).reshape(300, -1).astype(np.float64)
    levels -= levels.mean(axis=1, keepdims=True)
    levels /= np.linalg.norm(levels, axis=1, keepdims=True)
    alike = levels @ levels.T
    assert (alike[np.triu_indices(300, 1)] > near.ALIKE).any(), "plain thumbnails say otherwise"
