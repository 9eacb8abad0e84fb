"""Finding the data and choosing the reader."""

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgkit.data.arrow_folder import is_saved, read_saved
from imgkit.data.builtin import BUILTIN, builtin_folder, is_builtin
from imgkit.data.byte_range import resolved
from imgkit.data.csv_table import read_table
from imgkit.data.folders import read_folder, read_pair, walk
from imgkit.data.joined import join
from imgkit.data.layouts import find_layout, read_layout
from imgkit.data.own_sources import leave_out, parse_own, read_own, refuse_columns, unknown_source
from imgkit.data.paths import Files
from imgkit.data.rows import Source, absolute, exists
from imgkit.data.shard_names import has_shards, is_pattern
from imgkit.data.shards import read_shards
from imgkit.errors import DataError, UsageError, did_you_mean, printable
from imgkit.recipe.schema import DataSettings

COLUMNS = ("image_col", "label_col", "label_delimiter", "split_col", "group_col", "weight_col", "root")
"""Settings that describe a table."""
TABLES = (".csv", ".tsv", ".txt", ".parquet")
_OF_ARROW = ("image_col", "label_col")  # of the above, those that a folder of Arrow files has a use for


@dataclass(frozen=True)
class Place:
    """Where the data are.

    Attributes:
        path: absolute; a folder, or a CSV file.
        val_path: the validation folder of a pair; None for all else.
        shown: the place as the user named it.
        why: what named it: `--data`, `$IMGKIT_DATA`, ...
        alone: `path` is a training folder given by itself.
        more: further data sets, joined with this one.
        own: (name, argument) of a plugin's source; `path` is its argument as a path.
        shards: what means tar shards, see `find_shards`; `path` is it as a path. Empty for all else.
    """

    path: Path
    shown: str
    why: str
    val_path: Path | None = None
    val_shown: str = ""
    alone: bool = False
    more: tuple["Place", ...] = ()
    own: tuple[str, str] | None = None
    shards: str = ""

    @property
    def name(self) -> str:
        """`cells/`, or `cells/ and more/` for several."""
        if self.more:
            return " and ".join(place.name for place in (replace(self, more=()), *self.more))
        slash = "/" if self.path.is_dir() and self.why != "built in" and self.own is None else ""
        return f"{self.shown}{slash}" if self.val_path is None else f"{self.shown}/ and {self.val_shown}/"

    @property
    def origin(self) -> str:
        """Where they are, for a run's files: an absolute path without links, or a URL."""
        return resolved(self.path)

    def __str__(self) -> str:
        if self.val_path is not None:
            return f"{self.shown}/ (from --train) and {self.val_shown}/ (from --val)"
        return f"{self.name} ({self.why})"


def find_data(settings: DataSettings) -> Place:
    """Where the data are: `path` or `train`, else $IMGKIT_DATA, else ./data.

    Raises:
        UsageError: if the settings contradict each other.
        DataError: if there is nothing; the message names a folder with a similar name.
    """
    if settings.train is not None or settings.val_path is not None:
        return _pair(settings)
    named = os.environ.get("IMGKIT_DATA")
    if settings.path is not None:
        return replace(
            _place(settings.path, "from --data"), more=tuple(_place(text, "from --data") for text in settings.more)
        )
    if settings.more:
        raise UsageError(
            f"data.more = {settings.more[0]!r} is to be joined with data.path, which is not given.",
            "Give each with --data:  --data FIRST --data SECOND",
        )
    if named:
        return _place(named, "from $IMGKIT_DATA")
    if not Path("data").exists():
        raise DataError(
            "No data were given: --data is missing, $IMGKIT_DATA is not set and there is no folder ./data.",
            f"Try:  --data FOLDER   or a built-in set:  --data {BUILTIN[0]}\n{_expects('FOLDER')}",
        )
    return _place("data", "the default, since neither --data nor $IMGKIT_DATA is given")


