"""From settings to a checked index: find, read, map classes, scan, split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.data.aspect import Floats
from imgkit.data.classes import (
    check_known,
    class_map,
    constant_warnings,
    label_notes,
    missing_notes,
    name_warnings,
    single_warnings,
    validation_warnings,
)
from imgkit.data.columns import Rows
from imgkit.data.decode import JPEGS
from imgkit.data.facts import Facts, ScanReport, find_duplicates
from imgkit.data.index import SPLITS, Index
from imgkit.data.paths import Files, Ints
from imgkit.data.rows import Source, count
from imgkit.data.scan import scan
from imgkit.data.sources import Place, find_data, read_source
from imgkit.data.spill import zeros
from imgkit.data.split import assign_label_sets, assign_splits
from imgkit.errors import BadImage, DataError, UsageError, printable
from imgkit.recipe.fields import Task
from imgkit.recipe.schema import DataSettings

_BAD_SHOWN = 20
_LARGE = 4_000_000  # pixels of the median image, from which on decoding in full takes longer than a small network


@dataclass(frozen=True)
class LoadedData:
    """A data set that can be used, and what is worth saying about it."""

    index: Index
    name: str  # "cells/", for a run's files
    where: str  # what was used and why: "cells/ (from --data)"
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    bad: tuple[BadImage, ...]  # left out because of on_bad="skip"
    aspects: Floats  # width / height of each picture, (n,)
    named: npt.NDArray[np.bool_]  # whether the data themselves name the split of a picture, (n,)
    facts: Facts  # of the pictures, (n,)


@dataclass(frozen=True)
class Listed:
    """A data set as names tell it: rows and classes are known, and no picture was opened."""

    place: Place
    source: Source
    classes: tuple[str, ...]


def list_data(settings: DataSettings, classes: tuple[str, ...] | None = None) -> Listed:
    """The quick part of `load_data`, with its arguments and errors: all that can be told before a picture is opened."""
    place = find_data(settings)
    source = read_source(place, settings, training=classes is None)
    if classes is None:
        _refuse_unused_splitting(source, settings)
    return Listed(place, source, _classes(source, source.rows, settings, classes)[0])


def load_data(
    settings: DataSettings,
    *,
    classes: tuple[str, ...] | None = None,
    listed: Listed | None = None,
    report: ScanReport | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedData:
    """Read a data set and check every file of it.

    Args:
        settings: `[data]` of a recipe.
        classes: the class map of a trained run; labels are matched to it by name, nothing is split, and rows without a
            split become test. None: the class map comes from train.
        listed: what `list_data` gave for these settings and classes, if it was asked before.
        report: of a scan of what is listed; None: it is made.
        progress: called with (files done, files in all) during the scan.

    Raises:
        DataError: if the data cannot be used; see the readers, `class_map` and `check_known`. Bad files are one, too,
            unless `settings.on_bad` is "skip".
        UsageError: if the settings contradict each other.
    """
    listed = listed or list_data(settings, classes)
    place, source = listed.place, listed.source
    if report is None:
        report = scan(Files(source.root, source.rows.paths), max_pixels=settings.max_pixels, progress=progress)
    if report.bad and settings.on_bad == "stop":
        raise _bad_files(report, source)
    good = np.flatnonzero(report.facts.good)
    if not len(good):
        listing = _bad_files(report, source).message
        if place.path.is_file() and not place.shards:
            listing += f"\nRelative paths start at {printable(str(source.root))}; another folder:  --root FOLDER"
        raise DataError(f"No usable image is left in {source.shown}.", listing)
    rows, facts = (source.rows.select(good) if report.bad else source.rows), report.good
    names, notes = _classes(source, rows, settings, classes)
    code = {name: number for number, name in enumerate(names)}
    codes = zeros(len(rows.codes), np.int64)
    np.take(np.array([code.get(label, -1) for label in rows.labels] or [-1]), rows.codes, out=codes, mode="clip")
    splits, split_notes = _splits(rows, codes, source.task, settings, training=classes is None)
    index = _index(source, rows, facts, names, codes, splits)
    warnings = name_warnings(index) + single_warnings(index) + constant_warnings(index) if classes is None else []
    if report.bad:
        first = _line(report.bad[0], source.root)
        warnings.append(f"{count(len(report.bad), 'file')} left out because they cannot be used, first {first}.")
    warnings += duplicate_warnings(index) + group_warnings(index)
    if classes is None:
        notes += missing_notes(index)
        given = "val" in _given(rows)
        warnings += validation_warnings(index, share=None if given else settings.val)
    notes = source.notes + label_notes(index) + notes + split_notes + _picture_notes(report)
    aspects = (facts.widths / facts.heights).astype(np.float32)
    warnings = source.warnings + warnings
    return LoadedData(
        index, place.name, str(place), tuple(notes), tuple(warnings), report.bad, aspects, rows.splits >= 0, facts
    )


def _refuse_unused_splitting(source: Source, settings: DataSettings) -> None:
    """A share that was asked for, of a split that the data bring along, would change nothing; so would its seed."""
    given = _given(source.rows)
    for split in ("val", "test"):
        share = getattr(settings, split)
        if split in given and split in settings.model_fields_set and share > 0:
            said = "--val" if split == "val" else f"data.{split}"
            raise UsageError(
                f"data.{split} = {share:g} is not used: {source.shown} has a {split} split of its own.",
                f"Leave out {said}; or give the training images alone (--train FOLDER, or a table of them), and imgkit "
                "splits them.",
            )
    made = any(split not in given and getattr(settings, split) > 0 for split in ("val", "test"))
    if "split_seed" in settings.model_fields_set and not made:
        raise UsageError(
            f"data.split_seed = {settings.split_seed} is not used: imgkit makes no split of {source.shown}.",
            "Leave out --split-seed."
            + ("" if "test" in given else " A training may hold a part out:  --set data.test=0.2"),
        )


def _classes(
    source: Source, rows: Rows, settings: DataSettings, classes: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[str]]:
    """The class map, and notes on how the labels agree with a given one."""
    if classes is not None:
        return classes, check_known(rows, source.shown, classes)
    return class_map(rows, source, settings), []


def _given(rows: Rows) -> set[str | None]:
    """The splits that rows name, and None where one names none."""
    held = np.flatnonzero(np.bincount(rows.splits + 1)).tolist()  # np.unique takes 20 ms to be imported
    return {(None, *SPLITS)[split] for split in held}


def _splits(
    rows: Rows, codes: Ints, task: Task, settings: DataSettings, *, training: bool
) -> tuple[npt.NDArray[np.int8], list[str]]:
    """The split of each row as a position in SPLITS, and a note on what imgkit decided."""
    splits = rows.splits
    splits[splits < 0] = SPLITS.index("train" if training else "test")
    given = _given(rows)
    val = 0.0 if "val" in given else settings.val
    test = 0.0 if "test" in given else settings.test
    if not training or val + test == 0:
        return splits, []
    pool = np.flatnonzero(splits == SPLITS.index("train"))
    dealt_rows = rows if len(pool) == len(rows) else rows.select(pool)
    groups, paths, offsets = dealt_rows.group_codes, dealt_rows.paths, rows.offsets
    if task == "multilabel":
        sets = [codes[offsets[row] : offsets[row + 1]].tolist() for row in pool.tolist()]
        dealt = assign_label_sets(paths, sets, groups, val=val, test=test, seed=settings.split_seed)
    else:
        dealt = assign_splits(paths, codes[offsets[:-1][pool]], groups, val=val, test=test, seed=settings.split_seed)
    splits[pool] = dealt
    shares = {SPLITS[split]: share for split, share in ((1, val), (2, test)) if share}
    return splits, [_split_note(given, shares, dealt, settings.split_seed, grouped=groups is not None)]


def _split_note(
    given: set[str | None], shares: dict[str, float], dealt: npt.NDArray[np.int8], seed: int, *, grouped: bool
) -> str:
    missing = f"no {' or '.join(shares)} split is given" if "train" in given else "no splits are given"
    how = "stratified, in whole groups" if grouped else "stratified"
    rates = ", ".join(f"{share:.3g} for {split}" for split, share in shares.items())
    counts = ", ".join(f"{split} {int((dealt == SPLITS.index(split)).sum()):,}" for split in ("train", *shares))
    kept = [split for split in ("val", "test") if split in given]
    beside = f"; {kept[0]} is kept as given" if kept else ""
    what = "train" if "train" in given else "the images"
    return f"Split {what} because {missing}: {counts} ({how}, {rates}, split seed {seed}){beside}."


def _index(
    source: Source,
    rows: Rows,
    facts: Facts,
    names: tuple[str, ...],
    codes: Ints,
    splits: npt.NDArray[np.int8],
) -> Index:
    return Index(
        root=source.root,
        paths=rows.paths,
        classes=names,
        codes=codes,
        offsets=rows.offsets,
        splits=splits,
        groups=rows.group_codes,
        sizes=facts.sizes,
        hashes=facts.hashes,
        task=source.task,
        weights=rows.weights,
    )


def _bad_files(report: ScanReport, source: Source) -> DataError:
    lines = [f"  {_line(error, source.root)}" for error in report.bad[:_BAD_SHOWN]]
    if len(report.bad) > _BAD_SHOWN:
        lines.append(f"  and {len(report.bad) - _BAD_SHOWN:,} more")
    message = f"{len(report.bad):,} of {count(len(report.facts), 'image')} in {source.shown} cannot be used:"
    return DataError(
        "\n".join([message, *lines]),
        "Mend or remove them, or pass --on-bad skip to leave them out (they will be listed).",
    )


def _line(error: BadImage, root: Path) -> str:
    return f"{printable(str(Path(error.path).relative_to(root)))}: {error.reason}"


def duplicate_warnings(index: Index) -> list[str]:
    """Exact copies across splits, and with different labels."""
    groups = find_duplicates(index.hashes)
    warnings = []
    value: Callable[[int], object]
    for value, what in (
        (lambda row: int(index.splits[row]), "in different splits, so scores are too good"),
        (lambda row: index.codes[index.offsets[row] : index.offsets[row + 1]].tobytes(), "with different labels"),
    ):
        mixed = [rows for rows in groups if len({value(row) for row in rows}) > 1]
        if mixed:
            first = mixed[0][0]
            other = next(row for row in mixed[0] if value(row) != value(first))
            pair = f"{printable(index.paths[first])} = {printable(index.paths[other])}"
            images = count(sum(map(len, mixed)), "image")
            groups_of = f"{images} in {count(len(mixed), 'group')}"
            warnings.append(f"{groups_of} are exact copies {what}, for example {pair}. Keep one of each.")
    return warnings


def group_warnings(index: Index) -> list[str]:
    """Groups that the given splits tear apart."""
    if index.groups is None:
        return []
    pairs = np.unique(np.stack([index.groups, index.splits.astype(np.int64)]), axis=1)
    mixed = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    return [f"{count(mixed, 'group has', 'groups have')} images in more than one of the given splits."] if mixed else []


def _picture_notes(report: ScanReport) -> list[str]:
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in report.formats.items())
    assert report.largest is not None, "there is a good file"
    assert report.median_size is not None, "there is a good file"
    largest, middle = ("x".join(map(str, size)) for size in (report.largest, report.median_size))
    notes = [f"{kinds}; largest {largest} px, median {middle} px."]
    if report.gray == int(report.facts.good.sum()):
        greys = count(report.gray, "image")
        notes.append(f"All {greys} are grayscale and are repeated to 3 channels (unless model.in_chans is 1).")
    elif report.gray:
        notes.append(f"{count(report.gray, 'image is', 'images are')} grayscale among colour ones, converted to RGB.")
    width, height = report.median_size
    if width * height > _LARGE:
        most = next(iter(report.formats))
        why = "JPEGs are decoded at a fraction of their size" if most in JPEGS else f"{most} is decoded in full"
        notes.append(f"The images are large; {why}. A long training decodes them once (data.prepared).")
    if report.rotated:
        notes.append(f"{count(report.rotated, 'image is', 'images are')} turned upright as EXIF says.")
    copies = report.duplicates
    if copies:
        notes.append(
            f"{count(sum(map(len, copies)), 'image')} in {count(len(copies), 'group')} are exact copies of each other."
        )
    return notes


def no_validation(index: Index) -> DataError:
    """The error for data without validation images, which training cannot do without."""
    message = "There is no validation split, and validation chooses the weights."
    if int(index.counts("train").max(initial=0)) < 2:
        return DataError(message, "Give each class two images at least: one to train, one to validate.")
    return DataError(message, "Give a share:  --val 0.2")
