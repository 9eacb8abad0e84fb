"""What runs answered to which images: predictions.csv, with each image's content by data/index.csv.

Images are known by their content (SHA-256) and their path, never by the number of a row, and classes by their names.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgkit.cells import visible
from imgkit.data.csv_text import PREDICTED, PREDICTED_SETS
from imgkit.errors import DataError, DiskError, printable
from imgkit.report.compare import Targets, macro_f1
from imgkit.report.leaks import read_indexed
from imgkit.report.stored import codes_of, rows_below, sets_of
from imgkit.run import DAMAGED, RunFolder

Image = tuple[str, str]
"""SHA-256 of a file in hex, and its path below the data's root as predictions.csv shows it."""
_SAME = "Compare runs that were scored on the same images."
_AGREE = 1e-6  # macro F1 of metrics.json and that of predictions.csv


@dataclass(frozen=True, eq=False)
class Answers:
    """What one run answered to the images of one evaluation.

    Args:
        run: its name.
        images: N of them, each once.
        classes: names, in the order of the codes.
        targets: int64 (N,), or bool (N, K) in a multi-label task.
        predicted: in the same form.
    """

    run: str
    images: tuple[Image, ...]
    classes: tuple[str, ...]
    targets: Targets
    predicted: Targets


class Shas:
    """The content of images by run, where runs with the same index.csv share what was read of it."""

    def __init__(self) -> None:
        self._read: dict[bytes, dict[str, str]] = {}

    def of(self, folder: RunFolder) -> dict[str, str]:
        """SHA-256 by path, as predictions.csv shows paths.

        Raises:
            DiskError: if index.csv cannot be read, or has a path twice.
        """
        file = folder.path / "data" / "index.csv"
        try:
            key = hashlib.sha256(file.read_bytes()).digest()
        except OSError as error:
            raise DiskError(f"{printable(str(file))} cannot be read: {error.strerror}.", DAMAGED) from error
        if key not in self._read:
            self._read[key] = _shas(file)
        return self._read[key]


def read_answers(folder: RunFolder, evaluation: str, shas: Shas) -> Answers:
    """The answers of the evaluation called `evaluation` ("test@1200").

    Raises:
        DiskError: if a file of it is missing or damaged, or the answers are not those that were scored.
    """
    about, metrics = folder.read_json("run.json"), folder.read_json(f"evaluations/{evaluation}/metrics.json")
    several = metrics.get("task") == "multilabel"
    file, contents = folder.path / "evaluations" / evaluation / "predictions.csv", shas.of(folder)
    try:
        classes = tuple(visible(str(name)) for name in about["classes"])
        rows = [*rows_below(file, PREDICTED_SETS if several else PREDICTED)]
        images = tuple((contents[path], path) for path, *_ in rows)
        coded = sets_of if several else codes_of
        targets, predicted = (coded([row[place] for row in rows], classes) for place in (1, 2))
        score = float(metrics["f1_macro"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        what = f"{type(error).__name__}: {printable(str(error))}"
        raise DiskError(f"{printable(str(file))} cannot be matched with its images ({what}).", DAMAGED) from error
    if not rows or len(set(images)) < len(images):
        raise DiskError(f"{printable(str(file))} has {'an image twice' if rows else 'no rows'}.", DAMAGED)
    if abs(macro_f1(targets, predicted) - score) > _AGREE:
        found = f"{macro_f1(targets, predicted):.6f}, where metrics.json has {score:.6f}"
        raise DiskError(f"{printable(str(file))} gives macro F1 {found}.", DAMAGED)
    return Answers(folder.name, images, classes, targets, predicted)


def paired(base: Answers, other: Answers) -> tuple[Targets, Targets, Targets]:
    """What is true, and the answers of both, to the same images in the order of `base`; codes are those of both.

    Raises:
        DataError: if the images or their labels are not the same; the message has how many differ.
    """
    place = {image: row for row, image in enumerate(other.images)}
    missing, extra = sum(image not in place for image in base.images), len(set(other.images) - set(base.images))
    if missing or extra:
        raise DataError(
            f"not the same test images: {missing:,} of the {len(base.images):,} of {printable(base.run)} are not among "
            f"those of {printable(other.run)}, and {extra:,} of its {len(other.images):,} are not among these",
            _SAME,
        )
    order = np.array([place[image] for image in base.images], dtype=np.int64)
    classes = tuple(dict.fromkeys((*base.classes, *other.classes)))
    targets, answers = (_recoded(part, base.classes, classes) for part in (base.targets, base.predicted))
    others, found = (_recoded(part[order], other.classes, classes) for part in (other.targets, other.predicted))
    if targets.shape != others.shape or (wrong := _differing(targets, others)):
        what = "another task" if targets.shape != others.shape else f"{wrong:,} images have other labels"
        raise DataError(f"not the same test images: in {printable(other.run)} {what}", _SAME)
    return targets, answers, found


def _differing(one: Targets, two: Targets) -> int:
    unlike = one != two
    return int((unlike if unlike.ndim == 1 else unlike.any(axis=1)).sum())


def _recoded(part: Targets, own: Sequence[str], classes: Sequence[str]) -> Targets:
    """Codes, or columns, of the names `own` as those of `classes`, which has them all."""
    places = {name: code for code, name in enumerate(classes)}
    codes = np.array([places[name] for name in own], dtype=np.int64)
    if part.ndim == 1:
        return codes[part]
    wide = np.zeros((len(part), len(classes)), dtype=np.bool_)
    wide[:, codes] = part
    return wide


def _shas(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        index = read_indexed(file)
        for path, sha in zip(index.paths, index.hashes, strict=True):
            if path in found:
                raise ValueError(f"{path!r} twice")
            found[path] = sha
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DiskError(f"{printable(str(file))} is damaged: {printable(str(error))}.", DAMAGED) from error
    return found
