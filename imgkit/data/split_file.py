"""A table of images with their splits and folds, as `--data` reads it again.

Its first columns are those of a run's index.csv (`labels` in place of `label` in a multi-label task, see
`cells.joined`); behind them stand `fold`, if there are folds, and the columns of the table that it was made from.
"""

import hashlib
import io
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.cells import SEPARATOR, Rows, guarded, joined
from imgkit.data.csv_table import Cells, read_columns, read_table
from imgkit.data.csv_text import INDEXED, INDEXED_SETS, written_by_imgkit
from imgkit.data.folds import assign_folds
from imgkit.data.index import SPLITS, Index, Ints
from imgkit.data.load import LoadedData, list_data, load_data
from imgkit.data.rows import absolute, listed, refuse_picture, same_file
from imgkit.data.sources import Place, refuse_inside
from imgkit.errors import DataError, UsageError, disk_told, printable
from imgkit.files import whole_file
from imgkit.recipe.schema import DataSettings

FOLD = "fold"


@dataclass(frozen=True, eq=False)
class Found:
    """Images that are to be split, with all that their source says of them.

    Args:
        place: where they come from.
        data: checked, and split as a training would do it.
        groups: the name of each image's group, n of them; None: none's.
        cells: of the table that they come from; None where it was none, or several.
        settings: what they were read by.
    """

    place: Place
    data: LoadedData
    groups: Sequence[str | None]
    cells: Cells | None
    settings: DataSettings

    @property
    def index(self) -> Index:
        """The images."""
        return self.data.index

    def column(self, name: str) -> list[str]:
        """The cells of a column of their table, n of them.

        Raises:
            DataError: if they come from no table, or it has no such column.
        """
        if self.cells is None:
            raise DataError(
                f"There is no column {printable(name)!r}: {self.place} is not one table.",
                "Give a CSV with a row an image.",
            )
        if name not in self.cells.header:
            raise DataError(
                f"{self.place.shown} has no column {printable(name)!r}.", f"Columns: {listed(self.cells.header, 50)}"
            )
        at = self.cells.header.index(name)
        return [self.cells.of[path][at] for path in self.index.paths]

    def folds(self, n: int, among: Ints | None = None) -> Ints:
        """The fold of each image from 0 on; -1 outside `among`, where that is given.

        Raises:
            UsageError, DataError: see `assign_folds`.
        """
        rows = np.arange(len(self.index)) if among is None else among
        part, found = self.index.select(rows), np.full(len(self.index), -1, dtype=np.int64)
        found[rows] = assign_folds(
            part.paths,
            part.label_sets(),
            part.groups,
            classes=part.classes,
            folds=n,
            seed=self.settings.split_seed,
        )
        return found


def find(settings: DataSettings, progress: Callable[[int, int], None] | None = None) -> Found:
    """Read the images that `settings` name, open each, and split them as a training would.

    Raises:
        DataError, UsageError: see `load_data`.
    """
    listing = list_data(settings)
    data, place = load_data(settings, listed=listing, progress=progress), listing.place
    rows = listing.source.rows
    of_path = {row.path: row.group for row in rows} if rows.group_codes is not None else {}
    single = not place.more and place.own is None and not place.shards and place.path.is_file()
    cells = read_columns(place.path, place.shown, settings) if single else None
    return Found(place, data, [of_path.get(path) for path in data.index.paths], cells, settings)


