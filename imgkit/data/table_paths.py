"""Where the cells of a table's image column lead."""

import os
import re
from pathlib import Path

from imgkit.data.byte_range import holder
from imgkit.errors import DataError, printable

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:/ is a drive


def inside_hint(cell: str) -> str:
    """What to do about a cell that leads out of the root."""
    if re.match(r"\.\.[/\\]", cell):
        return "Write paths from the folder that holds all images on, without .. before them, and name it with --root."
    return "Give the folder that holds all images with --root."


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
        inside = self.inside(cell)
        if inside is None:
            raise DataError(
                f"{self.shown}: row {row:,} leads out of {printable(self.root)}: {printable(cell)}",
                inside_hint(cell),
            )
        return inside

    def inside(self, cell: str) -> str | None:
        """The path relative to the root, POSIX; None where the cell leads out of it, by its text or through a link."""
        path = os.path.normpath(Path(self.root, cell))
        if "\\" in cell and not os.path.lexists(path):
            path = os.path.normpath(Path(self.root, cell.replace("\\", "/")))
        below = self.root.rstrip(os.sep) + os.sep
        if not path.startswith(below):
            return None
        if not self._real(holder(path)).startswith(self._real_root.rstrip(os.sep) + os.sep):
            return None
        return path[len(below) :].replace(os.sep, "/")

    def _real(self, path: str) -> str:
        """`os.path.realpath`, with the folder part looked up once per folder."""
        try:
            if Path(path).is_symlink():
                return os.path.realpath(path)
            parent, name = os.path.split(path)
            if parent not in self._real_parents:
                self._real_parents[parent] = os.path.realpath(parent)
        except (OSError, ValueError):  # a name too long for the file system, or with NUL: whoever opens it will say so
            return path
        return f"{self._real_parents[parent].rstrip(os.sep)}{os.sep}{name}"
