"""The CSV of answers: one row an image, whole on the disk after each answer."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from imgkit.cells import Rows, guarded
from imgkit.data.csv_text import LABELLED, read_cells
from imgkit.data.rows import exists, listed
from imgkit.errors import DataError, DiskError, UsageError, disk_told, printable
from imgkit.files import whole_file


class Answer(NamedTuple):
    """What a person said of an image, and what the model had said."""

    label: str
    suggested: str = ""  # the model's most likely class; "": there was no model
    prob: float | None = None  # its calibrated probability
    run: str = ""  # the model's


class Answers:
    """The answers of a CSV, by path.

    A file that is there already is gone on with. Each change replaces it by a whole one, and is on the disk when the
    method returns: a kill at any time leaves all answers but the one that is being given. A file that something else
    changed meanwhile is never written over.

    Args:
        file: absolute; it need not be there yet.

    Raises:
        UsageError: if the file has other columns than this one writes.
        DataError: if it is no such table, or holds an image twice.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: dict[str, Answer] = {}
        self._stamp = _stamp(file)
        if self._stamp is not None:
            self._read(printable(str(file)))

    @property
    def rows(self) -> Mapping[str, Answer]:
        """Path -> answer, in the order in which they were first given."""
        return MappingProxyType(self._rows)

    def put(self, path: str, answer: Answer | None) -> None:
        """Keep the answer to an image, or forget it where it is None.

        Raises:
            DiskError: if the file cannot be written, or is not as it was left: nothing is kept then.
        """
        rows = dict(self._rows)
        if answer is None:
            rows.pop(path, None)
        else:
            rows[path] = answer
        self._write(rows)
        self._rows = rows

    def _read(self, shown: str) -> None:
        header, lines = read_cells(self.file, shown)
        if tuple(header) != LABELLED:
            raise UsageError(
                f"--out {shown} is another table, which is not written over: its columns are {listed(header)}.",
                f"Choose another name:  --out {shlex.quote(str(Path(shown).with_name('labels-2.csv')))}",
            )
        for row, (path, label, suggested, prob, run) in lines:
            if not label.strip() or path in self._rows:
                what = "is there twice" if path in self._rows else "has no label"
                raise DataError(f"{shown}: row {row:,}: {printable(path)} {what}.", "Delete the row.")
            try:
                self._rows[path] = Answer(label, suggested, float(prob) if prob else None, run)
            except ValueError:
                raise DataError(
                    f"{shown}: row {row:,} has the probability {printable(prob)!r}.", "Empty the cell."
                ) from None

    def _write(self, rows: Mapping[str, Answer]) -> None:
        if _stamp(self.file) != self._stamp:
            raise DiskError(
                f"{printable(str(self.file))} was changed by something else meanwhile, and is left as it is.",
                "Start imgkit label again: it goes on with what is there.",
            )
        with disk_told(self.file):
            with whole_file(self.file, newline="") as stream:
                table = Rows(stream)
                table.writerow(LABELLED)
                for path, answer in rows.items():
                    prob = "" if answer.prob is None else f"{answer.prob:.6f}"
                    cells = (path, answer.label, answer.suggested, prob, answer.run)
                    table.writerow([guarded(cell) for cell in cells])
            self._stamp = _stamp(self.file)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What changes as a file is changed or replaced; None: there is none."""
    if not exists(file):
        return None
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
