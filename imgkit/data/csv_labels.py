"""The labels of a CSV's rows, from one column or several, which hold names or zeros and ones."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgkit.cells import SEPARATOR, parted
from imgkit.data.csv_text import Line, filled, written_by_imgkit
from imgkit.data.rows import Source, count, listed
from imgkit.errors import DataError, UsageError, printable, typed
from imgkit.recipe.schema import DataSettings
from imgkit.recipe.task import task_of

NO = frozenset({"", "0", "0.0", "false", "no"})
YES = frozenset({"1", "1.0", "true", "yes"})
_UNLABELLED = frozenset({"-1", "-1.0"})
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
_MARKS = "|;,"  # what people put between labels


@dataclass(frozen=True)
class LabelColumns:
    """The label columns of a multi-label table.

    Attributes:
        flags: those that hold zeros and ones, position to name: the name is the label.
        named: those that hold names of labels, position to name.
        delimiter: what stands between the names of a cell; None: a cell holds one name, or none.
        own: whether imgkit wrote the cells, so that a label may hold the delimiter.
    """

    flags: Mapping[int, str]
    named: Mapping[int, str]
    delimiter: str | None
    own: bool = False

    @classmethod
    def of(
        cls, columns: Mapping[int, str], lines: Sequence[Line], delimiter: str | None, *, own: bool = False
    ) -> "LabelColumns":
        """Tell zeros and ones from names; with a delimiter, a column that is the only one holds names."""
        only_names = delimiter is not None and len(columns) == 1
        flags = {} if only_names else {at: name for at, name in columns.items() if _odd_row(at, lines) is None}
        own = own and delimiter == SEPARATOR
        return cls(flags, {at: name for at, name in columns.items() if at not in flags}, delimiter, own)

    def names(self, column: int, cells: Sequence[str]) -> set[str]:
        """The labels that a row has from a column of names."""
        if self.own:
            return {*parted(cells[column])}
        parts = [cells[column]] if self.delimiter is None else cells[column].split(self.delimiter)
        return {part.strip() for part in parts} - {""}

    def labels(self, cells: Sequence[str]) -> tuple[str, ...]:
        """All labels of a row, sorted by plain string order, each once."""
        found = {name for column, name in self.flags.items() if _word(cells[column]) in YES}
        return tuple(sorted(found.union(*(self.names(column, cells) for column in self.named))))


def read_labels(
    columns: Mapping[int, str], header: Sequence[str], lines: Sequence[Line], settings: DataSettings, source: Source
) -> list[tuple[str, ...]]:
    """The labels of each row, sorted; the source's notes say how they were read.

    In a single-label task, the one label of the only column. In a multi-label task a column whose cells are all 0 or 1
    (or false and true, no and yes; an empty cell is 0) says whether the label that the column is called by applies. Any
    other column holds names of labels, split at the delimiter where one is given; an empty cell has none.

    Args:
        columns: the label columns, position to name.
        header: the names of all columns.
        lines: the rows.
        settings: the task and the delimiter.
        source: where notes and warnings go; its `shown` is the table's name.

    Raises:
        DataError: if a row has the label -1 for none, or in a single-label task no label, the labels of a multi-label
            task cannot be told apart, or one label comes from a column of names and from one of zeros and ones.
        UsageError: if a delimiter is given that no column is split at, or task and columns contradict each other.
    """
    stripped = sum(cells[column] != cells[column].strip() for _, cells in lines for column in columns)
    if stripped:
        source.notes.append(f"Spaces around {count(stripped, 'label')} of {source.shown} were removed.")
    if task_of(settings) == "single":
        (column,) = columns
        labels = [filled(cells[column], "label", number, source.shown) for number, cells in lines]
        _look_at_unlabelled([(number, {label}) for (number, _), label in zip(lines, labels, strict=True)], source)
        _look_at_numbers(labels, columns[column], source)
        source.warnings.extend(_joined_names(set(labels)))
        return [(label,) for label in labels]
    own = written_by_imgkit(header) and "labels" in header
    found = LabelColumns.of(columns, lines, settings.label_delimiter, own=own)
    if len(columns) == 1 and found.named and found.delimiter is None:
        raise _one_name_a_cell(found, header, lines, source.shown)
    if found.delimiter is not None and not found.named:
        raise UsageError(
            f"data.label_delimiter = {found.delimiter!r} is not used: every label column of {source.shown} holds "
            "zeros and ones.",
            "Leave out --label-delimiter.",
        )
    _refuse_two_sources(found, lines, source.shown)
    _refuse_codes(found, lines, source.shown)
    for column in found.named:
        _look_at_unlabelled([(number, found.names(column, cells)) for number, cells in lines], source)
    source.notes.append(_how(found))
    source.warnings.extend(_doubts(found, lines))
    return [found.labels(cells) for _, cells in lines]


def flag_columns(header: Sequence[str], lines: Sequence[Line]) -> list[str]:
    """Names of the columns that hold zeros and ones, both of them somewhere."""
    return [
        name
        for column, name in enumerate(header)
        if name
        and _odd_row(column, lines) is None
        and len({_word(cells[column]) in YES for _, cells in lines}) == len((False, True))
    ]


def _word(cell: str) -> str:
    return cell.strip().lower()


def _odd_row(column: int, lines: Sequence[Line]) -> int | None:
    """The first row whose cell is neither 0 nor 1, as a position in `lines`."""
    return next((at for at, (_, cells) in enumerate(lines) if _word(cells[column]) not in NO | YES), None)


def _look_at_unlabelled(labels: Sequence[tuple[int, set[str]]], source: Source) -> None:
    """The label -1, which stands for "not labelled" beside any others but 1: -1 and 1 are how two classes are written.

    Args:
        labels: of each row, with its number.
        source: where the note goes.

    Raises:
        DataError: naming the first row.
    """
    known = set().union(*(names for _, names in labels))
    minus = known & _UNLABELLED
    if not minus:
        return
    others = known - _UNLABELLED - {"1", "1.0"}
    if not others:
        source.notes.append(f"Labels {listed(sorted(known))} are names of classes: -1 is not read as 'not labelled'.")
        return
    rows = [number for number, names in labels if names & minus]
    raise DataError(
        f"{source.shown}: {count(len(rows), 'row has', 'rows have')} the label {min(minus)}, first row {rows[0]:,}. "
        f"Beside {listed(sorted(known - minus), 3)} it means 'not labelled'; nothing is learned from such rows.",
        "Delete them; a trained model labels them:  imgkit predict latest TABLE.csv\n"
        "If -1 is a class of its own, give it a name.",
    )


def _look_at_numbers(labels: Sequence[str], name: str, source: Source) -> None:
    """Labels that are numbers with decimals: a quantity, which is no class, or codes that were saved as decimals.

    Raises:
        DataError: if most of them differ.
    """
    distinct = sorted(set(labels))
    if not all(_DECIMAL.fullmatch(label) for label in distinct):
        return
    values = f"{listed(distinct, 3)}"
    if all(float(label).is_integer() for label in distinct):
        source.notes.append(f"Labels of {printable(name)!r} are whole numbers with decimals ({values}), kept as names.")
    elif 2 * len(distinct) > len(labels):
        raise DataError(
            f"{source.shown}: column {printable(name)!r} holds numbers with decimals ({values}), "
            f"{len(distinct):,} different ones in {count(len(labels), 'row')}.",
            "imgkit tells classes apart; it does not predict quantities. Name another column (--label-col COLUMN), or "
            "write a class for each range of the numbers.",
        )
    else:
        source.warnings.append(
            f"Labels of {printable(name)!r} are numbers with decimals ({values}). Each different one is a class of its "
            "own; that one is near another is not known to the network."
        )


def _joined_names(labels: set[str]) -> list[str]:
    """A warning where the labels of a single-label task are made of others, as 'cat|dog' beside 'cat' and 'dog'."""
    for mark in _MARKS:
        made = sorted(name for name in labels if mark in name and {part.strip() for part in name.split(mark)} <= labels)
        if made:
            what = count(len(made), "label is", "labels are")
            return [
                f"{what} made of other labels, such as {printable(made[0])!r}. If an image may have several:  "
                f"--label-delimiter {shlex.quote(mark)}"
            ]
    return []


def _one_name_a_cell(found: LabelColumns, header: Sequence[str], lines: Sequence[Line], shown: str) -> DataError:
    ((column, name),) = found.named.items()
    at = _odd_row(column, lines)
    assert at is not None, "a column of names has one"
    number, cells = lines[at]
    flags = [flag for flag in flag_columns(header, lines) if flag != name]
    more = " ".join(f"--label-col {typed(flag)}" for flag in (name, *(flags or ["COLUMN"])))
    return DataError(
        f"{shown}: its one label column {printable(name)!r} holds names (row {number:,}: "
        f"{printable(cells[column].strip())!r}), and nothing says how several stand in a cell.",
        f"Name what stands between labels:  --label-delimiter {shlex.quote(_likely_mark(column, lines) or '|')}\n"
        f"or give more label columns:  {more}\n"
        "or, if an image has one label:  --task single",
    )


def _likely_mark(column: int, lines: Sequence[Line]) -> str | None:
    """The mark that most cells hold; None where none does."""
    counts = Counter(mark for _, cells in lines for mark in _MARKS if mark in cells[column])
    return counts.most_common(1)[0][0] if counts else None


def _refuse_two_sources(found: LabelColumns, lines: Sequence[Line], shown: str) -> None:
    """A column of names that holds the name of a column of zeros and ones might say something else of a row."""
    flags = set(found.flags.values())
    for column, name in found.named.items() if flags else ():
        for number, cells in lines:
            twice = found.names(column, cells) & flags
            if twice:
                label = printable(min(twice))
                raise DataError(
                    f"{shown}: {label!r} is a label column of zeros and ones, and a label in column "
                    f"{printable(name)!r} too (row {number:,}).",
                    "Rename one of them, or leave out one of the columns.",
                )


def _refuse_codes(found: LabelColumns, lines: Sequence[Line], shown: str) -> None:
    """Several columns that hold the same numbers or blanks are flags in another code, and no names of labels.

    Raises:
        DataError: naming the columns and what they hold.
    """
    coded = {}
    for column, name in found.named.items():
        labels = {label for _, cells in lines for label in found.names(column, cells)}
        if labels and all(_is_code(label) for label in labels):
            coded[name] = labels
    if len(coded) > 1 and set.intersection(*coded.values()):
        raise DataError(
            f"{shown}: the label columns {listed(coded)} hold {listed(sorted(set().union(*coded.values())))}: neither "
            "zeros and ones nor names of labels.",
            "Write 1 where an image has the label, and 0 or nothing where it has not.",
        )


def _is_code(label: str) -> bool:
    """Whether a cell holds a number, or a word for a missing one."""
    bare = label.strip().lower()
    return bare in ("nan", "na", "null") or bare.lstrip("+-").replace(".", "", 1).isdigit()


def _how(found: LabelColumns) -> str:
    """What is said of a multi-label table."""
    columns = len(found.flags) + len(found.named)
    why = [f"there are {columns} label columns"] if columns > 1 else []
    why += [] if found.delimiter is None else [f"labels are split at {found.delimiter!r}"]
    how = [f"{listed(found.flags.values())} {'holds' if len(found.flags) == 1 else 'hold'} 0 and 1"] * bool(found.flags)
    if found.named:
        how.append(f"{listed(found.named.values())} {'holds' if len(found.named) == 1 else 'hold'} names of labels")
    reason = f", since {' and '.join(why)}" if why else ""
    return f"Multi-label{reason}: {'; '.join(how)}."


def _doubts(found: LabelColumns, lines: Sequence[Line]) -> list[str]:
    """Columns that may have been meant otherwise."""
    warnings = []
    never = [name for column, name in found.flags.items() if not any(_word(cells[column]) in YES for _, cells in lines)]
    if never:
        warnings.append(f"{count(len(never), 'label column')} without a 1, so no image has the label: {listed(never)}.")
    for column, name in found.named.items():
        filled_in = [cells[column] for _, cells in lines if cells[column].strip()]
        flags = sum(_word(cell) in NO | YES for cell in filled_in)
        odd = _odd_row(column, lines)
        if found.delimiter is None and odd is not None and 2 * flags > len(filled_in):
            number, cells = lines[odd]
            warnings.append(
                f"Column {printable(name)!r} is read as names, since row {number:,} has "
                f"{printable(cells[column].strip())!r}, but {flags:,} of its {len(filled_in):,} cells are 0 or 1."
            )
    return warnings + _idle_delimiter(found, lines)


def _idle_delimiter(found: LabelColumns, lines: Sequence[Line]) -> list[str]:
    """A warning where the delimiter splits nothing, with the mark that would."""
    mark = found.delimiter
    if mark is None or any(mark in cells[column] for _, cells in lines for column in found.named):
        return []
    (column, *_) = found.named
    likely = _likely_mark(column, lines)
    other = f" {likely!r} does:  --label-delimiter {shlex.quote(likely)}" if likely is not None else ""
    return [f"The delimiter {mark!r} stands in no cell of {listed(found.named.values())}.{other}"]
