"""Which images of an evaluation are shown to people: a pure function of what was answered."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.metrics import Ints, Scored
from imgkit.multilabel import ScoredSets

MOST = 64  # images in all
MISTAKES = 24  # the surest wrong answers
UNSURE = 12  # the least sure right ones
PER_CELL = 3  # examples of one confusion

_Found = Iterator[tuple[int, int]]
"""(row, code), the first ones first."""


class Pick(NamedTuple):
    """An image to show.

    Args:
        row: of the evaluation, from 0.
        code: the class or label that it is shown for, and whose map is made.
        why: "mistake", "unsure" and "cell", those that hold.
    """

    row: int
    code: int
    why: tuple[str, ...]


def choose_rows(scored: Scored | ScoredSets) -> list[Pick]:
    """At most `MOST` images: mistakes, then unsure ones, then examples of confusions.

    With one label an image:

        mistake  wrong answers, the most probable first
        unsure   right answers, the least probable first
        cell     of each confusion (true class, answer), the most frequent first, its most probable answers

    In a multi-label task every label of an image is an answer, whose probability is p where the label is answered and
    1 - p where it is not. An image is shown for one of them, its `code`:

        mistake  images with a wrong answer, by the most probable wrong one
        unsure   images all of whose answers are right, by the least probable one
        cell     of each (label, missing or too many), the most frequent first, its most probable wrong answers

    Of equal ones the earlier image, of equally frequent confusions that of the lower classes comes first. An image that
    is shown for one label is no example of another. Probabilities are those of predictions.csv, as it has them.
    """
    wrong, right, cells = _of_sets(scored) if isinstance(scored, ScoredSets) else _of_labels(scored)
    found: dict[int, tuple[int, list[str]]] = {}

    def add(pairs: _Found, why: str) -> None:
        for row, code in pairs:
            if row not in found and len(found) < MOST:
                found[row] = (code, [])
            if row in found and found[row][0] == code:
                found[row][1].append(why)

    add(islice(wrong, MISTAKES), "mistake")
    add(islice(right, UNSURE), "unsure")
    for cell in cells:
        if len(found) == MOST:
            break
        add(islice(cell, PER_CELL), "cell")
    return [Pick(row, code, tuple(reasons)) for row, (code, reasons) in found.items()]


def _of_labels(scored: Scored) -> tuple[_Found, _Found, Iterator[_Found]]:
    """Wrong answers, right ones, and the wrong ones of each confusion."""
    rows, answers = np.arange(len(scored.targets)), scored.predicted
    missed = answers != scored.targets
    wrong, right = _falling(rows[missed], scored.prob), _falling(rows[~missed], -scored.prob)
    kinds, kind, counts = np.unique(  # sorted by true class, then by answer
        scored.targets[wrong] * (answers.max() + 1) + answers[wrong], return_inverse=True, return_counts=True
    )
    frequent = _falling(np.arange(len(kinds)), counts)
    cells = (_pairs(wrong[kind == one], answers) for one in frequent)
    return _pairs(wrong, answers), _pairs(right, answers), cells


def _of_sets(scored: ScoredSets) -> tuple[_Found, _Found, Iterator[_Found]]:
    """Images with a wrong answer, those without, and the wrong answers of each label."""
    wrong = scored.targets != scored.predicted  # (N, K)
    sure = np.where(scored.predicted, scored.probs, 1 - scored.probs)
    missed, rows = wrong.any(axis=1), np.arange(len(wrong))
    surest = np.where(wrong, sure, -1.0)
    kinds = np.stack([wrong & scored.targets, wrong & scored.predicted], axis=2)  # (N, K, 2): missing, too many
    counts = kinds.sum(axis=0).ravel()
    frequent = _falling(np.flatnonzero(counts), counts)
    examples = ((rows[kinds[:, code, kind]], code) for code, kind in (divmod(int(one), 2) for one in frequent))
    cells = (_pairs(_falling(found, sure[:, code]), np.full(len(rows), code)) for found, code in examples)
    return (
        _pairs(_falling(rows[missed], surest.max(axis=1)), surest.argmax(axis=1)),
        _pairs(_falling(rows[~missed], -sure.min(axis=1)), sure.argmin(axis=1)),
        cells,
    )


def _falling(rows: Ints, values: npt.NDArray[Any]) -> Ints:
    """`rows` by their values, the greatest first, equal ones in their order."""
    return rows[np.argsort(-values[rows], kind="stable")]


def _pairs(rows: Ints, codes: Ints) -> _Found:
    return ((int(row), int(codes[row])) for row in rows)