def refuse_inside(
    place: Place, root: str | None, out: Path, *, called: str = "folder of runs", beside: str = "runs"
) -> None:
    """See that nothing is written into the data.

    Args:
        place: where they are. Beside a CSV runs may lie: of its folder only what it lists is data.
        root: the folder that `--root` names for the pictures of a CSV; of a table that lies in `out` itself it may be
            the folder of another table, beside which runs may lie, too.
        out: folder of runs or another thing to write, which may not exist yet.
        called: what it is, for people.
        beside: a name for it beside the data.

    Raises:
        UsageError: if `out` lies in a data folder; the hint has a place that does not.
    """
    whole = [one.path for one in (place, *place.more) if one.own is None or one.own[1]]  # "": a plugin asks elsewhere
    folders = [*whole, place.val_path]
    dealt = place.path is not None and place.path.resolve().is_relative_to(out.resolve())  # a table of folds
    for folder in (*folders, None if root is None or dealt else absolute(root)):
        if folder is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            better = folder.parent / beside
            other = min(os.path.relpath(better), str(better), key=len)
            raise UsageError(
                f"The {called} {printable(str(out))} lies inside the data folder {printable(_short(folder))}, "
                "which is never written to.",
                f"Put it beside the data:  --out {shlex.quote(other)}",
            )


def tables_of(place: Place) -> list[dict[str, str]]:
    """The path and the SHA-256 of each table among the data sets, in order, for run.json."""
    return [{"path": str(one.path), "sha256": sha256_of(one.path)} for one in (place, *place.more) if _is_table(one)]


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_source(place: Place, settings: DataSettings, *, training: bool = True) -> Source:
    """Read the rows of a data set; nothing is split or decoded yet.

    Args:
        place: from `find_data`.
        settings: columns and root of a CSV.
        training: False: a data set without train rows is fine.

    Raises:
        DataError: see `read_folder`, `read_pair`, `read_table`.
        UsageError: if the settings ask for what a folder does not have.
    """
    if place.more:
        places = (replace(place, more=()), *place.more)
        return join([read_source(one, _settings_of(one, places, settings), training=training) for one in places])
    given = [name for name in COLUMNS if getattr(settings, name) is not None]
    if place.own is not None:
        refuse_columns(place.own[0], given)
        return read_own(*place.own, place.shown)
    if place.shards:
        _refuse_columns(given, place, "is of shards")
        return read_shards(place.shards, place.shown, multilabel=settings.task == "multilabel")
    if place.path.is_file():
        return read_table(place.path, place.shown, settings)
    if place.val_path is None and not place.alone and is_saved(place.path):
        _refuse_columns([name for name in given if name not in _OF_ARROW], place, "is a folder of Arrow files")
        labels = settings.label_col or (None,)
        if len(labels) > 1:
            raise UsageError(f"{place.shown} has one column of labels.", "Give --label-col once.")
        return read_saved(place.path, place.shown, settings.image_col, labels[0])
    _refuse_columns(given, place, "is a folder")
    layout = None if place.alone or place.val_path is not None else find_layout(place.path, place.shown)
    if layout is not None:
        return read_layout(layout, place.path, place.shown, settings.task)
    if settings.task == "multilabel":
        raise UsageError(
            f"data.task = 'multilabel', but {place.shown} is a folder of class folders: one label an image.",
            "Give a CSV:  --data labels.csv --label-col COLUMN --label-delimiter '|'",
        )
    if place.alone or place.val_path is not None:
        return read_pair(place.path, place.val_path, (place.shown, place.val_shown))
    return read_folder(place.path, place.shown, training=training)


def holds_pictures(text: str) -> bool:
    """Whether an input for prediction is a folder or means shards."""
    return is_pattern(text) or Path(text).is_dir()


def pictures_in(text: str) -> Iterator[str]:
    """The pictures of such an input, in order.

    Raises:
        DataError: if a folder cannot be listed, or shards cannot be read.
    """
    folder = Path(text)
    if is_pattern(text) or has_shards(folder):
        source = read_shards(text, printable(text), unlabelled=True)
        yield from Files(source.root, source.rows.paths)
    else:
        yield from (str(folder / name) for name in walk(folder).images)


def _refuse_columns(given: Sequence[str], place: Place, what: str) -> None:
    if given:
        raise UsageError(f"data.{given[0]} is for a CSV, but {place.shown} {what}.", leave_out(given[0]))


