"""Cells of CSV files that people open in a spreadsheet.

A cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return may be run as a formula there. It gets a leading
apostrophe; so does one that starts with apostrophes before such a sign, so that every cell reads back as it was.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

SEPARATOR = "|"  # between the labels of one cell
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def guarded(cell: str) -> str:
    """`cell` so that no spreadsheet runs it as a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def guarded_answer(cell: str) -> str:
    """As `guarded`, for a table that another program reads, too: a number such as the class -1 stays what it is."""
    return cell if _NUMBER.fullmatch(cell) else guarded(cell)


def bare(cell: str) -> str:
    """The cell that `guarded` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


class Rows:
    """Writes CSV whose lines end with LF. A CR is quoted, too, which `csv` does only where lines end with CR LF.

    Args:
        file: open for text, with `newline=""`.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._rows = csv.writer(self)

    def writerow(self, cells: Sequence[object]) -> None:
        """Write a row; it is one call of the file's `write`."""
        self._rows.writerow(cells)

    def write(self, line: str) -> int:
        """Called by `csv` with a whole line."""
        return self._file.write(line.removesuffix("\r\n") + "\n")


def joined(labels: Iterable[str]) -> str:
    r"""Several labels as one cell, "" for none; in a label `|` is written `\|`, and a backslash `\\`."""
    return SEPARATOR.join(re.sub(r"[|\\]", r"\\\g<0>", label) for label in labels)


def parted(cell: str) -> list[str]:
    """The labels that `joined` was given, none of them empty."""
    if "\\" not in cell:
        return [part for part in cell.split(SEPARATOR) if part]
    parts = re.findall(r"(?:[^|\\]|\\.?)+", cell, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts]


def visible(name: str) -> str:
    r"""`name` as CSV files have it, which are UTF-8: bytes that are not are shown as `\udcXX`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
