"""A history from a table that another tool wrote: a row an epoch.

Columns are `epoch`, `phase`, `lr`, `best`, and for the splits train, val and test `SPLIT/loss`, `SPLIT/top1`,
`SPLIT/top5`, `SPLIT/map`, `SPLIT/f1_macro`, `SPLIT/f1_micro`; `_` may stand for `/`. Without any number of val, those
of test are what training is compared with. Only `epoch` has to be there, and one that can be drawn.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from imgkit.data.csv_text import Line, read_cells
from imgkit.data.rows import absolute, listed
from imgkit.errors import DataError, UsageError, printable, suggestion
from imgkit.plots.history import SCORES, Chosen, History, Rates

Unit = Literal["fraction", "percent"]
_OTHERS = ("epoch", "phase", "lr", "best")
_NAMES = (*_OTHERS, *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", *SCORES)))
_YES = {"1", "true", "yes"}
_NO = {"", "0", "false", "no"}


def history_of_table(
    file: Path, *, columns: Sequence[str] = (), phases: str | None = None, unit: Unit | None = None
) -> History:
    """The history in a CSV.

    Args:
        file: the table; comma, semicolon or tab.
        columns: "NAME=COLUMN" for a column that is called otherwise.
        phases: "20,30": the last epochs of all phases but the last; None: the column `phase`, or one phase.
        unit: of the scores; None: percent where one is above 1, else fractions, and a note says so.

    Raises:
        DataError: if the table cannot be read as a history.
        UsageError: if an argument does not fit it.
    """
    shown = printable(str(file))
    header, lines = read_cells(absolute(file), shown)
    if not lines:
        raise DataError(f"{shown} has no row under its header.", "It needs a row an epoch.")
    places, notes = _places(header, columns, shown)
    table = _Table(shown, header, lines, places)
    epochs = table.numbers("epoch")
    _check_epochs(epochs, table)
    numbers = {name: table.numbers(name) for name in places if "/" in name}
    empty = [name for name, values in numbers.items() if all(map(math.isnan, values))]
    if empty:
        notes.append(f"columns without a number, which are not plotted: {listed(header[places[one]] for one in empty)}")
    told = {name: values for name, values in numbers.items() if name not in empty}
    validated, tested = (any(name.startswith(split) for name in told) for split in ("val/", "test/"))
    held_out = "val" if validated or not tested else "test"
    found = {
        name.replace("test/", "val/"): values
        for name, values in told.items()
        if held_out == "test" or not name.startswith("test/")
    }
    scores = [name for name in found if not name.endswith("/loss")]
    if scores:
        given = unit or _unit(found, scores, shown)
        _check_range(found, scores, given, shown, asked=unit is not None)
        notes += [] if unit else [_said(given, shown)]
        part = 100.0 if given == "percent" else 1.0
        found |= {name: tuple(value / part for value in found[name]) for name in scores}
    if validated and tested:
        notes.append("columns of val and of test: those of test are left out")
    rates = Rates(epochs, table.numbers("lr"), by_epoch=True) if "lr" in places else None
    if not found and rates is None:
        none = f": {listed(header[places[one]] for one in empty)} without a number" if empty else ""
        raise DataError(f"{shown} has no column that can be drawn{none}.", _how_to_name(header))
    return History(
        title=file.name,
        epochs=epochs,
        phases=_phases(epochs, table, phases),
        columns=found,
        rates=rates,
        held_out=held_out,
        chosen=_chosen(epochs, table),
        notes=tuple(notes),
    )


class _Table:
    """Cells of a table by the names of this module.

    Args:
        shown: the file as the user named it.
        header: names of the columns.
        lines: its rows.
        places: name to column.
    """

    def __init__(self, shown: str, header: Sequence[str], lines: Sequence[Line], places: Mapping[str, int]) -> None:
        self.shown = shown
        self.header = header
        self.lines = lines
        self.places = places

    def cells(self, name: str) -> list[str]:
        return [cells[self.places[name]].strip() for _, cells in self.lines]

    def row(self, number: int) -> str:
        return f"{self.shown}: row {self.lines[number][0]:,}"

    def numbers(self, name: str) -> tuple[float, ...]:
        """A column of numbers; NaN where a cell is empty or not finite.

        Raises:
            DataError: for a cell that is no number.
        """
        found = []
        for number, cell in enumerate(self.cells(name)):
            try:
                value = float(cell) if cell else math.nan
            except ValueError:
                column = self.header[self.places[name]]
                raise DataError(
                    f"{self.row(number)} has {printable(cell)!r} under {printable(column)}, which is no number.",
                    "Write numbers such as 0.703 or 70.3, or leave the cell empty.",
                ) from None
            found.append(value if math.isfinite(value) else math.nan)
        return tuple(found)


def _places(header: Sequence[str], columns: Sequence[str], shown: str) -> tuple[dict[str, int], list[str]]:
    """Name to column, those that are given by name first, and a note on columns that are not used."""
    places: dict[str, int] = {}
    all_columns = listed(header, len(header))
    for text in columns:
        name, _, column = text.partition("=")
        if name not in _NAMES:
            raise UsageError(
                f"--columns {printable(text)!r}: {printable(name)!r} is not known{suggestion(name, _NAMES)}.",
                f"Write NAME=COLUMN; names are {', '.join(_NAMES)}.",
            )
        if not column:
            raise UsageError(
                f"--columns {printable(text)!r} names no column.", f"Write {name}=COLUMN; columns: {all_columns}."
            )
        if column not in header:
            raise UsageError(
                f"--columns {printable(text)!r}: {shown} has no column {printable(column)!r}"
                f"{suggestion(column, header)}.",
                f"Columns: {all_columns}.",
            )
        if name in places:
            raise UsageError(f"--columns names {name} twice.", "Name each once.")
        places[name] = header.index(column)
    taken = set(places.values())
    for place, column in enumerate(header):
        name = re.sub(r"^(train|val|test)_", r"\1/", column.lower())
        if name in _NAMES and name not in places and place not in taken:
            places[name] = place
    if "epoch" not in places:
        raise DataError(f"{shown} has no column epoch.", _how_to_name(header, "epoch"))
    idle = [column for place, column in enumerate(header) if place not in places.values()]
    return places, [f"columns that are not plotted: {listed(idle, 8)}"] if idle else []


def _how_to_name(header: Sequence[str], name: str = "val/top1") -> str:
    return f"Say which one it is:  --columns {name}=COLUMN   Columns: {listed(header, len(header))}."


def _check_epochs(epochs: Sequence[float], table: _Table) -> None:
    for number, epoch in enumerate(epochs):
        if math.isnan(epoch):
            raise DataError(f"{table.row(number)} has no epoch.", "Fill it in or delete the row.")
    for number, (before, epoch) in enumerate(pairwise(epochs), start=1):
        if epoch <= before:
            raise DataError(
                f"{table.row(number)} has epoch {epoch:g} after {before:g}; epochs have to grow.",
                "Give one training, its rows in order.",
            )


def _unit(found: Mapping[str, Sequence[float]], scores: Sequence[str], shown: str) -> Unit:
    """Percent where a score is above 1; where only some columns have such a score nothing can be told from them."""
    above = {name: any(value > 1 for value in found[name]) for name in scores}
    if len(set(above.values())) > 1:
        large, small = (next(name for name in scores if above[name] is one) for one in (True, False))
        raise UsageError(
            f"{shown}: {large} has values above 1 and {small} has none, so it cannot be told whether scores are in "
            "percent.",
            "All of them are in one unit; say which:  --unit percent   or  --unit fraction",
        )
    return "percent" if above[scores[0]] else "fraction"


def _said(unit: Unit, shown: str) -> str:
    if unit == "percent":
        return f"scores of {shown} are read as percent, since they go above 1"
    return f"scores of {shown} are read as fractions, since none is above 1; if they are percent:  --unit percent"


def _check_range(
    found: Mapping[str, Sequence[float]], scores: Sequence[str], unit: Unit, shown: str, *, asked: bool
) -> None:
    most = 100.0 if unit == "percent" else 1.0
    for name in scores:
        wrong = next((value for value in found[name] if not (0 <= value <= most or math.isnan(value))), None)
        if wrong is not None:
            raise DataError(
                f"{shown}: {name} holds {wrong:g}, and a score in {unit} lies between 0 and {most:g}.",
                "Choose the other --unit, or mend the table." if asked else "Mend the table.",
            )


def _phases(epochs: Sequence[float], table: _Table, ends: str | None) -> tuple[str, ...]:
    """The phase of each row."""
    if ends is None:
        return tuple(table.cells("phase")) if "phase" in table.places else ("",) * len(epochs)
    if "phase" in table.places:
        raise UsageError(f"--phases is not used: {table.shown} has a column phase.", "Leave one of them out.")
    try:
        last = [float(text) for text in ends.split(",")]
    except ValueError:
        raise _wrong_phases(ends, epochs) from None
    if any(after <= before for before, after in pairwise([-math.inf, *last])):
        raise _wrong_phases(ends, epochs)
    if not all(epochs[0] <= end < epochs[-1] for end in last):
        raise _wrong_phases(ends, epochs)
    return tuple(f"phase {1 + sum(epoch > end for end in last)}" for epoch in epochs)


def _wrong_phases(ends: str, epochs: Sequence[float]) -> UsageError:
    return UsageError(
        f"--phases {printable(ends)!r} does not name growing epochs from {epochs[0]:g} to before {epochs[-1]:g}.",
        "Write the last epoch of each phase but the last:  --phases 20,30",
    )


def _chosen(epochs: Sequence[float], table: _Table) -> Chosen | None:
    """The last epoch that the column `best` marks, as in history.jsonl."""
    if "best" not in table.places:
        return None
    marked = []
    for number, cell in enumerate(table.cells("best")):
        if cell.lower() not in _YES | _NO:
            raise DataError(f"{table.row(number)} has {printable(cell)!r} under best.", "Write true or false.")
        marked += [epochs[number]] if cell.lower() in _YES else []
    return Chosen((marked[-1],), f"chosen: epoch {marked[-1]:g}") if marked else None
