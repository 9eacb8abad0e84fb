"""A confusion matrix as a page draws it: cells with their shade, and the names of the images behind each, bounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgkit.report.confusions import Cell, Confusions
from imgkit.report.stored import Answers, AnswersOfSets

WIDEST = 30
"""Classes up to which the matrix is a table with a button in each cell; above, it is drawn."""
SHADES = 6
"""Steps of shade from an empty cell to a full one."""
_NAMES, _RIGHT = 12, 6  # images named for a wrong cell, and for a right one
_ROOM = 50_000  # characters of names in a page


@dataclass(frozen=True)
class Matrix:
    """The confusions of a page.

    Args:
        drawn: whether it is drawn, or a table.
        data: for the page's script: "rows" and "columns" (names), "support", "cells" ([row, column, count]),
            "images" ("row,column" to lists of [row of predictions.csv, path]), "sets" (whether an image has any number
            of labels: beside the diagonal an answer may be right, too).
        shades: of a table, a number from 0 to SHADES for each cell; empty where it is drawn.
    """

    drawn: bool
    data: Mapping[str, Any]
    shades: tuple[tuple[int, ...], ...]


def matrix_of(confusions: Confusions, answers: Answers | AnswersOfSets) -> Matrix:
    """The matrix of a page."""
    drawn = max(confusions.counts.shape) > WIDEST
    cells = np.argwhere(confusions.counts)
    data = {
        "rows": list(confusions.rows),
        "columns": list(confusions.columns),
        "support": confusions.support.tolist(),
        "cells": [[int(i), int(j), int(confusions.counts[i, j])] for i, j in cells],
        "images": named_images(confusions, answers.paths),
        "sets": isinstance(answers, AnswersOfSets),
    }
    shades = np.where(confusions.counts > 0, np.maximum(1, np.ceil(confusions.shares * SHADES)), 0).astype(np.int64)
    return Matrix(drawn, data, () if drawn else tuple(map(tuple, shades.tolist())))


def named_images(confusions: Confusions, paths: Sequence[str]) -> dict[str, list[list[int | str]]]:
    """The images behind the cells: the first of each wrong cell, then the second of each, …, then right ones.

    There are no more than there is room for.
    """
    found: dict[Cell, list[list[int | str]]] = {}
    room = _ROOM
    for images, most in ((confusions.images, _NAMES), (confusions.right, _RIGHT)):
        cells = sorted(images, key=lambda cell: (-len(images[cell]), cell))
        for number in range(most):
            for cell in (cell for cell in cells if number < len(images[cell])):
                row = int(images[cell][number])
                room -= len(paths[row]) + 10
                if room >= 0:
                    found.setdefault(cell, []).append([row, paths[row]])
    return {f"{i},{j}": names for (i, j), names in found.items()}
