from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgkit import sheet as sheets
from imgkit.errors import BadImage, DiskError
from imgkit.sheet import Sheet, Tile, cut, draw_sheet, in_rows, thumbnail, write_png

RED = Image.new("RGB", (10, 6), "red")


def test_each_picture_is_pixel_for_pixel_in_the_middle_of_its_place() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8))
    tiles = [[Tile(RED, ("one",)), Tile(noise, ("two", "three"))], [Tile(None), Tile(RED)]]
    whole = np.asarray(draw_sheet(Sheet(tiles, (20, 16), "title", ["a", "b"], ["x", "y\nz"], apart=1)))
    assert whole.shape == (22 + 22 + 2 * (16 + 4 + 30 + 4), 150 + 2 * 24 + 20, 3)
    top, left = 44, 150 + 24 + 20
    assert np.array_equal(whole[top : top + 16, left + 6 : left + 14], np.asarray(noise))
    assert np.array_equal(whole[top + 5 : top + 11, 155:165], np.asarray(RED))
    second = top + 54
    assert np.array_equal(whole[second + 5 : second + 11, left + 5 : left + 15], np.asarray(RED))
    assert (whole[second : second + 16, 150:170] == 255).all(), "an empty place"


@pytest.mark.parametrize(
    "text",
    [
        "猫",
        "кот",
        "γάτα",
        "حصان",
        "ねこ",
        "🐈",
        "a\u202eb",
        "\x1b[1m",
        "\udcff",
        "",
        "x" * 3000,
        "\u0301",
        "\U0010ffff",
    ],
)
def test_a_caption_in_any_script_is_drawn(text: str) -> None:
    picture = draw_sheet(Sheet([[Tile(RED, (text,))]], (80, 6), text or "t", [text], [text]))
    assert picture.size[0] == 150 + 84


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_at_all_breaks_a_sheet(text: str) -> None:
    draw_sheet(Sheet([[Tile(RED, (text,))]], (80, 6)))


def test_without_any_further_font_letters_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "_further_fonts", lambda: ())
    sheets._font_for.cache_clear()
    written = draw_sheet(Sheet([[Tile(RED, ("猫",))]], (80, 6)))
    assert np.array_equal(np.asarray(written), np.asarray(draw_sheet(Sheet([[Tile(RED, ("U+732B",))]], (80, 6)))))
    sheets._font_for.cache_clear()


def test_different_captions_look_different() -> None:
    """Also where no font has their letters: boxes would be alike."""
    pictures = {
        draw_sheet(Sheet([[Tile(None, (text,))]], (90, 6))).tobytes() for text in ("猫", "犬", "\ue000", "\ue001")
    }
    assert len(pictures) == 4


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60), st.integers(1, 60))
def test_a_cut_keeps_both_ends_and_as_much_as_fits(text: str, room: int) -> None:
    found = cut(text, lambda part: len(part) <= room)
    assert len(found) == min(len(text), room)
    if len(text) > room:
        kept = room - 1
        assert found == text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]


def test_rows_of_tiles() -> None:
    tiles = [Tile(None, (str(number),)) for number in range(5)]
    assert [[tile.caption[0] for tile in row] for row in in_rows(tiles, 2)] == [["0", "1"], ["2", "3"], ["4"]]


def test_a_thumbnail_keeps_the_shape_and_enlarges_in_squares(tmp_path: Path) -> None:
    RED.save(tmp_path / "a.png")
    assert thumbnail(tmp_path / "a.png", 40, max_pixels=100).size == (40, 24)
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8))
    small.save(tmp_path / "b.png")
    large = np.asarray(thumbnail(tmp_path / "b.png", 8, max_pixels=100))
    assert np.array_equal(large, np.asarray(small).repeat(4, axis=0).repeat(4, axis=1))
    Image.new("RGB", (4000, 1)).save(tmp_path / "c.png")
    assert thumbnail(tmp_path / "c.png", 40, max_pixels=5000).size == (40, 1)
    with pytest.raises(BadImage, match="over the limit"):
        thumbnail(tmp_path / "a.png", 40, max_pixels=59)


def test_a_png_that_cannot_be_written(tmp_path: Path) -> None:
    write_png(RED, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(RED))
    with pytest.raises(DiskError, match="Cannot write"):
        write_png(RED, tmp_path / "no" / "a.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
