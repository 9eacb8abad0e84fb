import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.report.html.axes import Axis, scale_of

numbers = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-3)


@given(st.lists(numbers, min_size=1, max_size=20))
def test_open_ends_hold_all_values_between_round_numbers(values: list[float]) -> None:
    scale = scale_of(Axis("x"), values, 10, 110)
    assert scale.low <= min(values) + 1e-6 * abs(min(values))
    assert scale.high >= max(values) - 1e-6 * abs(max(values))
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 110 for place in places)
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 6
    assert (ticks[0], ticks[-1]) == pytest.approx((scale.low, scale.high)), "both ends have their number"
    gaps = [after - before for before, after in pairwise(ticks)]
    assert max(gaps) == pytest.approx(min(gaps))


def test_given_ends_are_kept_and_values_beyond_lie_at_them() -> None:
    scale = scale_of(Axis("%", 0, 100), [20, 130], 300, 20)
    assert (scale(0), scale(100), scale(130), scale(50)) == (300, 20, 20, 160)


def test_a_log_scale_gives_equal_room_to_equal_ratios() -> None:
    scale = scale_of(Axis("rate", low=1e-6, log=True), [1e-2, 0.0, math.nan], 0, 100)
    assert scale(1e-4) == pytest.approx(50)
    assert scale(0.0) == 0
    assert scale.ticks() == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize("values", [[], [math.nan], [0.3], [0.3, 0.3], [0.0]])
def test_one_value_or_none_still_makes_a_scale(values: list[float]) -> None:
    scale = scale_of(Axis("x"), values, 0, 100)
    assert scale.high > scale.low


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=9), st.booleans())
def test_no_half_of_an_epoch_is_written(epochs: list[int], given_ends: bool) -> None:
    ends = (min(epochs) - 0.5, max(epochs) + 0.5) if given_ends else (None, None)
    scale = scale_of(Axis("epoch", *ends, whole=True), epochs, 0, 100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(float(tick).is_integer() for tick in ticks)
    assert scale.low <= min(epochs) <= max(epochs) <= scale.high


def test_a_small_constant_is_not_drawn_as_nothing() -> None:
    scale = scale_of(Axis("rate"), [1e-3, 1e-3], 0, 100)
    assert scale.low > 0
    assert scale(1e-3) == pytest.approx(50)
    assert all(0 < tick < 2e-3 for tick in scale.ticks())
