"""Folds: each image in one, stratified, whole groups, seeded, blind to order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgkit.data.folds import assign_folds
from imgkit.errors import DataError, UsageError

CLASSES = tuple("abcd")
FOLDS = st.integers(2, 5)


@st.composite
def single(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, ...]]]:
    """At least five images of each class, so that no number of folds is refused."""
    counts = draw(st.lists(st.integers(5, 20), min_size=1, max_size=4))
    labels = [(code,) for code, n in enumerate(counts) for _ in range(n)]
    return [f"{row:03d}.png" for row in range(len(labels))], labels


@given(single(), FOLDS, st.integers(0, 2**63 - 1))
def test_folds_differ_by_one_image_in_all_and_of_each_class(
    data: tuple[list[str], list[tuple[int, ...]]], folds: int, seed: int
) -> None:
    paths, sets = data
    found = assign_folds(paths, sets, classes=CLASSES, folds=folds, seed=seed)
    assert found.shape == (len(paths),)
    codes = np.array([code for (code,) in sets])
    for chosen in (np.full(len(codes), True), *(codes == code for code in set(codes.tolist()))):
        counts = np.bincount(found[chosen], minlength=folds)
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, ...]], list[int]]:
    """Groups with images of several labels, or none."""
    label = st.lists(st.integers(0, 3), unique=True, max_size=2).map(lambda codes: tuple(sorted(codes)))
    sizes = draw(st.lists(st.integers(1, 6), min_size=8, max_size=20))
    groups = [group for group, n in enumerate(sizes) for _ in range(n)]
    return [f"{row:03d}.png" for row in range(len(groups))], [draw(label) for _ in groups], groups


@given(grouped(), FOLDS, st.integers(0, 9), st.randoms())
def test_groups_stay_whole_and_every_class_is_trained_whatever_the_order(
    data: tuple[list[str], list[tuple[int, ...]], list[int]], folds: int, seed: int, random: "np.random.Generator"
) -> None:
    paths, sets, groups = data
    try:
        found = assign_folds(paths, sets, groups, classes=CLASSES, folds=folds, seed=seed)
    except DataError:
        assume(False)
    assert set(found.tolist()) <= set(range(folds))
    assert len({*zip(groups, found.tolist(), strict=True)}) == len(set(groups))
    for code in {code for codes in sets for code in codes}:
        assert len({fold for fold, codes in zip(found.tolist(), sets, strict=True) if code in codes}) > 1
    rows = list(range(len(paths)))
    random.shuffle(rows)
    again = assign_folds(
        [paths[row] for row in rows],
        [sets[row] for row in rows],
        [groups[row] for row in rows],
        classes=CLASSES,
        folds=folds,
        seed=seed,
    )
    assert again.tolist() == found[rows].tolist()


@given(st.lists(st.integers(1, 6), min_size=20, max_size=60), FOLDS, st.integers(0, 9))
def test_folds_of_groups_differ_by_the_largest_group(sizes: list[int], folds: int, seed: int) -> None:
    groups = [group for group, n in enumerate(sizes) for _ in range(n)]
    paths = [f"{row:03d}" for row in range(len(groups))]
    found = assign_folds(paths, [(0,)] * len(paths), groups, classes=CLASSES, folds=folds, seed=seed)
    counts = np.bincount(found, minlength=folds)
    assert counts.max() - counts.min() <= max(sizes)


def test_labels_of_several_are_spread() -> None:
    rng = np.random.default_rng(0)
    sets = [tuple(np.flatnonzero(rng.random(4) < 0.4).tolist()) for _ in range(400)]
    found = assign_folds([f"{row:03d}" for row in range(400)], sets, classes=CLASSES, folds=5, seed=0)
    for code in range(4):
        counts = np.bincount([fold for fold, codes in zip(found.tolist(), sets, strict=True) if code in codes])
        assert counts.max() - counts.min() <= 4
    assert np.abs(np.bincount(found) - 80).max() <= 8  # a tenth: labels come before sizes


def test_another_seed_deals_otherwise() -> None:
    paths, sets = [f"{row:03d}" for row in range(60)], [(row % 2,) for row in range(60)]
    dealt = [assign_folds(paths, sets, classes=CLASSES, folds=3, seed=seed).tolist() for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]


def test_one_fold_is_none() -> None:
    with pytest.raises(UsageError, match="With --folds 1 nothing is left to train on") as told:
        assign_folds(["a", "b"], [(0,), (0,)], classes=CLASSES, folds=1, seed=0)
    assert "--folds 5" in told.value.hint


def test_a_class_with_fewer_images_than_folds_is_named() -> None:
    sets = [(0,)] * 9 + [(1,)] * 3 + [(2,)] * 4
    paths = [f"{row:02d}" for row in range(len(sets))]
    with pytest.raises(DataError) as told:
        assign_folds(paths, sets, classes=CLASSES, folds=5, seed=0)
    assert told.value.message == (
        "Class 'b' has 3 images, and each of 5 folds needs one to be scored on. So it is with 1 other class."
    )
    assert told.value.hint == "Fewer folds:  --folds 3   or leave the class out."
    assert Counter(assign_folds(paths, sets, classes=CLASSES, folds=3, seed=0).tolist()) == {0: 6, 1: 5, 2: 5}


def test_a_class_in_fewer_groups_than_folds_is_named() -> None:
    sets, groups = [(0,)] * 8 + [(1,)] * 8, [*range(8), 8, 8, 8, 8, 9, 9, 9, 9]
    with pytest.raises(DataError, match=r"class 'b' lie in 2 groups, and 4 folds .* would tear a group") as told:
        assign_folds([f"{row:02d}" for row in range(16)], sets, groups, classes=CLASSES, folds=4, seed=0)
    assert told.value.hint.startswith("Fewer folds:  --folds 2\n")
    with pytest.raises(DataError, match="lie in 1 group, ") as told:
        assign_folds(["a", "b", "c"], [(0,), (0,), (1,)], [0, 1, 1], classes=CLASSES, folds=2, seed=0)
    assert told.value.hint.startswith("Leave the class out")
