"""Splits that imgkit makes: stratified by class, whole groups, a pure function of seed and paths."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imgkit.data.index import SPLITS
from imgkit.errors import UsageError
from imgkit.keys import key, splitmix64

Ints = npt.NDArray[np.int64]
TRAIN, VAL, TEST = range(len(SPLITS))


def assign_splits(
    paths: Sequence[str],
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    val: float,
    test: float,
    seed: int,
) -> npt.NDArray[np.int8]:
    """Deal images to train, val and test.

    A class of n images gives round(n * share) to each held-out split, at least one to val where n >= 2 and one to test
    where n >= 3, and keeps at least one in train. No group is in two splits; a group counts for the class that most of
    its images have, and its class gives it away where that comes nearer to the share. The order of the rows does not
    matter.

    Args:
        paths: unique names of the n images.
        labels: class codes, (n,).
        groups: group codes, (n,); None: each image is a group of its own.
        val: share for validation, in [0, 1).
        test: share for test, in [0, 1).
        seed: another seed deals otherwise.

    Returns:
        int8 (n,), positions in SPLITS.

    Raises:
        UsageError: if val + test leave nothing to train on.
    """
    if val + test >= 1:
        raise UsageError(
            f"data.val = {val:g} and data.test = {test:g} leave nothing to train on", "Their sum must be below 1."
        )
    by_path = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
    codes = np.asarray(labels, dtype=np.int64)[by_path]
    units = _units(len(paths), None if groups is None else np.asarray(groups, dtype=np.int64)[by_path])
    strata: dict[int, list[Ints]] = {}
    for unit in units:
        strata.setdefault(_majority(codes[unit]), []).append(unit)
    in_order = np.full(len(paths), TRAIN, dtype=np.int8)
    draw = splitmix64(np.arange(len(paths), dtype=np.uint64) + np.uint64(key(seed, "split")))
    for stratum in strata.values():
        shuffled = sorted(stratum, key=lambda unit: int(draw[unit[0]]))
        spare = 2 if test > 0 and len(shuffled) >= 3 else 1
        held_val = _take(shuffled, val, spare=spare)
        rest = [unit for number, unit in enumerate(shuffled) if number not in held_val]
        held_test = _take(rest, test, spare=1, total=sum(map(len, shuffled)))
        for number in held_val:
            in_order[shuffled[number]] = VAL
        for number in held_test:
            in_order[rest[number]] = TEST
    _give_back(in_order, codes, units)
    splits = np.empty_like(in_order)
    splits[by_path] = in_order
    return splits


def _units(n: int, groups: Ints | None) -> list[Ints]:
    """Rows (by path) of each group, in the order of the groups' first rows."""
    if groups is None:
        return list(np.arange(n, dtype=np.int64).reshape(n, 1))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    return [np.array(rows, dtype=np.int64) for rows in members.values()]


def _majority(codes: Ints) -> int:
    counts: Counter[int] = Counter(codes.tolist())
    return min(counts, key=lambda code: (-counts[code], code))


def _take(units: list[Ints], share: float, *, spare: int, total: int | None = None) -> set[int]:
    """Numbers of the units to hold out, greedily in order, leaving at least `spare` units."""
    allowed = len(units) - spare
    if share == 0 or allowed < 1:
        return set()
    images = sum(map(len, units)) if total is None else total
    target = max(1, round(images * share))
    taken: set[int] = set()
    held = 0
    for number, unit in enumerate(units):
        if len(taken) < allowed and held + len(unit) / 2 <= target:  # nearer to the target with it than without
            taken.add(number)
            held += len(unit)
    return taken or {min(range(len(units)), key=lambda number: len(units[number]))}


def _give_back(splits: npt.NDArray[np.int8], codes: Ints, units: list[Ints]) -> None:
    """Move a group back to train for each class that mixed groups took out of it altogether."""
    missing = set(codes.tolist()) - set(codes[splits == TRAIN].tolist())
    for unit in units:
        if missing & set(codes[unit].tolist()):
            splits[unit] = TRAIN
            missing -= set(codes[unit].tolist())
