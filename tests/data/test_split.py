"""Splits: disjoint by construction, stratified, whole groups, seeded, blind to order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.data.split import assign_label_sets, assign_splits
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


@given(labelled(), SHARE, SHARE, st.integers(0, 9))
def test_no_groups_are_groups_of_one(data: tuple[list[str], list[int]], val: float, test: float, seed: int) -> None:
    paths, labels = data
    splits = assign_splits(paths, labels, val=val, test=test, seed=seed)
    grouped = assign_splits(paths, labels, list(range(len(paths))), val=val, test=test, seed=seed)
    assert splits.tolist() == grouped.tolist()


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


# Sets of labels


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, ...]]]:
    sets = draw(st.lists(st.sets(st.integers(0, 5), max_size=4), min_size=1, max_size=50))
    return [f"{row:03d}.png" for row in range(len(sets))], [tuple(sorted(labels)) for labels in sets]


def units_with(label: int, sets: list[tuple[int, ...]], groups: list[int]) -> dict[int, set[int]]:
    """The groups that have a label, each with all its labels; -1 stands for having none."""
    found: dict[int, set[int]] = {}
    for labels, group in zip(sets, groups, strict=True):
        found.setdefault(group, set()).update(labels or (-1,))
    return {group: labels for group, labels in found.items() if label in labels}


@given(label_sets(), SHARE, SHARE, st.integers(0, 9), st.data())
def test_each_label_is_in_train_and_where_train_can_spare_it_in_val_and_test(
    data: tuple[list[str], list[tuple[int, ...]]], val: float, test: float, seed: int, draw: st.DataObject
) -> None:
    paths, sets = data
    grouping = draw.draw(st.none() | st.lists(st.integers(0, 12), min_size=len(sets), max_size=len(sets)))
    groups = list(range(len(sets))) if grouping is None else grouping
    splits = assign_label_sets(paths, sets, grouping, val=val, test=test, seed=seed)
    where = dict(zip(groups, splits.tolist(), strict=True))
    assert [where[group] for group in groups] == splits.tolist()  # groups stay whole
    labels = {label for labels in sets for label in labels or (-1,)}
    in_split = {
        (label, split): sum(where[group] == split for group in units_with(label, sets, groups))
        for label in labels
        for split in range(3)
    }
    for label in labels:
        assert in_split[label, 0]
        for split, share in ((1, val), (2, test)):
            if share == 0:
                assert not in_split[label, split]
            elif not in_split[label, split]:
                for group, others in units_with(label, sets, groups).items():
                    # The one unit that would do is the last one of some label where it is.
                    assert any(in_split[other, where[group]] == 1 for other in others)
                    assert where[group] < split


@given(labelled(), SHARE, SHARE, st.integers(0, 9))
def test_sets_of_one_are_dealt_in_the_same_numbers_as_classes(
    data: tuple[list[str], list[int]], val: float, test: float, seed: int
) -> None:
    paths, labels = data
    one = assign_splits(paths, labels, val=val, test=test, seed=seed)
    several = assign_label_sets(paths, [(label,) for label in labels], val=val, test=test, seed=seed)
    for label in set(labels):
        mine = np.array(labels) == label
        assert np.bincount(one[mine], minlength=3).tolist() == np.bincount(several[mine], minlength=3).tolist()


@given(label_sets(), SHARE, SHARE, st.integers(0, 9), st.randoms())
def test_the_order_of_sets_does_not_matter(
    data: tuple[list[str], list[tuple[int, ...]]], val: float, test: float, seed: int, random: "np.random.Generator"
) -> None:
    paths, sets = data
    rows = list(range(len(paths)))
    random.shuffle(rows)
    for groups in (None, [row // 3 for row in range(len(paths))]):
        splits = assign_label_sets(paths, sets, groups, val=val, test=test, seed=seed)
        mixed_groups = None if groups is None else [groups[row] for row in rows]
        again = assign_label_sets(
            [paths[row] for row in rows], [sets[row] for row in rows], mixed_groups, val=val, test=test, seed=seed
        )
        assert again.tolist() == [splits[row] for row in rows]


def test_shares_of_labels_are_nearer_than_by_chance() -> None:
    random = np.random.default_rng(0)
    rates = 0.5 / np.arange(2, 22)  # of 20 labels, the rarest on 2 % of the images
    hot = random.random((600, 20)) < rates
    sets = [tuple(np.flatnonzero(row).tolist()) for row in hot]
    splits = assign_label_sets([f"{row:03d}" for row in range(600)], sets, val=0.2, test=0.1, seed=1)
    for split, share in ((1, 0.2), (2, 0.1)):
        chosen = splits == split
        assert abs(chosen.mean() - share) < 0.015
        assert np.abs(hot[chosen].sum(0) - share * hot.sum(0)).max() <= 2
        none = ~hot.any(1)
        assert abs((none & chosen).sum() - share * none.sum()) <= 2


def test_seed_of_sets() -> None:
    paths, sets = [f"{row:03d}" for row in range(100)], [(row % 2,) * (row % 3 > 0) for row in range(100)]
    dealt = [assign_label_sets(paths, sets, val=0.2, test=0.1, seed=seed).tolist() for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]
    with pytest.raises(UsageError, match="leave nothing to train on"):
        assign_label_sets(["a"], [(0,)], val=0.5, test=0.5, seed=0)
