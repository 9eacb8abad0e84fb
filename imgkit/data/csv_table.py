"""Labels in a CSV: one row per image, every cell text."""

import csv
import io
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from imgkit.data.rows import EXTENSIONS, Row, Source, absolute, count, exists, listed
from imgkit.errors import DataError, did_you_mean, printable
from imgkit.recipe.schema import DataSettings

GUESSES: Mapping[str, tuple[str, ...]] = {
    "image": ("path", "image", "file", "filename", "file_name", "image_path", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split",),
}
CSV_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_GROUP = re.compile(r"(group|patient|subject|person|case|animal|session|scene|video)([ _-]?(id|no|nr))?")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:/ is a drive


def read_table(file: Path, shown: str, settings: DataSettings) -> Source:
    """Read a CSV with columns for the image, its label and, where there are such, its split, group and weight.

    Delimiters are comma, semicolon and tab. Rows are counted as a spreadsheet counts them: the header is row 1.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        settings: columns and root; `on_bad="stop"` also makes missing files an error here, where the row is known.

    Raises:
        DataError: if the file is not such a table, a path leaves the root, or a file has two labels or two splits.
    """
    header, lines = _parse(_text(file, shown), shown)
    columns = _columns(header, shown, settings)
    root = absolute(settings.root) if settings.root else file.parent
    if not root.is_dir():
        raise DataError(f"The root of the image paths does not exist: {settings.root}", "Give an existing --root.")
    source = Source(root, shown, [])
    used = ", ".join(f"{what} {header[column]!r}" for what, column in columns.items())
    source.notes.append(f"Columns of {shown}: {used}.")
    _say_unused(header, columns, source)
    found = _rows(lines, columns, shown, Paths(root, shown), source)
    if not found:
        raise DataError(f"{shown} has a header but no rows.", "Each row after the header describes one image.")
    if settings.on_bad == "stop":
        _require_files(found, root, shown)
    source.rows.extend(sorted(row for _, row in found))
    return source


def delimiter_of(header: str) -> str:
    """Comma, semicolon or tab: the one that a header line has most of, outside quotes."""
    return max(",;\t", key=lambda mark: re.sub(r'"[^"]*"', "", header).count(mark))


def _text(file: Path, shown: str) -> str:
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


def _parse(text: str, shown: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header cells, and (row number, cells) of each row that is not blank."""
    delimiter = delimiter_of(next((line for line in text.splitlines() if line.strip()), ""))
    rows: list[tuple[int, list[str]]] = []
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
        raise DataError(f"{shown} is empty.", "It needs a header and one row per image.")
    header = [cell.strip() for cell in rows[0][1]]
    twice = [name for name, n in Counter(header).items() if n > 1]
    if twice:
        raise DataError(f"{shown} has two columns called {twice[0]!r}.", "Rename one of them.")
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{shown}: row {number:,} has {count(len(cells), 'cell')}, the header has {len(header)}.",
                f"The delimiter was taken to be {delimiter!r}; put cells that contain it in double quotes.",
            )
    return header, rows[1:]


def _say_unused(header: Sequence[str], columns: Mapping[str, int], source: Source) -> None:
    """Columns that nothing reads; one that looks like a group is a warning, since splitting a group flatters."""
    unused = [name for number, name in enumerate(header) if number not in columns.values() and name]
    if unused:
        source.notes.append(f"Columns of {source.shown} that are not used: {listed(unused)}.")
    likely = next((name for name in unused if _GROUP.fullmatch(name.lower())), None)
    if likely is not None and "group" not in columns and "split" not in columns:
        source.warnings.append(
            f"Column {printable(likely)!r} is not used. If its images belong together, keep them in one split:  "
            f"--group-col {shlex.quote(printable(likely))}"
        )


def _columns(header: Sequence[str], shown: str, settings: DataSettings) -> dict[str, int]:
    """Position of the image, label, split, group and weight column."""
    asked = {"image": settings.image_col, "label": settings.label_col}
    asked |= {"split": settings.split_col, "group": settings.group_col, "weight": settings.weight_col}
    lower = [name.lower() for name in header]
    guessed = {
        what: next((header[lower.index(name)] for name in names if name in lower), None)
        for what, names in GUESSES.items()
    }
    columns: dict[str, int] = {}
    for what, name in asked.items():
        if name is not None and name not in header:
            raise _no_column(header, shown, f"{shown} has no column {name!r}.", asked, guessed)
        chosen = name if name is not None else guessed.get(what)
        if chosen is not None:
            columns[what] = header.index(chosen)
        elif what in {"image", "label"}:
            looked = ", ".join(GUESSES[what])
            raise _no_column(header, shown, f"{shown} has no {what} column (looked for {looked}).", asked, guessed)
    twice = [header[column] for column, n in Counter(columns.values()).items() if n > 1]
    if twice:
        raise DataError(f"{shown}: column {twice[0]!r} is used for two things.", f"Columns: {', '.join(header)}")
    return columns


def _no_column(
    header: Sequence[str], shown: str, message: str, asked: Mapping[str, str | None], guessed: Mapping[str, str | None]
) -> DataError:
    flags = []
    for what, name in asked.items():
        near = did_you_mean(name, header, n=1) if name is not None and name not in header else []
        better = near[0] if near else guessed.get(what)
        if better is not None and name != better and (name is not None or what in {"image", "label"}):
            flags.append(f"--{what}-col {printable(better)}")
    hint = f"Columns: {', '.join(map(printable, header))}"
    if any(name.lower().endswith(EXTENSIONS) for name in header):
        return DataError(message, f"{hint}\nThe first row is an image: put a header above it, such as path,label")
    return DataError(
        message, f"{hint}\nDid you mean  {' '.join(flags)} ?" if flags else f"{hint}\nGive --label-col and --image-col."
    )


class Paths:
    """Cells of the image column to paths below a root.

    Args:
        root: absolute; nothing outside is read.
        shown: the table's name for messages.
    """

    def __init__(self, root: Path, shown: str) -> None:
        self.root = str(root)
        self.shown = shown
        self._real_root = os.path.realpath(root)
        self._real_parents: dict[str, str] = {}

    def relative(self, cell: str, row: int) -> str:
        """The path relative to the root, POSIX.

        Raises:
            DataError: if the cell is empty, a URL, or leads out of the root, by its text or through a link.
        """
        if not cell.strip():
            raise DataError(f"{self.shown}: row {row:,} has no image path.", "Fill it in or delete the row.")
        if _URL.match(cell):
            raise DataError(
                f"{self.shown}: row {row:,} is a URL: {printable(cell)}", "imgkit reads files; fetch them first."
            )
        path = os.path.normpath(Path(self.root, cell))
        if "\\" in cell and not os.path.lexists(path):
            path = os.path.normpath(Path(self.root, cell.replace("\\", "/")))
        inside = self.root.rstrip(os.sep) + os.sep
        if not path.startswith(inside) or not self._real(path).startswith(self._real_root.rstrip(os.sep) + os.sep):
            raise DataError(
                f"{self.shown}: row {row:,} leads out of {printable(self.root)}: {printable(cell)}",
                "Give the folder that holds all images with --root.",
            )
        return path[len(inside) :].replace(os.sep, "/")

    def _real(self, path: str) -> str:
        """`os.path.realpath`, with the folder part looked up once per folder."""
        try:
            if Path(path).is_symlink():
                return os.path.realpath(path)
        except OSError:  # a name too long for the file system: the scan will say so
            return path
        parent, name = os.path.split(path)
        if parent not in self._real_parents:
            self._real_parents[parent] = os.path.realpath(parent)
        return f"{self._real_parents[parent].rstrip(os.sep)}{os.sep}{name}"


def _rows(
    lines: Sequence[tuple[int, list[str]]], columns: Mapping[str, int], shown: str, paths: Paths, source: Source
) -> list[tuple[int, Row]]:
    """(row number, row) of each distinct image."""
    found: dict[str, tuple[int, Row]] = {}
    stripped = repeated = 0
    for number, cells in lines:
        label = cells[columns["label"]]
        stripped += label != label.strip()
        row = Row(
            paths.relative(cells[columns["image"]], number),
            _filled(label.strip(), "label", number, shown),
            _split(cells[columns["split"]], number, shown) if "split" in columns else None,
            _filled(cells[columns["group"]].strip(), "group", number, shown) if "group" in columns else None,
            _weight(cells[columns["weight"]], number, shown) if "weight" in columns else None,
        )
        first, known = found.setdefault(row.path, (number, row))
        if first != number:
            _compare(known, row, first, number, shown)
            repeated += 1
    if stripped:
        source.notes.append(f"Spaces around {count(stripped, 'label')} of {shown} were removed.")
    if repeated:
        source.notes.append(f"{count(repeated, 'repeated row')} of {shown} dropped.")
    return list(found.values())


def _filled(cell: str, what: str, row: int, shown: str) -> str:
    if not cell:
        raise DataError(f"{shown}: row {row:,} has no {what}.", "Fill it in or delete the row.")
    return cell


def _split(cell: str, row: int, shown: str) -> str:
    split = CSV_SPLITS.get(cell.strip().lower())
    if split is None:
        raise DataError(
            f"{shown}: row {row:,} has the unknown split {printable(cell)!r}.", "Write train, val or test in each row."
        )
    return split


def _weight(cell: str, row: int, shown: str) -> float:
    try:
        weight = float(cell)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise DataError(
            f"{shown}: row {row:,} has the weight {printable(cell)!r}.",
            "A weight is a number, 0 or more: an image of weight 2 is drawn twice as often as one of weight 1.",
        )
    return weight


def _compare(known: Row, row: Row, first: int, number: int, shown: str) -> None:
    for what in ("label", "split", "group", "weight"):
        one, two = getattr(known, what), getattr(row, what)
        if one != two:
            raise DataError(
                f"{shown}: {printable(row.path)} has two {what}s: {one!r} in row {first:,}, {two!r} in row {number:,}.",
                "Keep one of the rows.",
            )


def _require_files(found: Sequence[tuple[int, Row]], root: Path, shown: str) -> None:
    missing = [(number, row.path) for number, row in found if not exists(root / row.path)]
    if not missing:
        return
    hint = "Fix the rows, or pass --on-bad skip to leave them out (they will be listed)."
    if len(missing) == len(found):
        hint = f"Relative paths start at {printable(str(root))}; give another folder with --root FOLDER."
    number, path = missing[0]
    near = next(_nearby(root / path), None)
    there = f" (there is {printable(near.relative_to(root).as_posix())!r})" if near else ""
    raise DataError(
        f"{shown}: {len(missing):,} of {count(len(found), 'image')} do not exist. "
        f"First: row {number:,}, {printable(path)!r}{there}.",
        hint,
    )


def _nearby(path: Path) -> Iterator[Path]:
    """Files in the same folder with a like name, best first."""
    if exists(path.parent) and path.parent.is_dir():
        names = [entry.name for entry in path.parent.iterdir()]
        yield from (path.parent / name for name in did_you_mean(path.name, names, n=1))
