"""A table of images: which column is which, and the rows with paths, labels, splits and groups."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgkit.data.byte_range import holder
from imgkit.data.columns import Rows
from imgkit.data.csv_labels import flag_columns, read_labels
from imgkit.data.csv_text import Line, filled, read_cells
from imgkit.data.parquet import SUFFIX, read_parquet
from imgkit.data.path_list import read_list
from imgkit.data.rows import EXTENSIONS, Row, Source, absolute, count, exists, listed
from imgkit.data.table_paths import Paths
from imgkit.errors import DataError, did_you_mean, printable, typed
from imgkit.recipe.schema import DataSettings
from imgkit.recipe.task import task_of

GUESSES: Mapping[str, tuple[str, ...]] = {
    "image": ("path", "image", "file", "filename", "file_name", "image_path", "filepath"),
    "label": ("label", "class", "category", "target", "labels", "tags"),
    "split": ("split",),
}
CSV_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_GROUP = re.compile(r"(group|patient|subject|person|case|animal|session|scene|video)([ _-]?(id|no|nr))?")
_FLAGS_SHOWN = 12  # columns that a hint spells out


def read_table(file: Path, shown: str, settings: DataSettings) -> Source:
    """Read a table with columns for the image, its labels and, where there are such, its split, group and weight.

    It is a CSV, a Parquet file, or a text file with `path label` on each line.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        settings: task, columns and root; `on_bad="stop"` also makes missing files an error here, where the row is
            known.

    Raises:
        DataError: if the file is not such a table, a path leaves the root, or a file stands in two rows that say
            different things of it; see also `read_labels`.
        UsageError: if task and columns contradict each other.
    """
    task = task_of(settings)
    header, lines = _cells(file, shown, settings)
    columns = _columns(header, lines, shown, settings)
    if not lines:
        raise DataError(f"{shown} has a header but no rows.", "Each row after the header describes one image.")
    root = absolute(settings.root) if settings.root else file.parent
    if not root.is_dir():
        raise DataError(f"The root of the image paths does not exist: {settings.root}", "Give an existing --root.")
    source = Source(root, shown, Rows(), task=task)
    used = ", ".join(f"{what} {header[column]!r}" for what, chosen in columns.items() for column in chosen)
    source.notes.append(f"Columns of {shown}: {used}.")
    _say_unused(header, columns, source)
    labels = read_labels({column: header[column] for column in columns["label"]}, header, lines, settings, source)
    found = _rows(lines, labels, columns, Paths(root, shown), source)
    if settings.on_bad == "stop":
        _require_files(found, root, shown)
    source.rows.extend(sorted(row for _, row in found))
    return source


def other_table(
    file: Path,
    shown: str,
    needed: Collection[str | None],
    labels: Collection[str] = (),
    delimiter: str | None = None,
) -> tuple[list[str], list[Line]] | None:
    """Header and rows of a Parquet file or a list of lines `path label`; None: the file is to be read as a CSV.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        needed: names of columns that must hold text or numbers; None: those that a column of images usually has.
        labels: names that columns of labels have, which may hold lists in Parquet.
        delimiter: between the labels of a cell.

    Raises:
        DataError: see `read_parquet` and `read_list`.
    """
    if file.suffix.lower() == SUFFIX:
        named = {*filter(None, needed), *(GUESSES["image"] if None in needed else ())}
        return read_parquet(file, shown, named, labels, delimiter)
    return read_list(file, shown) if file.suffix.lower() == ".txt" else None


def header_of(file: Path, shown: str) -> list[str]:
    """The names of a table's columns.

    Args:
        file: absolute path.
        shown: the file as the user named it.

    Raises:
        DataError: if the file is no table.
    """
    return (other_table(file, shown, ()) or read_cells(file, shown))[0]


class Cells(NamedTuple):
    """All cells of a table, by image.

    Attributes:
        header: the names of its columns.
        read: what each column that training reads is for: "image", "label", "split", "group" or "weight".
        of: the cells of each image, by its path from the root.
    """

    header: list[str]
    read: Mapping[str, str]
    of: Mapping[str, list[str]]


def read_columns(file: Path, shown: str, settings: DataSettings) -> Cells:
    """The cells of a table's images, those too that training has no use for.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        settings: columns and root, as for `read_table`, which has read the table without a fault.

    Raises:
        DataError: if an image stands in two rows that differ.
    """
    header, lines = _cells(file, shown, settings)
    columns = _columns(header, lines, shown, settings)
    paths = Paths(absolute(settings.root) if settings.root else file.parent, shown)
    (image,), found = columns["image"], dict[str, tuple[int, list[str]]]()
    for number, cells in lines:
        path = paths.relative(cells[image], number)
        first, known = found.setdefault(path, (number, cells))
        differing = [name for name, one, other in zip(header, known, cells, strict=True) if one != other]
        if differing and differing != [header[image]]:
            raise DataError(
                f"{shown}: {printable(path)} stands in rows {first:,} and {number:,}, which differ in "
                f"{listed(differing)}.",
                "Keep one of the rows.",
            )
    read = {header[column]: what for what, chosen in columns.items() for column in chosen}
    return Cells(header, read, {path: cells for path, (_, cells) in found.items()})


def _cells(file: Path, shown: str, settings: DataSettings) -> tuple[list[str], list[Line]]:
    """Header and rows of a table, by its kind."""
    others = (settings.split_col, settings.group_col, settings.weight_col)
    needed = {settings.image_col, *(settings.label_col or ()), *filter(None, others)}
    labels = settings.label_col or GUESSES["label"]
    return other_table(file, shown, needed, labels, settings.label_delimiter) or read_cells(file, shown)


def _say_unused(header: Sequence[str], columns: Mapping[str, Sequence[int]], source: Source) -> None:
    """Columns that nothing reads; one that looks like a group is a warning, since splitting a group flatters."""
    read = {column for chosen in columns.values() for column in chosen}
    unused = [name for column, name in enumerate(header) if column not in read and name]
    if unused:
        source.notes.append(f"Columns of {source.shown} that are not used: {listed(unused)}.")
    likely = next((name for name in unused if _GROUP.fullmatch(name.lower())), None)
    if likely is not None and "group" not in columns and "split" not in columns:
        source.warnings.append(
            f"Column {printable(likely)!r} is not used. If its images belong together, keep them in one split:  "
            f"--group-col {typed(likely)}"
        )


def _columns(
    header: Sequence[str], lines: Sequence[Line], shown: str, settings: DataSettings
) -> dict[str, tuple[int, ...]]:
    """Positions of the image, label, split, group and weight columns; of labels there may be several."""
    asked = {"image": _one(settings.image_col), "label": settings.label_col or ()}
    asked |= {"split": _one(settings.split_col), "group": _one(settings.group_col)}
    asked |= {"weight": _one(settings.weight_col)}
    lower = [name.lower() for name in header]
    guessed = {
        what: next((header[lower.index(name)] for name in names if name in lower), None)
        for what, names in GUESSES.items()
    }
    absent = [name for names in asked.values() for name in names if name not in header]
    if absent:
        raise _no_column(header, f"{shown} has no column {absent[0]!r}.", asked, guessed)
    columns: dict[str, tuple[int, ...]] = {}
    for what, names in asked.items():
        chosen = names or _one(guessed.get(what))
        if chosen:
            columns[what] = tuple(header.index(name) for name in chosen)
        elif what in {"image", "label"}:
            looked = ", ".join(GUESSES[what])
            message = f"{shown} has no {what} column (looked for {looked})."
            if len(header) == 1 and "image" in columns:
                raise DataError(message, f"Its only column is {header[0]!r}: add one with the label of each image.")
            error = _no_column(header, message, asked, guessed)
            raise error if what == "image" else DataError(message, error.hint + _flags_hint(header, lines))
    uses = Counter(column for chosen in columns.values() for column in chosen)
    twice = [header[column] for column, n in uses.items() if n > 1]
    if twice:
        raise DataError(f"{shown}: column {twice[0]!r} is used for two things.", f"Columns: {', '.join(header)}")
    return columns


def _one(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _flags_hint(header: Sequence[str], lines: Sequence[Line]) -> str:
    """What to type for a table of which some columns look like labels of a multi-label task."""
    flags = flag_columns(header, lines)
    more = " ..." * (len(flags) > _FLAGS_SHOWN)
    columns = " ".join(f"--label-col {typed(name)}" for name in flags[:_FLAGS_SHOWN])
    return f"\nColumns of 0 and 1, of which each may be a label:  {columns}{more}" if flags else ""


def _no_column(
    header: Sequence[str], message: str, asked: Mapping[str, Sequence[str]], guessed: Mapping[str, str | None]
) -> DataError:
    flags = []
    for what, names in asked.items():
        near = _meant(names, header, guessed.get(what))
        if near != list(names):
            flags += [f"--{what}-col {printable(name)}" for name in near if name is not None]
    hint = f"Columns: {', '.join(map(printable, header))}"
    if any(name.lower().endswith(EXTENSIONS) for name in header):
        return DataError(message, f"{hint}\nThe first row is an image: put a header above it, such as path,label")
    known = {what for what in ("label", "image") if guessed[what] or (asked[what] and {*asked[what]} <= {*header})}
    lacking = [f"--{what}-col" for what in ("label", "image") if what not in known]
    lacking = [flag for flag in lacking if not any(given.startswith(f"{flag} ") for given in flags)]
    lines = [hint] + [f"Did you mean  {' '.join(flags)} ?"] * bool(flags)
    lines += [f"Give {' and '.join(lacking)}{' as well' * bool(flags)}."] * bool(lacking)
    return DataError(message, "\n".join(lines))


def _meant(names: Sequence[str], header: Sequence[str], guess: str | None) -> list[str | None]:
    """The column that each name means, a column for one name only; None where none is near and `guess` is taken."""
    left = [name for name in header if name not in names]
    found: list[str | None] = []
    for name in names:
        near = did_you_mean(name, left, n=1)
        usual = guess if guess in left else None
        found.append(name if name in header else near[0] if near else usual)
        left = [other for other in left if other != found[-1]]
    return found


def _rows(
    lines: Sequence[Line],
    labels: Sequence[tuple[str, ...]],
    columns: Mapping[str, Sequence[int]],
    paths: Paths,
    source: Source,
) -> list[tuple[int, Row]]:
    """(row number, row) of each distinct image."""
    found: dict[str, tuple[int, Row]] = {}
    (image,), split, group = columns["image"], columns.get("split", ()), columns.get("group", ())
    weight = columns.get("weight", ())
    repeated = 0
    for (number, cells), names in zip(lines, labels, strict=True):
        row = Row(
            paths.relative(cells[image], number),
            names,
            _split(cells[split[0]], number, source.shown) if split else None,
            filled(cells[group[0]], "group", number, source.shown) if group else None,
            _weight(cells[weight[0]], number, source.shown) if weight else None,
        )
        first, known = found.setdefault(row.path, (number, row))
        if first != number:
            _compare(known, row, first, number, source)
            repeated += 1
    if repeated:
        source.notes.append(f"{count(repeated, 'repeated row')} of {source.shown} dropped.")
    return list(found.values())


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


def _compare(known: Row, row: Row, first: int, number: int, source: Source) -> None:
    several = source.task == "multilabel"
    pairs = {
        "label sets" if several else "labels": (", ".join(known.labels), ", ".join(row.labels)),
        "splits": (known.split, row.split),
        "groups": (known.group, row.group),
        "weights": (known.weight, row.weight),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            hint = "Keep one of the rows."
            if several and what == "label sets":
                hint += " All labels of an image stand in one row, in several columns or in one cell."
            raise DataError(
                f"{source.shown}: {printable(row.path)} has two {what}: {one!r} in row {first:,}, "
                f"{two!r} in row {number:,}.",
                hint,
            )


def _require_files(found: Sequence[tuple[int, Row]], root: Path, shown: str) -> None:
    missing = [(number, row.path) for number, row in found if not exists(Path(holder(str(root / row.path))))]
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
