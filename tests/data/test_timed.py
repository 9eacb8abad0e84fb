"""Splits in time: older is never newer, ties stay together, shares come as near as ties let them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.data.timed import assign_in_time, check_known_in_train, moments
from imgkit.errors import DataError, UsageError

NONE: list[str | None] = [None] * 200


def split(days: list[int], val: float, test: float, groups: list[str | None] | None = None) -> list[int]:
    cells = [str(day) for day in days]
    times = moments(cells, "day", cells)
    paths = [f"{row:03d}" for row in range(len(days))]
    return assign_in_time(paths, times, cells, groups or NONE[: len(days)], val=val, test=test).tolist()


@given(st.lists(st.integers(0, 30), min_size=3, max_size=80), st.sampled_from([0.1, 0.2, 0.4]))
def test_the_newest_are_test_and_ties_stay_together(days: list[int], share: float) -> None:
    if len(set(days)) < 3:
        return
    found = split(days, share, share)
    by_day: dict[int, set[int]] = {}
    for day, part in zip(days, found, strict=True):
        by_day.setdefault(day, set()).add(part)
    assert all(len(parts) == 1 for parts in by_day.values())
    order = [min(by_day[day]) for day in sorted(by_day)]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}
    most = max(days.count(day) for day in set(days))
    wanted = round(len(days) * share)
    assert found.count(2) <= wanted + most
    assert found.count(2) >= min(wanted, days.count(max(days))) - most / 2


@given(st.permutations(range(50)))
def test_without_ties_the_shares_are_exact(days: list[int]) -> None:
    found = split(days, 0.2, 0.1)
    assert [found.count(part) for part in (0, 1, 2)] == [35, 10, 5]
    assert {day for day, part in zip(days, found, strict=True) if part == 2} == set(range(45, 50))


def test_a_share_of_zero_is_no_split() -> None:
    assert split([3, 1, 2, 0], 0.25, 0.0) == [1, 0, 0, 0]
    assert split([3, 1, 2, 0], 0.0, 0.5) == [2, 0, 2, 0]


def test_dates_are_read() -> None:
    cells = ["2026-01-31", "2025-12-01T10:00", "2026-02-01"]
    assert np.argsort(moments(cells, "taken", cells)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("cell", ["", "soon", "nan", "31.1.2026"])
def test_what_is_no_time_is_named(cell: str) -> None:
    with pytest.raises(DataError, match=r"Column 'taken' says .* of b\.png: no number and no date") as told:
        moments(["2026-01-31", cell], "taken", ["a.png", "b.png"])
    assert "2026-01-31" in told.value.hint


@pytest.mark.parametrize("other", ["7", "2026-01-31T10:00+01:00"])
def test_two_ways_to_write_time_are_no_order(other: str) -> None:
    with pytest.raises(DataError, match="cannot be put in order"):
        moments(["2026-01-31", other], "taken", ["a.png", "b.png"])


def test_a_torn_group_is_named() -> None:
    groups: list[str | None] = ["p1", "p1", "p2", "p3"]
    with pytest.raises(DataError) as told:
        split([1, 4, 2, 3], 0.0, 0.25, groups)
    assert told.value.message == "Group 'p1' has images of 1 (train) and of 4 (test): a split in time would tear it."
    assert split([1, 2, 3, 4], 0.0, 0.25, groups) == [0, 0, 0, 2]


def test_too_few_moments_and_too_large_shares() -> None:
    with pytest.raises(DataError, match="The images are of 2 moments, and 3 splits in time need one each"):
        split([1, 1, 2, 2], 0.2, 0.2)
    with pytest.raises(UsageError, match="leave nothing to train on"):
        split([1, 2, 3], 0.5, 0.5)


def test_a_class_that_came_late_is_named() -> None:
    splits = np.array([0, 0, 2], dtype=np.int8)
    with pytest.raises(DataError, match="1 class is only among the newest images, which train would not have: late"):
        check_known_in_train(splits, [(0,), (0,), (1,)], ["early", "late"])
    check_known_in_train(splits, [(0,), (1,), (1,)], ["early", "late"])
