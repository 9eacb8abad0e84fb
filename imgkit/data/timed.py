"""Splits in time: the newest images are test, those before them validation."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from imgkit.data.rows import count, listed
from imgkit.data.split import TEST, TRAIN, VAL, path_order
from imgkit.errors import DataError, printable

Floats = npt.NDArray[np.float64]


def moments(cells: Sequence[str], column: str, paths: Sequence[str]) -> Floats:
    """When each image was taken, (n,): numbers as they stand, or dates of ISO 8601 in seconds.

    Args:
        cells: of the column, n of them.
        column: its name, for messages.
        paths: of the images, for messages.

    Raises:
        DataError: if a cell is empty or neither, or some are numbers and some are dates, or some dates have a zone.
    """
    kinds: dict[str, int] = {}
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        kind, found[row] = _moment(cell.strip())
        if not kind:
            raise DataError(
                f"Column {printable(column)!r} says {printable(cell)!r} of {printable(paths[row])}: no number and no "
                "date.",
                "Write dates as 2026-01-31 or 2026-01-31T12:00, or any number that grows with time.",
            )
        kinds.setdefault(kind, row)
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise DataError(
            f"Column {printable(column)!r} holds {one} ({printable(cells[first])!r}) and {other} "
            f"({printable(cells[second])!r}), which cannot be put in order.",
            "Write all cells in one way.",
        )
    return found


def assign_in_time(
    paths: Sequence[str],
    times: Floats,
    cells: Sequence[str],
    groups: Sequence[str | None],
    *,
    val: float,
    test: float,
) -> npt.NDArray[np.int8]:
    """The newest share of images to test, the share before it to val, the rest to train.

    Images of one moment stay together: a border lies where it comes nearest to the share, with one moment at least on
    each side of it.

    Args:
        paths: of the n images.
        times: when each was taken, (n,).
        cells: the same as the table has it, for messages.
        groups: the group of each; None: it is none's.
        val: share for validation, in [0, 1).
        test: share for test, in [0, 1).

    Returns:
        int8 (n,), positions in SPLITS.

    Raises:
        UsageError: if val + test leave nothing to train on.
        DataError: if there are fewer moments than splits, or a group has images on both sides of a border.
    """
    path_order(paths, val, test)
    parts = [(split, share) for split, share in ((TEST, test), (VAL, val)) if share > 0]
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) <= len(parts):
        raise DataError(
            f"The images are of {count(len(distinct), 'moment')}, and {len(parts) + 1} splits in time need one each.",
            "Name a finer --time-col, or leave it out: then images are dealt at random.",
        )
    ends = np.concatenate([[0], np.cumsum(counts)])  # images before each moment
    splits = np.full(len(times), TRAIN, dtype=np.int8)
    stop, target = len(distinct), len(times)
    for left, (split, share) in zip(reversed(range(len(parts))), parts, strict=True):
        target -= round(len(times) * share)
        allowed = np.arange(1 + left, stop)  # a moment for train and for each part to come
        start = int(allowed[np.abs(ends[allowed] - target).argmin()])
        splits[(times >= distinct[start]) & (times < (distinct[stop] if stop < len(distinct) else np.inf))] = split
        stop = start
    _refuse_torn(times, cells, groups, splits)
    return splits


def check_known_in_train(splits: npt.NDArray[np.int8], sets: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """See that each class is there before the newest images begin.

    Raises:
        DataError: naming those that are not.
    """
    trained = {label for split, labels in zip(splits.tolist(), sets, strict=True) if split == TRAIN for label in labels}
    late = [name for code, name in enumerate(classes) if code not in trained]
    if late:
        raise DataError(
            f"{count(len(late), 'class is', 'classes are')} only among the newest images, which train would not have: "
            f"{listed(late)}.",
            "Take smaller shares (--val, --test), or leave the class out.",
        )


def _moment(cell: str) -> tuple[str, float]:
    """What a cell is, and its moment; "" where it is none."""
    try:
        number = float(cell)
    except ValueError:
        try:
            when = datetime.fromisoformat(cell)
        except ValueError:
            return "", 0.0
        if when.tzinfo is None:
            return "dates without a time zone", when.replace(tzinfo=UTC).timestamp()
        return "dates with a time zone", when.timestamp()
    return ("numbers", number) if np.isfinite(number) else ("", 0.0)


def _refuse_torn(
    times: Floats, cells: Sequence[str], groups: Sequence[str | None], splits: npt.NDArray[np.int8]
) -> None:
    first: dict[str, int] = {}
    names = ("train", "val", "test")
    for row in np.argsort(times, kind="stable").tolist():
        group = groups[row]
        if group is None:
            continue
        before = first.setdefault(group, row)
        if splits[before] != splits[row]:
            raise DataError(
                f"Group {printable(group)!r} has images of {printable(cells[before])} ({names[splits[before]]}) and of "
                f"{printable(cells[row])} ({names[splits[row]]}): a split in time would tear it.",
                "Choose other shares (--val, --test) so that no border lies within a group, or leave out --group-col "
                "where images of a group may be apart.",
            )
