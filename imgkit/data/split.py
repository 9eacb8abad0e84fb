"""Splits that imgkit makes: stratified by class or label, whole groups, a pure function of seed and paths."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from imgkit.data.index import SPLITS
from imgkit.data.paths import PathTable
from imgkit.errors import UsageError
from imgkit.keys import key, splitmix64

Ints = npt.NDArray[np.int64]
TRAIN, VAL, TEST = range(len(SPLITS))
NO_LABEL = -1  # having none, as a label of its own


def assign_splits(
    paths: Sequence[str] | PathTable,
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
    by_path = path_order(paths, val, test)
    codes = np.asarray(labels, dtype=np.int64)[by_path]
    if groups is None:
        splits = np.empty(len(paths), dtype=np.int8)
        splits[by_path] = _deal(codes, draws_of(len(paths), seed), val, test)
        return splits
    units = units_of_groups(len(paths), np.asarray(groups, dtype=np.int64)[by_path])
    strata: dict[int, list[Ints]] = {}
    for unit in units:
        strata.setdefault(_majority(codes[unit]), []).append(unit)
    in_order = np.full(len(paths), TRAIN, dtype=np.int8)
    draw = draws_of(len(paths), seed)
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


def _deal(codes: Ints, draw: npt.NDArray[np.uint64], val: float, test: float) -> npt.NDArray[np.int8]:
    """What `assign_splits` does where each image is a group of its own, in arrays; by path, as are both arguments."""
    splits = np.full(len(codes), TRAIN, dtype=np.int8)
    shuffled = np.lexsort((draw, codes))  # class by class
    for rows in np.split(shuffled, np.flatnonzero(np.diff(codes[shuffled])) + 1):
        n = len(rows)
        spare = 2 if test > 0 and n >= 3 else 1
        held_val = max(0, min(n - spare, max(1, round(n * val)))) if val > 0 else 0
        held_test = max(0, min(n - held_val - 1, max(1, round(n * test)))) if test > 0 else 0
        splits[rows[:held_val]] = VAL
        splits[rows[held_val : held_val + held_test]] = TEST
    return splits


def assign_label_sets(
    paths: Sequence[str] | PathTable,
    sets: Sequence[Sequence[int]],
    groups: npt.ArrayLike | None = None,
    *,
    val: float,
    test: float,
    seed: int,
) -> npt.NDArray[np.int8]:
    """Deal images with any number of labels to train, val and test: iterative stratification (Sechidis et al. 2011).

    Each label wants the same numbers of images as a class of `assign_splits`. Labels are served from the rarest on: its
    images go where it still lacks most. Having no label counts as a label. Then images are moved: train gets every
    label, then val every label that train would not lose by it, then test. No group is in two splits, and the order of
    the rows does not matter.

    Args:
        paths: unique names of the n images.
        sets: label codes of each image, each once; n of them.
        groups: group codes, (n,); None: each image is a group of its own.
        val: share for validation, in [0, 1).
        test: share for test, in [0, 1).
        seed: another seed deals otherwise.

    Returns:
        int8 (n,), positions in SPLITS.

    Raises:
        UsageError: if val + test leave nothing to train on.
    """
    by_path = path_order(paths, val, test)
    units = units_of_groups(len(paths), None if groups is None else np.asarray(groups, dtype=np.int64)[by_path])
    draw = draws_of(len(paths), seed)
    units.sort(key=lambda unit: int(draw[unit[0]]))
    ordered = [sets[row] or (NO_LABEL,) for row in by_path.tolist()]
    has = [Counter(label for row in unit.tolist() for label in ordered[row]) for unit in units]
    units_of: dict[int, list[int]] = {}
    for number, labels in enumerate(has):
        for label in labels:
            units_of.setdefault(label, []).append(number)
    shares = {split: share for split, share in enumerate((1 - val - test, val, test)) if share > 0}
    wants = {
        label: _wanted(sum(has[number][label] for number in having), len(having), shares)
        for label, having in units_of.items()
    }
    where = serve(has, units_of, [len(unit) for unit in units], shares, wants)
    _mend(where, has, units_of, shares)
    splits = np.empty(len(paths), dtype=np.int8)
    for unit, split in zip(units, where, strict=True):
        splits[by_path[unit]] = split
    return splits


def serve(
    has: Sequence[Counter[int]],
    units_of: Mapping[int, Sequence[int]],
    sizes: Sequence[int],
    shares: Mapping[int, float],
    wants: Mapping[int, dict[int, float]],
) -> list[int]:
    """The part of each unit, dealt label by label, the one with the fewest units left first.

    Args:
        has: images per label of each unit, in the order in which they are dealt.
        units_of: the units that have each label.
        sizes: images of each unit.
        shares: of each part that there is to be, above 0.
        wants: how many images of each label each part should have; counted down here.
    """
    room = {split: share * sum(sizes) for split, share in shares.items()}
    left = {label: len(units) for label, units in units_of.items()}
    where: dict[int, int] = {}
    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for number in [number for number in units_of[rarest] if number not in where]:
            split = _neediest(wants[rarest], room)
            where[number] = split
            room[split] -= sizes[number]
            for label, images in has[number].items():
                wants[label][split] -= images
                left[label] -= 1
        left = {label: units for label, units in left.items() if units}
    return [where[number] for number in range(len(has))]


def _neediest(wanted: Mapping[int, float], room: Mapping[int, float]) -> int:
    """The part that lacks most images of a label; of several, that which lacks most images, and the first of these."""
    return max(room, key=lambda split: (wanted[split], room[split], -split))


def _wanted(images: int, units: int, shares: Mapping[int, float]) -> dict[int, float]:
    """How many images train, val and test should have of a label: val one at least where two units have it."""
    val, test = shares.get(VAL, 0.0), shares.get(TEST, 0.0)
    spare = 2 if test > 0 and units >= 3 else 1
    held_val = min(images - spare, max(1, round(images * val))) if val > 0 and units >= 2 else 0
    held_test = min(images - held_val - 1, max(1, round(images * test))) if test > 0 and units >= 2 else 0
    return {TRAIN: images - held_val - held_test, VAL: held_val, TEST: held_test}


def _mend(
    where: list[int], has: Sequence[Counter[int]], units_of: Mapping[int, Sequence[int]], splits: Iterable[int]
) -> None:
    """Move units so that train has every label, then val and test each what the others can spare."""
    count = [Counter[int]() for _ in SPLITS]  # units by label
    for number, split in enumerate(where):
        count[split].update(has[number].keys())
    rarest_first = sorted(units_of, key=lambda label: (len(units_of[label]), label))
    for target in sorted(splits):
        for label in rarest_first:
            if count[target][label]:
                continue
            givers = [
                number
                for number in units_of[label]
                if where[number] > target or all(count[where[number]][other] > 1 for other in has[number])
            ]
            if givers:
                mover = min(givers, key=lambda number: len(has[number]))
                count[where[mover]].subtract(has[mover].keys())
                count[target].update(has[mover].keys())
                where[mover] = target


def path_order(paths: Sequence[str] | PathTable, val: float = 0.0, test: float = 0.0) -> Ints:
    """Rows in the order of their paths, once it is sure that something is left to train on."""
    if val + test >= 1:
        raise UsageError(
            f"data.val = {val:g} and data.test = {test:g} leave nothing to train on", "Their sum must be below 1."
        )
    if all(one <= two for one, two in pairwise(paths)):
        return np.arange(len(paths), dtype=np.int64)
    return np.array(sorted(range(len(paths)), key=list(paths).__getitem__), dtype=np.int64)


def draws_of(n: int, seed: int, purpose: str = "split") -> npt.NDArray[np.uint64]:
    """A number for each row in the order of paths, by which units are shuffled."""
    return splitmix64(np.arange(n, dtype=np.uint64) + np.uint64(key(seed, purpose)))


def units_of_groups(n: int, groups: Ints | None) -> list[Ints]:
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
