"""Looks at many pictures, and the hashes of all their pixels."""

from pathlib import Path

import corpus
import numpy as np
import pytest
from PIL import Image

from imgkit.data import looks as looks_file
from imgkit.data.look import LOOK
from imgkit.data.looks import look_at, read_whole
from imgkit.data.scan import scan


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    corpus.colours((200, 160)).save(tmp_path / "a.png")
    corpus.colours((400, 320)).save(tmp_path / "b.jpg", quality=95)
    (tmp_path / "c.png").write_bytes(b"no picture")
    return [str(tmp_path / name) for name in ("a.png", "b.jpg", "c.png")]


def test_a_look_is_of_the_pixels(files: list[str]) -> None:
    found = look_at(files, max_pixels=10**6)[0]
    assert found["known"].tolist() == [True, True, False]
    assert found["whole"].tolist() == [True, False, False]
    pixels = np.asarray(corpus.colours((200, 160)), dtype=np.float64) / 255
    assert np.allclose(found["mean"][0], pixels.mean(axis=(0, 1)), atol=1e-6)
    assert np.allclose(found["square"][0], (pixels**2).mean(axis=(0, 1)), atol=1e-6)
    assert np.allclose(found["mean"][1], found["mean"][0], atol=0.02)
    assert found["thumb"].shape == (3, 16, 16)


def test_a_second_look_reads_nothing_and_is_the_same(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = look_at(files[:2], max_pixels=10**6)[0]
    monkeypatch.setattr("imgkit.data.scan.read_image", None)
    assert look_at(files[:2], max_pixels=10**6)[0].tobytes() == first.tobytes()


def test_a_scan_after_it_reads_nothing(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan(files[:2], max_pixels=10**6)
    look_at(files[:2], max_pixels=10**6)
    monkeypatch.setattr("imgkit.data.scan.read_image", None)
    assert scan(files[:2], max_pixels=10**6).facts == whole.facts


def test_a_changed_file_is_looked_at_again(files: list[str]) -> None:
    first = look_at(files, max_pixels=10**6)[0]
    Image.new("RGB", (30, 30), "red").save(files[0])
    assert look_at(files, max_pixels=10**6)[0]["pixels"][0].tolist() != first["pixels"][0].tolist()


def test_pixels_of_jpegs_are_read_in_full_and_remembered(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = look_at(files, max_pixels=10**6)[0]
    whole = read_whole(files, first, max_pixels=10**6)
    assert whole["whole"].tolist() == [True, True, False]
    Image.open(files[1]).save(str(Path(files[1]).with_suffix(".png")))
    copy = look_at([str(Path(files[1]).with_suffix(".png"))], max_pixels=10**6)[0]
    assert copy["pixels"][0].tolist() == whole["pixels"][1].tolist()
    monkeypatch.setattr(looks_file, "load_image", None)
    again = look_at(files, max_pixels=10**6)[0]
    assert read_whole(files, again, max_pixels=10**6).tobytes() == whole.tobytes()


def test_progress_and_nothing() -> None:
    assert look_at([], max_pixels=1)[0].dtype == LOOK
    assert len(look_at([], max_pixels=1)[0]) == 0
