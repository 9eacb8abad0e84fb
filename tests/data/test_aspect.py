import numpy as np
import pytest

from imgkit.data.aspect import crop_warnings


@pytest.mark.parametrize(
    ("aspects", "size", "lost"),
    [
        ([1.0, 1.2, 0.85], (224, 224), None),
        ([1.0, 0.75, 4 / 3], (224, 224), "a square cuts 25 % off"),
        ([0.5, 2.0, 2.0], (1, 1), "a square cuts 50 % off"),
        ([2.0, 2.0], (100, 200), None),
        ([1.0], (100, 200), "200×100 cuts 50 % off"),
    ],
)
def test_over_a_fifth_of_the_median_picture(aspects: list[float], size: tuple[int, int], lost: str | None) -> None:
    found = crop_warnings(np.array(aspects, dtype=np.float32), size)
    if lost is None:
        assert found == []
    else:
        (text,) = found
        assert text.replace("%", " %") == (
            f"The crop to {lost} the median image, at two of its sides. "
            "To see all of it: --fit letterbox (with bars) or --fit squash."
        )
    assert crop_warnings(np.array(aspects, dtype=np.float32), size, "letterbox") == []