@dataclass(frozen=True, eq=False)
class SplitFile:
    """The content of a split file.

    Args:
        found: the images.
        splits: position in SPLITS of each row, (n,).
        rows: those that it has, in order.
        own: further columns that imgkit makes, n cells each.
    """

    found: Found
    splits: npt.NDArray[np.int8]
    rows: Ints
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def index(self) -> Index:
        """The images as the file splits them."""
        index = self.found.index.select(self.rows)
        index.splits[:] = self.splits[self.rows]
        return index

    def text(self) -> str:
        """What the file holds.

        Raises:
            DataError: if a path or a label is not UTF-8.
        """
        stream, extra = io.StringIO(), self._extra()
        first = INDEXED if self.found.index.task == "single" else INDEXED_SETS
        writer, index, groups = Rows(stream), self.found.index, self.found.groups
        writer.writerow([*first, *self.own, *map(guarded, extra)])
        sets, columns = index.label_sets(), [*self.own.values(), *extra.values()]
        for row in self.rows.tolist():
            names = [index.classes[code] for code in sets[row]]
            cells = [
                guarded(index.paths[row]),
                guarded(joined(names) if index.task == "multilabel" else names[0]),
                SPLITS[self.splits[row]],
                guarded(groups[row] or ""),
                str(index.sizes[row]),
                bytes(index.hashes[row]).hex(),
            ]
            writer.writerow([*cells, *(guarded(column[row]) for column in columns)])
        text = stream.getvalue()
        try:
            text.encode()
        except UnicodeEncodeError:
            odd = next(path for path in index.paths if not _is_utf8(path))
            raise DataError(f"{printable(odd)} is no UTF-8, which a table is.", "Rename the file.") from None
        return text

    def words(self, file: Path) -> list[str]:
        """What names the images on the command line of a training that reads `file`."""
        index, settings = self.found.index, self.found.settings
        words = ["--data", str(file)]
        if absolute(file).parent != index.root:
            words += ["--root", str(index.root)]
        if index.task == "multilabel":
            words += ["--label-col", "labels", "--label-delimiter", SEPARATOR]
        words += ["--group-col", "group"] if index.groups is not None else []
        words += ["--weight-col", self._named(settings.weight_col)] if settings.weight_col else []
        return words + (["--max-pixels", str(settings.max_pixels)] if "max_pixels" in settings.model_fields_set else [])

    def settings(self, file: Path) -> DataSettings:
        """The same as values."""
        index, own = self.found.index, self.found.settings
        given: dict[str, object] = {"path": str(file), "root": str(index.root)}
        if index.task == "multilabel":
            given |= {"label_col": ("labels",), "label_delimiter": SEPARATOR}
        if index.groups is not None:
            given["group_col"] = "group"
        if own.weight_col is not None:
            given["weight_col"] = self._named(own.weight_col)
        if "max_pixels" in own.model_fields_set:
            given["max_pixels"] = own.max_pixels
        return DataSettings.model_validate(given)

    def write(self, file: Path) -> str:
        """Write the file, unless it is there already; returns the SHA-256 of its content.

        Raises:
            UsageError: if `file` is one of the sources, lies in a folder of pictures, or has another content.
            DataError: if the file would not be read back as it was meant.
            DiskError: if it cannot be written.
        """
        self.check_place(file)
        text = self.text()
        self._check_read_back(text)
        if file.is_file() and file.read_bytes() != text.encode():
            raise UsageError(
                f"{printable(str(file))} is there already, with another content.", "Remove it, or choose another --out."
            )
        with disk_told(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file, newline="") as stream:
                stream.write(text)
        return hashlib.sha256(text.encode()).hexdigest()

    def check_place(self, file: Path) -> None:
        """See that writing `file` would touch nothing of the data.

        Raises:
            UsageError: if it would.
        """
        place, index = self.found.place, self.found.index
        for source in (place, *place.more):
            if same_file(source.path, file):
                raise UsageError(
                    f"{printable(str(file))} is what is to be split, and data are never written to.",
                    "Write to another file:  --out split.csv",
                )
        refuse_inside(place, self.found.settings.root, file, called="split file", beside="split.csv")
        refuse_picture(file, (index.path(row) for row in range(len(index))))

    def _extra(self) -> dict[str, list[str]]:
        """The columns of the table that it was made from, but for those that its own columns tell."""
        cells = self.found.cells
        if cells is None:
            return {}
        told = {name for name, what in cells.read.items() if what != "weight"}
        told |= {*INDEXED, *INDEXED_SETS} if written_by_imgkit(cells.header) else set()
        kept = [name for name in cells.header if name and name not in told and name not in self.own]
        return {self._named(name): self.found.column(name) for name in kept}

    def _named(self, name: str) -> str:
        """What a column of the table is called here, where the first columns have names of their own."""
        return f"table.{name}" if name in {*INDEXED, *INDEXED_SETS} else name

    def _check_read_back(self, text: str) -> None:
        """See that what is written is what is read: spaces around a class, say, would be lost."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "split.csv"
            file.write_text(text, encoding="utf-8", newline="")
            read = read_table(file, "the split file", self.settings(file)).rows
        index = self.index
        there = {row.path: (row.labels, row.split) for row in read}
        for row, codes in enumerate(index.label_sets()):
            path = index.paths[row]
            meant = (tuple(index.classes[code] for code in codes), SPLITS[index.splits[row]])
            if there.get(path) != meant:
                raise DataError(
                    f"A table cannot hold {printable(path)} with the label {listed(meant[0])!r} as it is: names would "
                    "lose spaces around them.",
                    "Rename the class or the file.",
                )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def command(words: Sequence[str]) -> str:
    """A command line, quoted for a shell."""
    return shlex.join(["imgkit", *words])
