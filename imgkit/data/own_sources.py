"""Sources of one's own: functions of plugins that list the pictures of a data set, chosen by `--data NAME:ARG`."""

import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from imgkit.data.columns import Rows
from imgkit.data.index import SPLITS
from imgkit.data.rows import Row, Source, absolute, common_folder, exists
from imgkit.errors import DataError, ImgkitError, UsageError, printable, suggestion
from imgkit.registry import Registry


class Picture(NamedTuple):
    """One picture as a plugin's source describes it."""

    path: str  # absolute, or from `own_root`
    label: str
    split: str | None = None  # one of SPLITS; None: imgkit splits
    group: str | None = None  # what must not be split


Reader = Callable[[str], Iterable[Picture]]
"""From the text behind `NAME:` to the pictures."""

SOURCES: Registry[Reader] = Registry("source")

_FORM = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_-]+):(?P<argument>.*)", re.DOTALL)  # C:\ is a drive


def parse_own(text: str) -> tuple[str, str] | None:
    """(name, argument) of `NAME:ARG` where a plugin has registered NAME, else None."""
    match = _FORM.fullmatch(text)
    return (match["name"], match["argument"]) if match is not None and match["name"] in SOURCES else None


def unknown_source(text: str) -> str:
    """What to say of a place that is not there but has the form NAME:ARG; empty where it has another."""
    match = _FORM.fullmatch(text)
    if match is None:
        return ""
    name = match["name"]
    known = f" Sources of the plugins: {', '.join(SOURCES)}." if list(SOURCES) else ""
    return (
        f"No source is called {name!r}{suggestion(name, SOURCES)}.{known} One of your own comes with  --plugin FILE.py"
    )


def own_root(argument: str) -> Path:
    """Where relative paths of a source start: the folder that `argument` is or lies in, else the working folder."""
    path = absolute(argument)
    if not argument or not exists(path):
        return Path.cwd()
    return path if path.is_dir() else path.parent


def read_own(name: str, argument: str, shown: str) -> Source:
    """Read the pictures that a plugin's source gives.

    Args:
        name: of the source.
        argument: what it is called with.
        shown: the data as the user named them.

    Raises:
        DataError: if it gives nothing, something else than pictures, a split that does not exist, or a path to nothing.
    """
    root, rows = own_root(argument), Rows()
    for number, row in enumerate(_given(name, argument, shown), 1):
        where = f"{shown}: image {number:,} of the source {name!r}"
        if not isinstance(row, Picture):
            raise DataError(f"{where} is a {type(row).__name__}.", "A source gives  imgkit.plugin.Picture(path, label)")
        if row.split is not None and row.split not in SPLITS:
            raise DataError(
                f"{where} is in split {row.split!r}{suggestion(row.split, SPLITS)}.", f"Splits: {', '.join(SPLITS)}."
            )
        if not row.path or not exists(root / row.path):
            raise DataError(
                f"{where} names a file that is not there: {printable(row.path)}",
                f"Relative paths start at {printable(str(root))}.",
            )
        if not isinstance(row.label, str):
            raise DataError(f"{where} has a label that is no text: {row.label!r}.", "Give its name.")
        rows.append(Row(os.path.normpath(root / row.path), (row.label,), row.split, row.group))
    if not rows:
        raise DataError(f"The source {name!r} gives no image for {printable(argument)!r}.", "See what it looks for.")
    if not all(Path(path).is_relative_to(root) for path in rows.paths):
        root = common_folder({Path(path).parent for path in rows.paths}, [shown])
    return Source(root, shown, Rows(row._replace(path=Path(row.path).relative_to(root).as_posix()) for row in rows))


def _given(name: str, argument: str, shown: str) -> Iterator[Picture]:
    """What the source gives; its own mistakes are told like those of an import.

    Raises:
        DataError: with the line of the plugin that failed.
    """
    try:
        yield from SOURCES[name](argument)
    except ImgkitError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise DataError(
            f"{shown}: the source {name!r} failed: {type(error).__name__}: {error}",
            f"{where.filename}, line {where.lineno}: {where.line}\nMend the plugin, and try again.",
        ) from error


def refuse_columns(name: str, given: Iterable[str]) -> None:
    """See that nothing describes a table where a plugin's source reads the data.

    Raises:
        UsageError: naming the first of the `given` keys.
    """
    for key in given:
        raise UsageError(
            f"data.{key} is for a CSV, but the source {name!r} reads these data.",
            leave_out(key),
        )


def leave_out(key: str) -> str:
    """What to type where the data are no table, and `key` of `[data]` describes one."""
    if key == "weight_col":
        return (
            "Draw by class instead, without --weight-col:  --sampler balanced   (or sqrt)\n"
            "or list the images in a CSV that has a column of weights."
        )
    return f"Leave out --{key.replace('_', '-')}."
