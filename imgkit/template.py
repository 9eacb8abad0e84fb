"""A table of answers to be filled in, as competitions and forms give out: its rows, its order, its columns.

What is not filled in keeps its bytes: quotes, spaces, line ends, further columns.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from imgkit.data.csv_text import delimiter_of
from imgkit.data.rows import count, listed
from imgkit.errors import DataError, UsageError, printable, suggestion

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Template:
    """A table to fill.

    Args:
        shown: its name, for messages.
        delimiter: between cells.
        records: the cells of each line as written, quotes included, and its line end; the header first.
        images: the column that names images, by position.
        columns: the columns to fill, by position: one of labels, or one of probabilities for each class.
    """

    shown: str
    delimiter: str
    records: tuple[tuple[tuple[str, ...], str], ...]
    images: int
    columns: tuple[int, ...]

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return [_value(cell) for cell in self.records[0][0]]

    @property
    def wanted(self) -> list[str]:
        """The image that each row asks about, in order; a blank line asks about none."""
        return [_value(cells[self.images]) for cells, _ in self.records[1:] if cells != ("",)]

    def match(self, paths: Iterable[str], *, lenient: bool) -> tuple[dict[str, str], list[str]]:
        """The file that each row means.

        A cell is the end of a path, with or without its extension: "a", "a.jpg", "cats/a.jpg" mean photos/cats/a.jpg.

        Args:
            paths: the images that were given.
            lenient: whether rows without an image, and images without a row, are fine.

        Returns:
            cell to path, for rows that have one; and the paths that no row asks for.

        Raises:
            DataError: if a row means several images; unless `lenient`, if a row or an image is left over.
        """
        known: dict[str, list[str]] = defaultdict(list)
        given = list(dict.fromkeys(paths))
        for path in given:
            for end in (PurePath(path).name, PurePath(path).stem):
                known[end].append(path)
        found, missing = {}, []
        for cell in dict.fromkeys(self.wanted):
            near = list(dict.fromkeys(path for path in known.get(PurePath(cell).name, ()) if _means(cell, path)))
            if len(near) > 1:
                raise DataError(
                    f"{self.shown}: {printable(cell)!r} means {len(near):,} images: {listed(near)}.",
                    "Give one folder of images, or more of the path in the table.",
                )
            if near:
                found[cell] = near[0]
            else:
                missing.append(cell)
        used = set(found.values())
        surplus = [path for path in given if path not in used]
        if not lenient and (missing or surplus):
            raise _left_over(self.shown, missing, surplus)
        return found, surplus

    def fill(self, answers: Mapping[str, Sequence[str]], fill: str | None) -> str:
        """The table with its answers.

        Args:
            answers: for an image's cell, the text of each column to fill.
            fill: the text of all columns where there is no answer.
        """
        out = io.StringIO(newline="")
        for number, (cells, end) in enumerate(self.records):
            written = list(cells)
            if number and cells != ("",):
                texts = answers.get(_value(cells[self.images]), [fill or ""] * len(self.columns))
                for column, text in zip(self.columns, texts, strict=True):
                    written[column] = _quoted(text, self.delimiter)
            out.write(self.delimiter.join(written) + end)
        return out.getvalue()


def read_template(
    file: Path, *, image_col: str | None = None, label_col: str | None = None, classes: Sequence[str] = ()
) -> Template:
    """Read a table to fill.

    Args:
        file: CSV with a header, UTF-8; its delimiter is guessed.
        image_col: the column that names images; None: the first.
        label_col: the column to fill; None: the only other one; or, where the other columns are named as the classes
            are, these, with probabilities.
        classes: of the model.

    Raises:
        DataError: if the file cannot be read, is no table, or lacks a column that was named.
        UsageError: if the column to fill has to be named.
    """
    shown = printable(str(file))
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror}.", "Give a CSV file:  --template FILE") from error
    delimiter = delimiter_of(text.splitlines()[0]) if text.strip() else ","
    records = tuple(_records(text, delimiter))
    header = [_value(cell) for cell in records[0][0]] if records else []
    if len(header) < 2:
        raise DataError(f"{shown} has no column to fill. Columns: {listed(header) or 'none'}.", "Give it two at least.")
    for number, (cells, _) in enumerate(records, 1):
        if len(cells) != len(header) and cells != ("",):
            raise DataError(
                f"{shown}: row {number:,} has {count(len(cells), 'cell')}, and the header {len(header)}.",
                "Mend the row.",
            )
    images = _column(header, image_col, shown, "--image-col") if image_col else 0
    others = [position for position in range(len(header)) if position != images]
    if label_col:
        columns = [_column(header, label_col, shown, "--label-col")]
        if columns == [images]:
            raise UsageError(f"The column {label_col!r} names the images of {shown}.", "Name another --label-col.")
    elif len(others) == 1 or sorted(header[position] for position in others) == sorted(classes):
        columns = others
    else:
        raise UsageError(
            f"{shown} has {len(others)} columns besides {header[images]!r}, and they are not the classes.",
            f"Say which one to fill:  --label-col COLUMN   ({listed(header[position] for position in others)})",
        )
    return Template(shown, delimiter, records, images, tuple(columns))


def _records(text: str, delimiter: str) -> Iterable[tuple[tuple[str, ...], str]]:
    """Each line's cells as written, and its line end; a quoted cell may hold both."""
    cell = re.compile(rf'\s*"(?:[^"]|"")*"[^{re.escape(delimiter)}\r\n]*|[^{re.escape(delimiter)}\r\n]*')
    position, cells = 0, list[str]()
    while position < len(text) or cells:
        match = cell.match(text, position)
        assert match is not None, "the second form matches nothing at all, too"
        cells.append(match[0])
        position = match.end()
        if text.startswith(delimiter, position):
            position += len(delimiter)
            continue
        end = _LINE_END.match(text, position)
        yield tuple(cells), end[0] if end else ""
        position, cells = end.end() if end else len(text), []


def _value(cell: str) -> str:
    """What a cell means: without a byte-order mark, spaces around it and quotes."""
    plain = cell.removeprefix("\ufeff").strip()
    return plain[1:-1].replace('""', '"') if len(plain) > 1 and plain[0] == plain[-1] == '"' else plain


def _quoted(text: str, delimiter: str) -> str:
    """A cell that reads back as `text`."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow([text])
    return "" if not text else out.getvalue()


def _means(cell: str, path: str) -> bool:
    """Whether `cell` is the end of `path`, with or without its extension."""
    wanted = PurePath(cell).parts
    forms = (PurePath(path), PurePath(path).with_suffix(""))
    return any(form.parts[-len(wanted) :] == wanted for form in forms)


def _column(header: list[str], name: str, shown: str, flag: str) -> int:
    if name not in header:
        raise DataError(
            f"{shown} has no column {name!r}{suggestion(name, header)}.", f"Columns of {flag}: {listed(header)}."
        )
    return header.index(name)


def _left_over(shown: str, missing: list[str], surplus: list[str]) -> DataError:
    lines = []
    if missing:
        lines.append(f"{count(len(missing), 'row')} of {shown} without an image: {listed(missing)}.")
    if surplus:
        lines.append(f"{count(len(surplus), 'image')} without a row in {shown}: {listed(surplus)}.")
    hint = "Where that is meant:  --fill VALUE   writes VALUE into such rows, and leaves such images out."
    return DataError("\n".join(lines), hint)
