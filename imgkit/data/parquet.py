"""A Parquet file as a table of text, read like a CSV; needs pyarrow (the extra `parquet`)."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.data.csv_text import Line, refuse_twins
from imgkit.errors import DataError, UsageError, printable

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"


def read_parquet(
    file: Path, shown: str, needed: Collection[str], labels: Collection[str] = (), delimiter: str | None = None
) -> tuple[list[str], list[Line]]:
    """The header and the rows, numbered from 1; whole numbers keep their plain text, a missing value is empty.

    Columns that hold no text, numbers, dates or truth values are left out: lists, structures, bytes. A list of labels
    becomes one cell, as a CSV would have it.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        needed: names of columns that must not be left out.
        labels: names that columns of labels have, in small letters or as they are.
        delimiter: what stands between the labels of a cell; None: a cell has one label, so that a column of labels may
            hold lists only where it is not needed.

    Raises:
        UsageError: if pyarrow is missing.
        DataError: if the file is no Parquet file, two columns have one name, a needed column
            holds something else, or a label of a list holds the delimiter.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{shown} is a Parquet file, and pyarrow, which reads it, is not installed.",
            'Type:  pip install "imgkit-timm[parquet]"   or save the table as CSV.',
        ) from error
    try:
        opened = parquet.ParquetFile(file)
        schema = opened.schema_arrow
        refuse_twins(schema.names, shown)
        plain = {one.name for one in schema if _is_plain(one.type)}
        lists = {one.name for one in schema if _is_list(one.type) and {one.name, one.name.lower()} & {*labels}}
        if lists and delimiter is None:
            if lists & {*needed} or not {name.lower() for name in plain} & {*labels}:
                raise _one_label_a_cell(min(lists), shown)
            lists = set()  # another column holds one label an image
        chosen = [one.name for one in schema if one.name in plain | lists]
        table = opened.read(columns=chosen)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown} cannot be read as Parquet: {printable(str(error))}", "Write it again.") from error
    odd = next((one for one in schema if one.name in needed and one.name not in chosen), None)
    if odd is not None:
        raise DataError(
            f"{shown}: column {printable(odd.name)!r} holds {odd.type}, no text.",
            "imgkit reads image files: a column with their paths, and one with their labels.",
        )
    columns = [
        _joined(table.column(name), name, delimiter, shown) if name in lists else _texts(table.column(name).to_pylist())
        for name in chosen
    ]
    return chosen, [(number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1)]


def _is_plain(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = ("null", "boolean", "integer", "floating", "decimal", "string", "large_string", "date", "timestamp")
    return any(getattr(types, f"is_{name}")(kind) for name in tests)


def _is_list(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return lists and _is_plain(kind.value_type)


def _one_label_a_cell(name: str, shown: str) -> DataError:
    return DataError(
        f"{shown}: column {printable(name)!r} holds lists, and nothing says that an image may have several labels.",
        "Give a mark that is in no label:  --label-delimiter '|'   or name another column:  --label-col COLUMN",
    )


def _joined(column: "pyarrow.ChunkedArray", name: str, delimiter: str | None, shown: str) -> list[str]:
    """Lists of labels as cells with the delimiter between them."""
    assert delimiter is not None, "without one, lists of labels are refused"
    found = []
    for row, values in enumerate(column.to_pylist(), 1):
        labels = _texts(values or [])
        odd = next((label for label in labels if delimiter in label), None)
        if odd is not None:
            raise DataError(
                f"{shown}: row {row:,} has the label {printable(odd)!r} in column {printable(name)!r}, which holds the "
                f"delimiter {delimiter!r}.",
                "Give a --label-delimiter that is in no label.",
            )
        found.append(delimiter.join(filter(None, labels)))
    return found


def _texts(values: list[Any]) -> list[str]:
    """Values as text."""
    return ["" if value is None else str(value).lower() if isinstance(value, bool) else str(value) for value in values]
