"""What scored images are sliced by: columns of the table that a run was trained on, and what the pictures show."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.cells import visible
from imgkit.data.csv_table import Cells, read_columns
from imgkit.data.csv_text import INDEXED
from imgkit.data.decode import load_image
from imgkit.data.rows import listed
from imgkit.data.scan import scan
from imgkit.data.sources import sha256_of
from imgkit.errors import DataError, UsageError, printable
from imgkit.recipe.load import load_recipe
from imgkit.recipe.schema import DataSettings
from imgkit.report.leaks import read_indexed
from imgkit.report.slices import bins, exactly, names_of
from imgkit.report.stored import Stored, rows_below
from imgkit.run import RunFolder

COMPUTED = ("size", "aspect", "brightness")
"""The shorter side in pixels, width / height, and the mean grey level in percent of white."""
_SIDE = 64  # to which a JPEG may be drafted before its brightness is measured
Progress = Callable[[int, int], None]
Floats = npt.NDArray[np.float64]


def columns_of(
    folder: RunFolder, stored: Stored, names: Sequence[str], progress: Progress | None = None
) -> dict[str, list[str]]:
    """The slice of each scored image, by name of the column.

    A column of the table goes before what imgkit computes under the same name.

    Raises:
        UsageError: if there is no such column, or a name is given twice.
        DataError: if the table or a picture has changed since the run was trained, or cannot be found.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--by {printable(twice)} is given twice.", "Give it once.")
    about = folder.read_json("run.json")
    settings = load_recipe(str(folder.path / "recipe.toml")).recipe.data
    tables = about["data"].get("tables")
    one_table = bool(tables) and not settings.more  # paths of joined data sets are not those of a table
    cells = _cells(folder, about, settings, tables[0]) if one_table else None
    found, pictures = {}, dict[str, Floats]()
    for name in names:
        if cells is not None and name in cells.header:
            found[name] = names_of(name, _column(cells, name, stored))
        elif name in COMPUTED:
            pictures = pictures or _pictures(folder, about, settings, stored, names, progress)
            values = pictures[name]
            few = len(np.unique(values)) <= 12
            found[name] = list(map(exactly, values.tolist())) if few else bins(values.tolist())
        else:
            raise _no_column(folder, name, cells, settings, tables)
    return found


def has_groups(folder: RunFolder) -> bool:
    """Whether the images of a run have groups, as far as its data/index.csv can be read."""
    rows = rows_below(folder.path / "data" / "index.csv", INDEXED)
    try:
        return bool(next(rows, [""] * len(INDEXED))[INDEXED.index("group")])
    except (OSError, ValueError):
        return False


def _no_column(
    folder: RunFolder,
    name: str,
    cells: Cells | None,
    settings: DataSettings,
    tables: Sequence[Mapping[str, str]] | None,
) -> UsageError:
    computed = f"Without a table:  --by {'  --by '.join(COMPUTED)}"
    if cells is not None:
        return UsageError(
            f"The table that {folder.name} was trained on has no column {printable(name)!r}.",
            f"Columns: {listed(cells.header, 50)}\nComputed of the pictures: {', '.join(COMPUTED)}",
        )
    if tables is None:
        why = "was trained before runs kept the hash of their table, so a column cannot be told to be the same"
    elif settings.more:
        why = "was trained on several data sets, of which columns are not read"
    else:
        why = "was trained on folders, which have no columns"
    return UsageError(f"--by {printable(name)}: {folder.name} {why}.", computed)


def _cells(folder: RunFolder, about: Mapping[str, Any], settings: DataSettings, told: Mapping[str, str]) -> Cells:
    """The table that the run was trained on.

    Raises:
        DataError: if it is not there, or is another one by now.
    """
    file = Path(told["path"])
    shown = printable(str(file))
    if not file.is_file():
        raise DataError(f"{shown}, which {folder.name} was trained on, is not there any more.", "Put it back.")
    now = sha256_of(file)
    if now != told["sha256"]:
        raise DataError(
            f"{shown} has changed since {folder.name} was trained on it: SHA-256 {now[:12]}, not "
            f"{told['sha256'][:12]}. Its columns may say other things of the images.",
            "Put the file back as it was.",
        )
    return read_columns(file, shown, settings.model_copy(update={"root": about["data"]["root"]}))


def _column(cells: Cells, name: str, stored: Stored) -> list[str]:
    at = cells.header.index(name)
    of = {visible(path): row[at] for path, row in cells.of.items()}
    lacking = next((path for path in stored.answers.paths if path not in of), None)
    if lacking is not None:
        raise DataError(
            f"{printable(lacking)}, which was scored, is not in the table that the run was trained on.",
            "Score the run's own images again:  imgkit evaluate NAME",
        )
    return [of[path] for path in stored.answers.paths]


def _pictures(
    folder: RunFolder,
    about: Mapping[str, Any],
    settings: DataSettings,
    stored: Stored,
    names: Sequence[str],
    progress: Progress | None,
) -> dict[str, Floats]:
    """What pictures show, (N,) each; brightness, for which each is decoded, only where it is asked for.

    Raises:
        DataError: if a picture is not there, or not what it was.
    """
    try:
        index = read_indexed(folder.path / "data" / "index.csv")
    except (OSError, ValueError) as error:
        raise DataError(f"data/index.csv of {folder.name} cannot be read: {error}", "Put it back.") from error
    sha, root = dict(zip(index.paths, index.hashes, strict=True)), Path(about["data"]["root"])
    paths = list(stored.answers.paths)
    report = scan([str(root / path) for path in paths], max_pixels=settings.max_pixels, progress=progress)
    good = report.facts.good
    for row, path in enumerate(paths):
        if not good[row] or bytes(report.facts.hashes[row]).hex() != sha.get(path):
            what = "is not what it was when the run began" if good[row] else "cannot be read any more"
            raise DataError(
                f"{printable(str(root / path))} {what}.",
                f"Put it back, or say where the images are:  imgkit evaluate {folder.address} --root FOLDER",
            )
    stored_as = np.stack([report.facts.widths, report.facts.heights]).astype(np.float64)
    widths, heights = np.where(report.facts.rotated, stored_as[::-1], stored_as)
    found = {"size": np.minimum(widths, heights), "aspect": np.round(widths / heights, 3)}
    if "brightness" in names:
        found["brightness"] = np.array([_brightness(root / path, settings.max_pixels) for path in paths])
    return found


def _brightness(file: Path, max_pixels: int) -> float:
    """The mean grey level (ITU-R 601-2), in percent of white, to a hundredth."""
    grey = np.asarray(load_image(file, max_pixels=max_pixels, min_side=_SIDE).convert("L"))
    return round(float(grey.mean()) / 2.55, 2)
