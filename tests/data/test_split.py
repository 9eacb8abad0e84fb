"""Splits: disjoint by construction, stratified, whole groups, seeded, blind to order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.data.split import assign_splits
from imgkit.errors import UsageError
from imgkit.keys import key

SHARE = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.45])


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=60))
    return [f"{label}/{row:03d}.png" for row, label in enumerate(labels)], labels


@given(labelled(), SHARE, SHARE, st.integers(0, 2**63 - 1))
def test_each_class_gives_its_share(data: tuple[list[str], list[int]], val: float, test: float, seed: int) -> None:
    paths, labels = data
    splits = assign_splits(paths, labels, val=val, test=test, seed=seed)
    for label, n in Counter(labels).items():
        train, held_val, held_test = np.bincount(splits[np.array(labels) == label], minlength=3)
        assert train >= 1
        most = n - 1 - (test > 0 and n >= 3)
        assert held_val == (min(most, max(1, round(n * val))) if val and n >= 2 else 0)
        left = n - held_val - 1
        assert held_test == (min(left, max(1, round(n * test))) if test else 0)


@given(labelled(), SHARE, SHARE, st.integers(0, 9), st.randoms())
def test_order_does_not_matter(
    data: tuple[list[str], list[int]], val: float, test: float, seed: int, random: "np.random.Generator"
) -> None:
    paths, labels = data
    groups = [row // 3 for row in range(len(paths))]
    for grouping in (None, groups):
        splits = assign_splits(paths, labels, grouping, val=val, test=test, seed=seed)
        expected = dict(zip(paths, splits.tolist(), strict=True))
        rows = list(range(len(paths)))
        random.shuffle(rows)
        mixed = None if grouping is None else [grouping[row] for row in rows]
        again = assign_splits([paths[r] for r in rows], [labels[r] for r in rows], mixed, val=val, test=test, seed=seed)
        assert {paths[row]: split for row, split in zip(rows, again.tolist(), strict=True)} == expected


@given(labelled(), SHARE, SHARE, st.integers(0, 9), st.data())
def test_groups_stay_whole(
    data: tuple[list[str], list[int]], val: float, test: float, seed: int, draw: st.DataObject
) -> None:
    paths, labels = data
    groups = [draw.draw(st.integers(0, 8)) for _ in paths]
    splits = assign_splits(paths, labels, groups, val=val, test=test, seed=seed)
    assert all(len({s for s, g in zip(splits.tolist(), groups, strict=True) if g == group}) == 1 for group in groups)
    assert {label for label, s in zip(labels, splits.tolist(), strict=True) if s == 0} == set(labels)
    if val == 0:
        assert 1 not in splits
    if test == 0:
        assert 2 not in splits


def test_groups_come_near_the_share() -> None:
    labels = [label for label in (0, 1) for _ in range(200)]
    groups = [row // 4 for row in range(400)]  # groups of 4 of one class
    paths = [f"{row:04d}" for row in range(400)]
    splits = assign_splits(paths, labels, groups, val=0.2, test=0.1, seed=3)
    for label in (0, 1):
        _, val, test = np.bincount(splits[np.array(labels) == label], minlength=3)
        assert abs(val - 40) <= 2
        assert abs(test - 20) <= 2


def test_one_large_group_is_not_forced_out() -> None:
    splits = assign_splits(["a", "b", "c", "d"], [0, 0, 0, 0], [0, 0, 0, 1], val=0.2, test=0.0, seed=0)
    assert splits.tolist() == [0, 0, 0, 1]


def test_a_class_only_in_mixed_groups_keeps_train() -> None:
    labels = [0, 0, 1] * 6  # class 1 is never the majority
    groups = [row // 3 for row in range(18)]
    for seed in range(20):
        splits = assign_splits([f"{row:02d}" for row in range(18)], labels, groups, val=0.45, test=0.45, seed=seed)
        assert set(np.array(labels)[splits == 0].tolist()) == {0, 1}


def test_seed() -> None:
    paths, labels = [f"{row:03d}" for row in range(100)], [row % 2 for row in range(100)]
    dealt = [assign_splits(paths, labels, val=0.2, test=0.1, seed=seed).tolist() for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]


def mixed(number: int) -> int:
    """SplitMix64 (Steele, Lea and Flood 2014) in Python's own integers."""
    number = (number + 0x9E3779B97F4A7C15) % 2**64
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


@pytest.mark.parametrize("seed", range(5))
def test_the_deal_is_a_hash_of_integers(seed: int) -> None:
    # Nothing of a library's random generator is in it: a run of next year gets the same validation set.
    splits = assign_splits([f"{row:02d}" for row in range(20)], [0] * 20, val=0.3, test=0.0, seed=seed)
    draw = sorted(range(20), key=lambda row: mixed((key(seed, "split") + row) % 2**64))
    assert set(np.flatnonzero(splits).tolist()) == set(draw[:6])


def test_shares_that_leave_nothing() -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        assign_splits(["a"], [0], val=0.5, test=0.5, seed=0)
