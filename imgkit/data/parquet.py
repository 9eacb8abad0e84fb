"""A Parquet file as a table of text, read like a CSV; needs pyarrow (the extra `parquet`)."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.data.csv_text import Line, refuse_twins
from imgkit.errors import DataError, printable

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"


def read_parquet(file: Path, shown: str, needed: Collection[str]) -> tuple[list[str], list[Line]]:
    """The header and the rows, numbered from 1; whole numbers keep their plain text, a missing value is empty.

    Columns that hold no text, numbers, dates or truth values are left out: lists, structures, bytes.

    Args:
        file: absolute path.
        shown: the file as the user named it.
        needed: names of columns that must not be left out.

    Raises:
        DataError: if pyarrow is missing, the file is no Parquet file, two columns have one name, or a needed column
            holds something else.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{shown} is a Parquet file, and pyarrow, which reads it, is not installed.",
            "Type:  pip install 'imgkit-timm[parquet]'   or save the table as CSV.",
        ) from error
    try:
        opened = parquet.ParquetFile(file)
        schema = opened.schema_arrow
        refuse_twins(schema.names, shown)
        chosen = [one.name for one in schema if _is_plain(one.type)]
        table = opened.read(columns=chosen)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown} cannot be read as Parquet: {printable(str(error))}", "Write it again.") from error
    odd = next((one for one in schema if one.name in needed and one.name not in chosen), None)
    if odd is not None:
        raise DataError(
            f"{shown}: column {printable(odd.name)!r} holds {odd.type}, no text.",
            "imgkit reads image files: a column with their paths, and one with their labels.",
        )
    columns = [_texts(table.column(name)) for name in chosen]
    return chosen, [(number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1)]


def _is_plain(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = ("null", "boolean", "integer", "floating", "decimal", "string", "large_string", "date", "timestamp")
    return any(getattr(types, f"is_{name}")(kind) for name in tests)


def _texts(column: "pyarrow.ChunkedArray") -> list[str]:
    """The cells as text."""
    values: list[Any] = column.to_pylist()
    return ["" if value is None else str(value).lower() if isinstance(value, bool) else str(value) for value in values]
