"""Which pictures have the same pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from imgkit.data.looks import look_at
from imgkit.data.same import same_pictures
from imgkit.data.scan import scan

MOST = 10**7


def contents(*files: Path) -> list[int]:
    names = [str(file) for file in files]
    looks, report = look_at(names, max_pixels=MOST)
    assert report.facts == scan(names, max_pixels=MOST).facts
    return same_pictures(names.__getitem__, report.facts, looks, max_pixels=MOST).contents.tolist()


def noise(seed: int, low: int = 0, high: int = 256, side: int = 320) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(low, high, (side // 16, side // 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)


def test_a_jpeg_and_what_was_saved_from_it_are_one(tmp_path: Path) -> None:
    """Also where there is hardly any contrast, which no perceptual hash can tell apart from noise."""
    for name, low, high in (("rich", 0, 256), ("poor", 126, 130)):
        noise(1, low, high).save(tmp_path / f"{name}.jpg", quality=92)
        Image.open(tmp_path / f"{name}.jpg").save(tmp_path / f"{name}.png")
        one, two = contents(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png")
        assert one == two, name


def test_bytes_pixels_and_others(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    noise(1).save(tmp_path / "c.bmp")
    noise(2).save(tmp_path / "d.png")
    a, b, c, d = contents(*(tmp_path / name for name in ("a.png", "b.png", "c.bmp", "d.png")))
    assert a == b == c
    assert a != d


def test_metadata_and_the_way_of_compression_do_not_count(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "a.jpg", quality=90)
    noise(1).save(tmp_path / "b.jpg", quality=90, optimize=True, comment=b"another file")
    noise(1).save(tmp_path / "c.jpg", quality=89)
    a, b, c = contents(*(tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")))
    assert a == b
    assert a != c


def test_blank_pictures_of_one_shade_are_one(tmp_path: Path) -> None:
    for name, size, shade in (("a.png", 300, 200), ("b.jpg", 300, 200), ("c.png", 300, 201), ("d.png", 200, 200)):
        Image.new("RGB", (size, size), (shade,) * 3).save(tmp_path / name)
    a, b, c, d = contents(*(tmp_path / name for name in ("a.png", "b.jpg", "c.png", "d.png")))
    assert a == b
    assert len({a, c, d}) == 3
