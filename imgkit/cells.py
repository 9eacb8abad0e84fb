"""Cells of CSV files that people open in a spreadsheet.

A cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return may be run as a formula there. It gets a leading
apostrophe; so does one that starts with apostrophes before such a sign, so that every cell reads back as it was.
"""

import re
from collections.abc import Iterable

SEPARATOR = "|"  # between the labels of one cell
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded(cell: str) -> str:
    """`cell` so that no spreadsheet runs it as a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def bare(cell: str) -> str:
    """The cell that `guarded` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def joined(labels: Iterable[str]) -> str:
    r"""Several labels as one cell, "" for none; in a label `|` is written `\|`, and a backslash `\\`."""
    return SEPARATOR.join(re.sub(r"[|\\]", r"\\\g<0>", label) for label in labels)


def parted(cell: str) -> list[str]:
    """The labels that `joined` was given, none of them empty."""
    parts = re.findall(r"(?:[^|\\]|\\.?)+", cell, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts]


def visible(name: str) -> str:
    r"""`name` as CSV files have it, which are UTF-8: bytes that are not are shown as `\udcXX`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
