"""One look at one picture."""

from pathlib import Path

import corpus
import numpy as np
from PIL import Image

from imgkit.data.decode import read_image
from imgkit.data.look import LOOK, look, pixel_hash


def looked(file: Path, min_side: int | None = None) -> np.void:
    return np.frombuffer(look(read_image(file, min_side=min_side)), dtype=LOOK)[0]


def test_a_mirrored_picture_has_a_mirrored_thumbnail(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    one, two = looked(tmp_path / "a.png"), looked(tmp_path / "b.png")
    assert np.abs(one["thumb"].astype(int) - two["thumb"][:, ::-1]).max() <= 1


def test_only_a_jpeg_that_was_shrunk_is_not_whole(tmp_path: Path) -> None:
    corpus.colours((400, 300)).save(tmp_path / "a.jpg")
    assert looked(tmp_path / "a.jpg")["whole"]
    assert not looked(tmp_path / "a.jpg", min_side=64)["whole"]
    (tmp_path / "turned.jpg").write_bytes(corpus.exif_jpeg(6, (100, 60)))
    assert looked(tmp_path / "turned.jpg")["whole"]


def test_the_hash_is_of_size_and_pixels() -> None:
    row = Image.new("RGB", (8, 2), "red")
    assert pixel_hash(row) == pixel_hash(row.copy())
    assert pixel_hash(row) != pixel_hash(row.resize((4, 4)))
    other = row.copy()
    other.putpixel((0, 0), (254, 0, 0))
    assert pixel_hash(row) != pixel_hash(other)
