"""A CSV as text: header and cells, and which row a cell stands in."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from imgkit.cells import bare
from imgkit.data.rows import count
from imgkit.errors import DataError

Line = tuple[int, list[str]]
"""A row: its number as a spreadsheet counts (the header is row 1), and its cells."""
PREDICTED = ("path", "label", "predicted", "prob", "label_prob", "label_rank")
"""The first columns of an evaluation's predictions.csv."""
PREDICTED_SETS = ("path", "labels", "predicted", "exact")
"""Those of a multi-label task."""
INDEXED = ("path", "label", "split", "group", "size", "sha256")
"""The first columns of a run's index.csv, and of a split file."""
INDEXED_SETS = ("path", "labels", *INDEXED[2:])
"""Those of the split file of a multi-label task."""
LABELLED = ("path", "label", "suggested", "prob", "run")
"""The columns of what `imgkit label` writes."""
JUDGED = ("given", "suggested", "suggested_prob", "given_prob", "rank", "suspect")
"""Columns of labels.csv, which people edit, beside those that say what the data are."""


def delimiter_of(header: str) -> str:
    """Comma, semicolon or tab: the one that a header line has most of, outside quotes."""
    return max(",;\t", key=lambda mark: re.sub(r'"[^"]*"', "", header).count(mark))


def written_by_imgkit(header: Sequence[str]) -> bool:
    """Whether imgkit wrote a table: its cells are `guarded`, others are not."""
    names = tuple(header)
    if names == LABELLED:
        return True
    of_run = names[:6] in (PREDICTED, INDEXED, INDEXED_SETS) or names[:4] == PREDICTED_SETS
    answers = names[:3] == ("path", "label", "prob") or names[:2] == ("path", "labels")
    return of_run or (answers and names[-1] == "error") or set(JUDGED) <= set(names)


def read_cells(file: Path, shown: str) -> tuple[list[str], list[Line]]:
    """The header and the rows of a CSV that are not blank; delimiters are comma, semicolon and tab.

    Args:
        file: absolute path.
        shown: the file as the user named it.

    Raises:
        DataError: if the file is no UTF-8 text, or no table of rows as wide as its header, in which no name is twice.
    """
    header, lines = _parse(read_text(file, shown), shown)
    if written_by_imgkit(header):
        lines = [(number, [bare(cell) for cell in cells]) for number, cells in lines]
    return header, lines


def filled(cell: str, what: str, row: int, shown: str) -> str:
    """The cell without spaces around it.

    Raises:
        DataError: if nothing is left.
    """
    text = cell.strip()
    if not text:
        several = " Where an image may have several labels, or none:  --label-delimiter '|'" if what == "label" else ""
        raise DataError(f"{shown}: row {row:,} has no {what}.", f"Fill it in or delete the row.{several}")
    return text


def refuse_twins(header: Sequence[str], shown: str) -> None:
    """See that each column has a name of its own.

    Raises:
        DataError: if two have the same.
    """
    twice = [name for name, n in Counter(header).items() if n > 1]
    if twice:
        raise DataError(f"{shown} has two columns called {twice[0]!r}.", "Rename one of them.")


def read_text(file: Path, shown: str) -> str:
    """The text of a file in UTF-8.

    Raises:
        DataError: if it cannot be read, or is something else.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror}", "Give a CSV file.") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{shown} is UTF-16 text.", "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8').")
    if b"\0" in raw:
        raise DataError(f"{shown} holds NUL bytes; it is no CSV, or UTF-16 text.", "Save it as UTF-8 CSV.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{shown} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line:,}.",
            "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8').",
        ) from error


def _parse(text: str, shown: str) -> tuple[list[str], list[Line]]:
    """Header cells, and (row number, cells) of each row that is not blank."""
    delimiter = delimiter_of(next((line for line in text.splitlines() if line.strip()), ""))
    rows: list[Line] = []
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            if any(cell.strip() for cell in cells):
                rows.append((number, cells))
    except csv.Error as error:
        row = rows[-1][0] + 1 if rows else 1
        raise DataError(
            f"{shown}: row {row:,} cannot be read: {error}.", "Look for a quote that is not closed."
        ) from error
    if not rows:
        raise DataError(f"{shown} is empty.", "It needs a header, and rows below it.")
    header = [cell.strip() for cell in rows[0][1]]
    refuse_twins(header, shown)
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{shown}: row {number:,} has {count(len(cells), 'cell')}, the header has {len(header)}.",
                f"The delimiter was taken to be {delimiter!r}; put cells that contain it in double quotes.",
            )
    return header, rows[1:]
