"""The decoder: right pixels, or a BadImage that names the file."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import corpus
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgkit.data import decode
from imgkit.data.decode import FORMATS, load_image, read_image
from imgkit.errors import BadImage


def test_strips_are_as_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [case.path for case in corpus.cases(tmp_path) if case.size is not None]
    whole = [load_image(path).tobytes() for path in good]
    monkeypatch.setattr(decode, "_STRIP", 7 * corpus.SIZE[0])
    changed = []

    def noting(path: Path, image: Image.Image) -> Image.Image:
        changed.append(image.height)
        return strip(path, image)

    strip = decode._strip_to_rgb
    monkeypatch.setattr(decode, "_strip_to_rgb", noting)
    assert [load_image(path).tobytes() for path in good] == whole
    assert {7, corpus.SIZE[1] % 7} <= set(changed)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("min_side", [None, 8])
def test_orientations_give_the_same_upright_picture(tmp_path: Path, orientation: int, min_side: int | None) -> None:
    size = (96, 64)
    (tmp_path / "a.jpg").write_bytes(corpus.exif_jpeg(orientation, size))
    found = read_image(tmp_path / "a.jpg", min_side=min_side)
    expected = corpus.colours(size).resize(found.image.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(found.image, dtype=int) - np.asarray(expected))
    assert np.median(difference) <= 3  # JPEG rings at the borders of the quarters
    assert found.rotated == (orientation != 1)
    assert (found.width, found.height) == (size if orientation < 5 else size[::-1])
    assert found.image.getexif().get(0x0112, 1) == 1  # a second reader does not turn it again


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_draft_keeps_the_shorter_side(tmp_path: Path, width: int, height: int, min_side: int) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "a.jpg")
    small = load_image(tmp_path / "a.jpg", min_side=min_side)
    assert min(small.size) >= min(min_side, width, height)
    assert small.width <= width
    assert small.height <= height
    if min(width, height) >= 2 * min_side:
        assert small.width < width


def test_draft_is_for_jpeg_alone(tmp_path: Path) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", min_side=8).size == (200, 200)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_is_scaled_from_its_full_range(tmp_path: Path, dtype: str) -> None:
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    path = tmp_path / "a.tif"
    if dtype == ">u2":
        path.write_bytes(corpus._big_endian_tiff(values))
    else:
        Image.fromarray(values).save(path)
    pixels = np.asarray(load_image(path))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257).astype(np.uint8))
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_adobe_cmyk_looks_like_its_rgb(tmp_path: Path) -> None:
    image = corpus.colours((64, 64))
    image.convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)  # Pillow writes Adobe's inverted CMYK
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    difference = np.asarray(load_image(tmp_path / "a.jpg"), dtype=int) - np.asarray(image)
    assert np.abs(difference).mean() < 3


def test_phone_jpeg_is_reported_as_mpo(tmp_path: Path) -> None:
    pair = [corpus.colours(), Image.new("RGB", corpus.SIZE)]
    (tmp_path / "a.jpg").write_bytes(corpus.encoded(pair[0], "MPO", save_all=True, append_images=pair[1:]))
    found = read_image(tmp_path / "a.jpg", min_side=8)
    assert found.format == "MPO"
    assert (found.width, found.height) == corpus.SIZE


def test_max_pixels_is_ours_and_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit would refuse it
    assert load_image(tmp_path / "a.png").size == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(
        BadImage, match=r"100 x 100 is 10,000 pixels, over the limit of 9,999 \(if you trust it: --max-pixels 1M\)"
    ):
        load_image(tmp_path / "a.png", max_pixels=9_999)
    assert load_image(tmp_path / "a.png", max_pixels=10_000).size == (100, 100)


def test_no_pillow_warning_escapes_and_filters_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(corpus.encoded(corpus.colours(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09\x01"))
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(load_image, [path] * 40))) == 40
        assert list(warnings.filters) == inside
    assert list(warnings.filters) == before


def test_any_exception_becomes_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    corpus.colours().save(path)
    for error in (MemoryError(), KeyError("x"), RecursionError("deep"), OSError(5, "Input/output error", str(path))):

        def fail(*args: object, problem: Exception = error, **options: object) -> None:
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", fail)
            with pytest.raises(BadImage) as caught:
                load_image(path)
        assert caught.value.reason
        assert str(path) not in caught.value.reason


def test_interrupt_is_not_a_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.colours().save(tmp_path / "a.png")

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", stop)
    with pytest.raises(KeyboardInterrupt):
        load_image(tmp_path / "a.png")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FORMATS), st.data())
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = bytearray(corpus.encoded(corpus.colours(), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    try:
        image = load_image(path, max_pixels=10_000, min_side=data.draw(st.sampled_from([None, 4])))
    except BadImage:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= 10_000
