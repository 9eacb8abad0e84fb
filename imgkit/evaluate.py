"""Scores a network on a split, and stores what it answered."""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.data.batches import EvalReader
from imgkit.data.byte_range import resolved, status
from imgkit.data.csv_table import header_of
from imgkit.data.index import SPLITS, Index
from imgkit.data.load import load_data
from imgkit.data.rows import absolute
from imgkit.data.scan import digests
from imgkit.data.shard_names import is_pattern
from imgkit.device import choose_device, choose_workers, in_turn
from imgkit.errors import DataError, DiskError, UsageError, printable
from imgkit.evaluations import weights_label
from imgkit.evidence import Images
from imgkit.features import BATCH
from imgkit.freed_memory import keep_freed_memory
from imgkit.models.folder import LoadedModel, load_model_folder
from imgkit.recipe.load import load_recipe
from imgkit.recipe.schema import DataSettings
from imgkit.run import MODEL_FILES, RunFolder
from imgkit.scoring import score, store
from imgkit.screen import Screen
from imgkit.world import as_tensor, check_device, current, ranks_here

_CALLED = 100  # bytes of the name of other data that go into that of a folder


def evaluate_run(
    folder: RunFolder,
    *,
    data: DataSettings | None = None,
    split: str | None = None,
    device: str = "auto",
    images: bool = True,
    screen: Screen,
) -> dict[str, Any]:
    """Score a finished run's model on one of its splits, or on other data by the names of its classes.

    `data` names other data; a column, `on_bad` or `max_pixels` that it leaves open is the run's, a column of splits or
    groups where the table has it. Without `split`: of its own data the test split if there is one, else the validation
    split; of other data, all rows. A split of its own data is scored once: where that has been done, the stored metrics
    are returned, and said to be. With `images` pictures and maps of some of them are stored, see `evidence`.

    Returns:
        The metrics, as written to `evaluations/NAME/metrics.json`; "folder" is where.
    """
    about = folder.read_json("run.json")
    recipe = load_recipe(str(folder.path / "recipe.toml")).recipe
    loaded = load_run_model(folder)
    weights = {key: loaded.config["imgkit"][key] for key in ("step", "mean_of") if key in loaded.config["imgkit"]}
    chosen = choose_device(device)
    check_device(chosen)
    keep_freed_memory()
    if data is None:
        settings, index, where, named = recipe.data, read_index(folder, about), str(about["data"]["where"]), None
    else:
        settings = _inherited(about, recipe.data, data)
        index, where, named = _other_data(folder, about, settings, loaded, screen)
    splits = _splits(index, named)
    name, rows = _rows(index, split, splits, where, own=data is None)
    label = f"{name}@{weights_label(weights)}"
    if data is not None:  # folders of the same name elsewhere hold other images; a hidden name would be left out
        called = os.fsencode(Path(data.path or "data").name.lstrip("."))[:_CALLED].decode("utf-8", "ignore") or "data"
        label = f"{called}-{index.fingerprint[:4]}-{label}"
    place = folder.path / "evaluations" / label
    if data is None:
        stored = _stored(folder, place, index.select(rows).fingerprint)
        try:
            with screen.progress("checking images") as progress:
                check_files(index, progress)
        except DataError as error:
            if stored is None:
                raise
            screen.warn(f"{error.message} The scores are of the images as they were then.")
        if stored is not None:
            screen.note(f"scored already: {printable(str(place))}/; remove the folder to score again")
            return stored | {"folder": str(place)}
    elif split is None:
        _say_mixed(splits, where, screen)
    screen.fact("Data", f"{where} · {name} · {len(rows):,} images · {len(index.classes)} classes")
    workers = choose_workers(recipe.run.workers, chosen, ranks_here())
    _share(folder, index, device=device, workers=recipe.run.workers, max_pixels=settings.max_pixels)
    world = current()
    reader = EvalReader(
        index,
        preprocessing=loaded.preprocessing,
        batch_size=BATCH,
        workers=workers,
        max_pixels=settings.max_pixels,
        in_turn=in_turn(chosen, workers, ranks_here()),
        warn=screen.warn,
    )
    with closing(reader), screen.progress("scoring") as progress:

        def told(done: int, of: int) -> None:
            progress(done, of)
            if world is not None:
                world.request.heed()  # what another rank heard; an own signal ends this by itself

        scores = score(loaded.model, reader, rows, device=chosen, progress=told)
    about_it: dict[str, Any] = {"split": name, "where": where, "calibration": loaded.calibration, **weights}
    with screen.progress("pictures") as progress:
        pictures = Images(loaded.model, index, rows, loaded.preprocessing, settings.max_pixels, progress)
        metrics = store(place, scores, index, seed=recipe.seed, beside=pictures if images else None, **about_it)
    return metrics | {"folder": str(place)}


def _share(folder: RunFolder, index: Index, **how: object) -> None:
    """Give the other ranks, if there are any, the model and the table of what is scored."""
    world = current()
    if world is None:
        return
    files = {name: (folder.path / "model" / name).read_bytes() for name in MODEL_FILES}
    with tempfile.TemporaryDirectory(prefix="imgkit-") as place:
        index.write_csv(Path(place) / "index.csv")
        files["index.csv"] = (Path(place) / "index.csv").read_bytes()
    tensors = {name: as_tensor(content) for name, content in files.items()}
    classes, root = list(index.classes), resolved(index.root)
    world.send("scene", tensors, classes=classes, root=root, task=index.task, **how)


def _stored(folder: RunFolder, place: Path, data: str) -> dict[str, Any] | None:
    """The metrics stored at `place`, if they can be read and are of the images whose fingerprint is `data`."""
    try:
        found = folder.read_json(str((place / "metrics.json").relative_to(folder.path)))
    except DiskError:
        return None
    return found if found.get("data") == data else None