def _settings_of(place: Place, places: Sequence[Place], settings: DataSettings) -> DataSettings:
    """The settings of one of several data sets: what describes tables is for tables, where there are any."""
    if _is_table(place) or not any(_is_table(other) for other in places):
        return settings
    return settings.model_copy(update=dict.fromkeys(COLUMNS))


def _is_table(place: Place) -> bool:
    return place.own is None and not place.shards and place.path.is_file()


def _pair(settings: DataSettings) -> Place:
    if settings.train is None:
        raise UsageError("A validation folder was given without a training folder.", "Add --train FOLDER.")
    if settings.path is not None:
        raise UsageError("Both --data and --train were given.", "Give --data FOLDER, or --train FOLDER --val FOLDER.")
    folders = []
    for text, flag in ((settings.train, "--train"), (settings.val_path, "--val")):
        if text is not None:
            place = _place(text, f"from {flag}")
            if not place.path.is_dir():
                raise DataError(f"{place.shown} is not a folder.", "--train and --val take folders of class folders.")
            folders.append(place)
    if len(folders) == 1:
        return Place(folders[0].path, folders[0].shown, "from --train", alone=True)
    train, val = folders
    return Place(train.path, train.shown, "from --train", val_path=val.path, val_shown=val.shown)


def _place(text: str, why: str) -> Place:
    shown = printable(text.rstrip("/" + os.sep) or text)
    own, path = parse_own(text), absolute(text)
    if own is not None and not exists(path):
        return Place(absolute(own[1]), shown, why, own=own)
    if "://" in text:
        return Place(Path(text), shown, why, shards=text)
    if is_pattern(text) and not path.is_dir():
        return Place(path, shown, why, shards=text)
    if exists(path):
        if path.is_dir():
            return Place(path, shown, why, shards=text if has_shards(path) else "")
        if path.suffix.lower() not in TABLES or not path.is_file():
            raise DataError(
                f"{shown} is neither a folder nor a CSV file, nor another table (.tsv .txt .parquet).",
                _expects("FOLDER"),
            )
        return Place(path, shown, why)
    if is_builtin(text):
        return Place(builtin_folder(text), shown, "built in")
    raise _not_found(path, shown, why.removeprefix("from ") if why.startswith("from --") else "--data")


def _not_found(path: Path, shown: str, flag: str) -> DataError:
    kind = "CSV file" if path.suffix.lower() in TABLES else "Data folder"
    lines = [f"Looked in {printable(str(path))}."]
    source = unknown_source(shown)
    if source:
        return DataError(f"{kind} not found: {shown}", "\n".join([source, *lines]))
    near = _similar(path)
    if near is not None:
        name = printable(_short(near))
        lines = [f"{lines[0]} There is a {'file' if near.is_file() else 'folder'} with a similar name: {name}"]
        lines.append(f"Try:  {flag} {shlex.quote(name)}")
        return DataError(
            f"{kind} not found: {shown}", "\n".join([*lines, _expects(name if near.is_dir() else "FOLDER")])
        )
    known = did_you_mean(shown, BUILTIN, n=1)
    if known:
        lines.append(f"There is a built-in set with a similar name:  --data {known[0]}")
    return DataError(f"{kind} not found: {shown}", "\n".join([*lines, _expects("FOLDER")]))


def _similar(path: Path) -> Path | None:
    """An existing path that differs from `path` by small mistakes in some of its parts."""
    current = Path(path.anchor)
    for part in path.parts[1:]:
        if not exists(current / part):
            try:
                names = [entry.name for entry in current.iterdir() if entry.is_dir() or entry.suffix.lower() in TABLES]
            except OSError:
                return None
            near = did_you_mean(part, names, n=1)
            if not near:
                return None
            current /= near[0]
        else:
            current /= part
    return current


def _short(path: Path) -> str:
    """Relative to the working folder where inside it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _expects(name: str) -> str:
    return f"imgkit expects   {name}/CLASS/*.jpg   or   {name}/train/CLASS/*.jpg   or a CSV file."
