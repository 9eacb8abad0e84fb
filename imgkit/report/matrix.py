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
_NAMES = 12  # images named for one cell
_ROOM = 120_000  # characters of names in a page


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
    """The images behind wrong cells: the surest of each cell first, then the second of each, while there is room."""
    found: dict[Cell, list[list[int | str]]] = {}
    room = _ROOM
    cells = sorted(confusions.images, key=lambda cell: (-len(confusions.images[cell]), cell))
    for number in range(_NAMES):
        for cell in cells:
            rows = confusions.images[cell]
            if number < len(rows) and room > 0:
                row = int(rows[number])
                room -= len(paths[row]) + 10
                found.setdefault(cell, []).append([row, paths[row]])
    return {f"{i},{j}": names for (i, j), names in found.items()}