def load_run_model(folder: RunFolder) -> LoadedModel:
    """The best weights of a run.

    Raises:
        UsageError: if the run has not been finished; the message says whether it is being trained now.
    """
    if not folder.has_model:
        raise folder.without_model()
    return load_model_folder(folder.path / "model")


def read_index(folder: RunFolder, about: Mapping[str, Any]) -> Index:
    """The index a run was trained with."""
    root, classes = Path(about["data"]["root"]), tuple(about["classes"])
    return Index.read_csv(folder.path / "data" / "index.csv", root, classes, about["task"])


def check_files(index: Index, progress: Callable[[int, int], None] | None = None) -> None:
    """See that every file of a run's data is there and holds what it held.

    Sizes come first. A file whose size and modification time are those of the last look is not read again.

    Args:
        index: of the run.
        progress: called with (files done, files in all) while contents are compared.

    Raises:
        DataError: naming the first file that changed.
    """
    files = [str(index.path(row)) for row in range(len(index))]
    try:
        for row, file in enumerate(files):
            size = status(file).size
            if size != index.sizes[row]:
                raise _changed(file, f"has {size:,} bytes, not {index.sizes[row]:,}")
        for row, digest in enumerate(digests(files)):
            if digest != index.hashes[row].tobytes().hex():
                raise _changed(files[row], "has other content, of the same length")
            if progress is not None:
                progress(row + 1, len(files))
    except FileNotFoundError as error:
        raise _changed(error.filename, "is gone") from error
    except OSError as error:
        raise _changed(error.filename, f"cannot be read ({error.strerror})") from error


def _changed(file: str, what: str) -> DataError:
    return DataError(
        f"{printable(file)} {what}: the data changed since the run began.",
        "Put it back, or start a new run. If the data were moved:  --root FOLDER",
    )


def _splits(index: Index, named: npt.NDArray[np.bool_] | None) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each split that has some; `named` (N,) leaves out rows whose split the data do not name."""
    rows = {name: index.rows(name) for name in SPLITS}
    if named is not None:
        rows = {name: found[named[found]] for name, found in rows.items()}
    return {name: found for name, found in rows.items() if len(found)}


def _say_mixed(splits: Mapping[str, npt.NDArray[np.int64]], where: str, screen: Screen) -> None:
    """Other data are scored as a whole, although they may have been split for some training."""
    present = [*splits]
    if len(present) > 1:
        screen.note(
            f"{', '.join(present[:-1])} and {present[-1]} of {where} are scored together; for one of them alone:  "
            f"--split {present[-1]}"
        )


def _inherited(about: Mapping[str, Any], own: DataSettings, data: DataSettings) -> DataSettings:
    """The settings of other data, with what they leave open as the run's `own` have it."""
    inherited: dict[str, object] = {"task": about["task"], "on_bad": own.on_bad, "max_pixels": own.max_pixels}
    # The run's columns are for a table; a folder has none.
    if data.path is not None and Path(data.path).is_file() and not is_pattern(data.path):
        inherited["image_col"] = own.image_col
        if data.label_col is None:
            inherited |= {"label_col": own.label_col, "label_delimiter": own.label_delimiter}
        optional = {"split_col": own.split_col, "group_col": own.group_col}
        if any(optional.values()):
            header = header_of(absolute(data.path), printable(data.path))
            inherited |= {key: column for key, column in optional.items() if column in header}
        if str(Path(data.path).resolve()) == about["data"].get("path"):
            inherited["root"] = about["data"]["root"]
    given = {key: getattr(data, key) for key in data.model_fields_set}
    return DataSettings.model_validate(inherited | given)


def _other_data(
    folder: RunFolder, about: Mapping[str, Any], settings: DataSettings, loaded: LoadedModel, screen: Screen
) -> tuple[Index, str, npt.NDArray[np.bool_]]:
    """Other data, where they are from, and of which images they name the split, (N,)."""
    with screen.progress("reading images") as progress:
        found = load_data(settings, classes=loaded.classes, progress=progress)
    trained = _trained_on(folder, about, found.index)
    if trained:
        screen.warn(f"{trained:,} of these {len(found.index):,} images were trained on, so their score flatters")
    for text in found.notes:
        screen.note(text)
    for text in found.warnings:
        screen.warn(text)
    return found.index, found.where, found.named


def _trained_on(folder: RunFolder, about: Mapping[str, Any], index: Index) -> int:
    """How many images of other data are, byte for byte, among those that the run was trained on."""
    try:
        own = read_index(folder, about)
    except DataError:
        return 0  # the run's own table is not needed for anything else here
    seen = {digest.tobytes() for digest in own.hashes[own.rows("train")]}
    return sum(digest.tobytes() in seen for digest in index.hashes)


def _rows(
    index: Index, split: str | None, splits: Mapping[str, npt.NDArray[np.int64]], where: str, *, own: bool
) -> tuple[str, npt.NDArray[np.int64]]:
    """The name of what is scored, and its rows.

    Raises:
        UsageError: if there is no such split.
    """
    if split is None and not own:
        return "all", np.arange(len(index), dtype=np.int64)
    name = split or ("test" if "test" in splits else "val")
    if not splits:
        raise UsageError(
            f"{where} names no splits, so there is no split {name!r} of it.",
            "Leave out --split: all images are scored. In a table a column may name splits:  --split-col COLUMN",
        )
    if name not in splits:
        hold_out = "\nA test is held out before training:  --set data.test=0.2" if own and name == "test" else ""
        raise UsageError(f"There is no split {name!r} in these data.", f"There are: {', '.join(splits)}.{hold_out}")
    return name, splits[name]
