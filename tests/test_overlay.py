import numpy as np
import pytest
from PIL import Image

from imgkit.overlay import draw_overlay

WHOLE = (0.0, 0.0, 1.0, 1.0)


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (100, 100, 100))


def test_nothing_speaks_for_the_class_and_the_picture_stays_as_it_is() -> None:
    picture = Image.effect_noise((40, 30), 80).convert("RGB")
    assert draw_overlay(picture, np.zeros((3, 4), np.float32), WHOLE).tobytes() == picture.tobytes()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 3), (2, 1)])
def test_the_warmest_pixels_are_those_of_the_warmest_place(row: int, column: int) -> None:
    heat = np.zeros((3, 4), np.float32)
    heat[row, column] = 1
    drawn = np.asarray(draw_overlay(grey(40, 30), heat, WHOLE)).astype(int)
    y, x = np.unravel_index(drawn[:, :, 0].argmax(), drawn.shape[:2])
    assert (y // 10, x // 10) == (row, column)
    assert drawn[y, x, 0] > 200, "light"
    assert drawn[(row * 10 + 15) % 30, (column * 10 + 20) % 40].tolist() == [100, 100, 100]


def test_what_the_network_did_not_see_is_dark_and_has_no_heat() -> None:
    drawn = np.asarray(draw_overlay(grey(100, 50), np.ones((7, 7), np.float32), (0.25, 0.0, 0.75, 1.0)))
    assert (drawn[:, :25] == 30).all()
    assert (drawn[:, 75:] == 30).all()
    assert (drawn[:, 25:75, 0] > 200).all()


def test_bars_of_a_letterbox_carry_the_map_beyond_the_picture() -> None:
    """A picture of 100 x 50 in a square: its map's upper and lower quarters are bars."""
    heat = np.zeros((4, 4), np.float32)
    heat[0] = 1
    drawn = np.asarray(draw_overlay(grey(100, 50), heat, (0.0, -0.5, 1.0, 1.5))).astype(int)
    assert drawn[0, 50, 0] > 100, "what is left of the first row's edge"
    assert (drawn[30:] == 100).all()
    heat = np.zeros((4, 4), np.float32)
    heat[1, 3] = 1
    drawn = np.asarray(draw_overlay(grey(100, 50), heat, (0.0, -0.5, 1.0, 1.5))).astype(int)
    y, x = np.unravel_index(drawn[:, :, 0].argmax(), drawn.shape[:2])
    assert (y // 25, x // 25) == (0, 3)


@pytest.mark.parametrize("seen", [(0.4999, 0.0, 0.5001, 1.0), (-2499.5, 0.0, 2500.5, 1.0)])
def test_very_long_pictures(seen: tuple[float, float, float, float]) -> None:
    size = (112, 1) if seen[0] > 0 else (1, 112)
    assert draw_overlay(grey(*size), np.ones((7, 7), np.float32), seen).size == size
