"""Folds of cross-validation: stratified by class or label, whole groups, a pure function of seed and paths."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imgkit.data.paths import PathTable
from imgkit.data.rows import count
from imgkit.data.split import NO_LABEL, Ints, draws_of, path_order, serve, units_of_groups
from imgkit.errors import DataError, UsageError, printable


def assign_folds(
    paths: Sequence[str] | PathTable,
    sets: Sequence[Sequence[int]],
    groups: npt.ArrayLike | None = None,
    *,
    classes: Sequence[str],
    folds: int,
    seed: int,
) -> Ints:
    """Deal images to folds of nearly equal size, each image to one.

    Where each image has one label and none a group, folds differ by one image at most, in all and of each class. Else
    the largest groups come first, label by label, from the rarest on, each to the fold that still lacks most images of
    the label (iterative stratification, Sechidis et al. 2011); having no label counts as a label. The order of the rows
    does not matter.

    Args:
        paths: unique names of the n images.
        sets: label codes of each image, each once; n of them.
        groups: group codes, (n,); None: each image is a group of its own.
        classes: names of the labels, for messages.
        folds: how many, 2 at least.
        seed: another seed deals otherwise.

    Returns:
        int64 (n,), from 0 on.

    Raises:
        UsageError: if there are fewer than two folds.
        DataError: if a class has fewer images, or groups, than there are folds, or lies in a single fold.
    """
    if folds < 2:
        raise UsageError(
            f"With --folds {folds} nothing is left to train on: each fold is scored by a training on the others.",
            "Give two at least:  --folds 5   or none, and a share for validation:  --val 0.2",
        )
    by_path = path_order(paths)
    ordered = [sets[row] or (NO_LABEL,) for row in by_path.tolist()]
    units = units_of_groups(len(paths), None if groups is None else np.asarray(groups, dtype=np.int64)[by_path])
    has = [Counter(label for row in unit.tolist() for label in ordered[row]) for unit in units]
    _check_classes(has, classes, folds, grouped=groups is not None)
    draw = draws_of(len(paths), seed, "folds")
    dealt = np.empty(len(paths), dtype=np.int64)
    if groups is None and all(len(labels) == 1 for labels in ordered):
        codes = np.array([labels[0] for labels in ordered], dtype=np.int64)
        dealt[np.lexsort((draw, codes))] = np.arange(len(paths)) % folds  # class by class, on where the last one ended
    else:
        for unit, fold in zip(units, _dealt(units, has, draw, folds), strict=True):
            dealt[unit] = fold
    found = np.empty_like(dealt)
    found[by_path] = dealt
    check_trained(found, sets, classes, f"Deal anew:  --split-seed {seed + 1}   or take fewer folds.")
    return found


def _dealt(units: Sequence[Ints], has: Sequence[Counter[int]], draw: npt.NDArray[np.uint64], folds: int) -> list[int]:
    """The fold of each unit."""
    largest_first = sorted(range(len(units)), key=lambda number: (-len(units[number]), int(draw[units[number][0]])))
    served = [has[number] for number in largest_first]
    units_of: dict[int, list[int]] = {}
    for place, labels in enumerate(served):
        for label in labels:
            units_of.setdefault(label, []).append(place)
    wants = {
        label: dict.fromkeys(range(folds), sum(served[place][label] for place in places) / folds)
        for label, places in units_of.items()
    }
    shares = dict.fromkeys(range(folds), 1 / folds)
    where = serve(served, units_of, [len(units[number]) for number in largest_first], shares, wants)
    fold_of = dict(zip(largest_first, where, strict=True))
    return [fold_of[number] for number in range(len(units))]


def _check_classes(has: Sequence[Counter[int]], classes: Sequence[str], folds: int, *, grouped: bool) -> None:
    """See that each class can be in every fold without a group being torn."""
    having = Counter(label for labels in has for label in labels if label != NO_LABEL)
    few = [(n, code) for code, n in having.items() if n < folds]
    if not few:
        return
    n, code = min(few)
    more = f" So it is with {count(len(few) - 1, 'other class', 'other classes')}." * (len(few) > 1)
    fewer = f"--folds {n}" if n > 1 else ""
    name = printable(classes[code])
    if grouped:
        raise DataError(
            f"The images of class {name!r} lie in {count(n, 'group')}, and {folds} folds that each have some of them "
            f"would tear a group.{more}",
            (f"Fewer folds:  {fewer}" if fewer else "Leave the class out, or add images of it from other groups.")
            + "\nWhere images of a group may be apart, leave out --group-col.",
        )
    raise DataError(
        f"Class {name!r} has {count(n, 'image')}, and each of {folds} folds needs one to be scored on.{more}",
        f"Fewer folds:  {fewer}   or leave the class out." if fewer else "Leave the class out, or add images of it.",
    )


def check_trained(folds: Ints, sets: Sequence[Sequence[int]], classes: Sequence[str], hint: str) -> None:
    """See that no class lies in one fold alone: whoever trains on the others would not know it.

    Args:
        folds: of each image from 0 on, (n,).
        sets: label codes of each image.
        classes: names of the labels.
        hint: what to do about it.

    Raises:
        DataError: naming the first such class.
    """
    found: dict[int, set[int]] = {}
    for fold, labels in zip(folds.tolist(), sets, strict=True):
        for label in labels:
            found.setdefault(label, set()).add(fold)
    alone = min((code for code, where in found.items() if len(where) == 1), default=None)
    if alone is not None:
        raise DataError(
            f"All images of class {printable(classes[alone])!r} are in fold {min(found[alone]) + 1}, and a training on "
            "the other folds would not know it.",
            hint,
        )
