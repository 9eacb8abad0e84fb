"""What a reader of folders or tables hands over: rows of text, before classes get codes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imgkit.errors import DataError, UsageError, printable

if TYPE_CHECKING:  # they would bring numpy and pydantic, which `imgkit --help` does without
    from imgkit.data.columns import Rows
    from imgkit.recipe.fields import Task

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Row(NamedTuple):
    """One picture as the source describes it."""

    path: str  # relative to the root, POSIX
    labels: tuple[str, ...]  # sorted by plain string order; of a single-label task, one
    split: str | None  # one of SPLITS; None: not said
    group: str | None
    weight: float | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """The rows of a data set, and what is worth saying about how they were read."""

    root: Path  # absolute
    shown: str  # the data as the user named them, for messages
    rows: "Rows"
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    task: "Task" = "single"
    beside: list[str] = field(default_factory=list)  # pictures beside the class folders, relative to the root
    unread: list[str] = field(default_factory=list)  # pictures of a kind that imgkit does not read, relative likewise


def listed(names: Iterable[str], most: int = 5) -> str:
    """`a, b, c and 4 more`, with odd characters made visible."""
    texts = [printable(name) for name in names]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def count(n: int, thing: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{n:,} {thing if n == 1 else plural or thing + 's'}"


def absolute(path: str | Path) -> Path:
    """`path` from the root of the file system, without `~` and `..`; links stay as they are."""
    try:
        home = Path(path).expanduser()
    except RuntimeError:  # no user is called that: it is the name of a file
        home = Path(path)
    return Path(os.path.normpath(home.absolute()))


def common_folder(folders: Iterable[str | Path], shown: Iterable[str]) -> Path:
    """The deepest folder that holds all of `folders`, which are absolute.

    Args:
        folders: at least one.
        shown: what lies there, as the user named it.

    Raises:
        DataError: if there is none: two drives.
    """
    try:
        return Path(os.path.commonpath([os.fspath(folder) for folder in folders]))
    except ValueError as error:
        raise DataError(f"{listed(shown)} lie on different drives.", "Copy them to one drive.") from error


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that is too long or loops is not there."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def same_file(one: Path, other: Path) -> bool:
    """Whether both are there and mean one file, by whatever spelling or link."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def refuse_picture(out: Path, pictures: Iterable[Path], flag: str = "--out") -> None:
    """See that `out` is none of the pictures, which are never written to.

    Raises:
        UsageError: if it is one, by whatever spelling or link.
    """
    if exists(out) and any(same_file(picture, out) for picture in pictures):
        raise UsageError(f"{flag} {printable(str(out))} is one of the pictures.", "Write to another file.")


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, perhaps through a link; what loops or may not be looked at is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file, perhaps through a link; what loops or may not be looked at is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
