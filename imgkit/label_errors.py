"""Labels that are likely wrong, ranked by heads that were fitted without the image: `imgkit data label-errors`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgkit.cells import Rows, guarded, guarded_answer
from imgkit.confident import confident_joint, joint, self_confidence
from imgkit.data.csv_text import JUDGED
from imgkit.data.index import SPLITS, Index
from imgkit.data.rows import count, listed, refuse_picture
from imgkit.errors import DataError, DeviceError, UsageError, disk_told, memory_told
from imgkit.features import BY_SGD, head_layer
from imgkit.files import whole_file
from imgkit.held_out import out_of_fold
from imgkit.ranking import class_weights_of
from imgkit.report.label_page import LabelPage, Noise, Suspect, write_label_page
from imgkit.scaled import Floats, Ints
from imgkit.setup import Setup
from imgkit.signals import Watched
from imgkit.solve import fits
from imgkit.terminal import percent
from imgkit.trunk import Trunk

SHEET, PAGE = "labels.csv", "label-errors.html"
CAVEAT = (
    "The number is an estimate. Images that this network finds hard and images that people would label differently "
    "count as wrong, too; errors that look right are missed. Look at each before you change its label."
)


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What heads that were fitted without them say of labels.

    Attributes:
        given: the label of each image, int64 (n,).
        probs: out of fold, (n, K).
        scores: the probability of the label, (n,): low is suspect.
        noise: estimated images with label i that truly are class j, (K, K).
    """

    given: Ints
    probs: Floats
    scores: Floats
    noise: Floats

    @cached_property
    def order(self) -> Ints:
        """Places of the images, the most suspect first, equal ones in their order."""
        found: Ints = np.argsort(self.scores, kind="stable").astype(np.int64)
        return found

    @cached_property
    def suggested(self) -> Ints:
        """The most probable class of each image, (n,)."""
        found: Ints = self.probs.argmax(axis=1).astype(np.int64)
        return found

    @cached_property
    def estimated(self) -> Floats:
        """About how many labels of each class are wrong, (K,)."""
        found: Floats = self.noise.sum(axis=1) - np.diag(self.noise)
        return found

    @cached_property
    def suspects(self) -> Ints:
        """The first of `order`: as many as are estimated to be wrong, and each more likely another class."""
        first = self.order[: round(float(self.estimated.sum()))]
        found: Ints = first[self.suggested[first] != self.given[first]]
        return found


def judge(probs: Floats, given: Ints) -> LabelErrors:
    """Confident learning of out-of-fold probabilities (n, K) and labels (n,)."""
    counts = np.bincount(given, minlength=probs.shape[1])
    return LabelErrors(given, probs, self_confidence(probs, given), joint(confident_joint(probs, given), counts))


def find_label_errors(
    features: torch.Tensor,
    given: Ints,
    *,
    classes: int,
    groups: Ints | None = None,
    weights: Floats | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LabelErrors:
    """Judge labels by features (n, D); the arguments and errors are those of `out_of_fold`."""
    about: dict[str, Any] = {"groups": groups, "weights": weights, "seed": seed, "progress": progress}
    return judge(out_of_fold(features, torch.from_numpy(given), classes=classes, **about), given)


@dataclass(frozen=True, eq=False)
class Judged:
    """Label errors of a data set.

    Attributes:
        index: the data.
        rows: of the index that were judged, int64 (n,).
        errors: what is said of them.
        alone: classes that were left out: they have a single image, or group, which no other one can judge.
        computed: images whose features no earlier run had kept.
    """

    index: Index
    rows: Ints
    errors: LabelErrors
    alone: tuple[str, ...]
    computed: int

    @property
    def estimate(self) -> str:
        """`about 131 of 2,624 labels (5.0 %)`."""
        wrong = float(self.errors.estimated.sum())
        return f"about {wrong:,.0f} of {count(len(self.rows), 'label')} ({percent(wrong / len(self.rows))})"

    @cached_property
    def suspects(self) -> list[Suspect]:
        """The labels that are suspect, the most suspect first."""
        index, errors = self.index, self.errors
        return [
            Suspect(
                rank,
                index.paths[row := int(self.rows[place])],
                index.path(row),
                index.classes[errors.given[place]],
                index.classes[code := int(errors.suggested[place])],
                float(errors.probs[place, code]),
                float(errors.scores[place]),
            )
            for rank, place in enumerate(errors.suspects.tolist(), start=1)
        ]

    @cached_property
    def noise(self) -> list[Noise]:
        """How wrong each class is estimated to be."""
        others = self.errors.noise.copy()
        np.fill_diagonal(others, 0.0)
        return [
            Noise(
                name,
                int(np.count_nonzero(self.errors.given == code)),
                float(self.errors.estimated[code]),
                self.index.classes[others[code].argmax()] if others[code].any() else "",
            )
            for code, name in enumerate(self.index.classes)
        ]


def judge_labels(setup: Setup, watched: Watched) -> Judged:
    """Features of all labelled images, those of test too, and what is said of their labels.

    Raises:
        UsageError: if images have several labels.
        DataError: if the images are too few to hold some out.
        DeviceError: if the features are too many for the solver.
    """
    index, labels = setup.index, _labels(setup.index)
    together, classes = _together(index), len(index.classes)
    pairs = np.unique(np.stack([labels, together]), axis=1)[0]
    units = np.bincount(pairs, minlength=classes)
    rows = np.flatnonzero(units[labels] > 1)
    if not len(rows):
        raise DataError(
            "No class has two images that do not belong together, so none can judge another.",
            "It takes two images, or groups, of each class; better ten.",
        )
    width, trunk = head_layer(setup.model).weight.shape[1], Trunk(setup)
    if not fits(len(rows), width, classes):
        raise DeviceError(
            f"{len(rows):,} images × {width:,} features are too many to solve a head in memory.",
            "Look at fewer images at a time: a table of some of them as --data.",
        )
    with memory_told(DeviceError(f"Out of memory on {setup.device} while the heads were solved.", BY_SGD)):
        features = trunk.plain(rows.tolist(), watched)
        with watched("solving the heads") as progress:
            errors = find_label_errors(
                features.values,
                labels[rows],
                classes=classes,
                groups=together[rows],
                weights=_weights(setup, labels[rows]),
                seed=setup.recipe.seed,
                progress=progress,
            )
    alone = tuple(index.classes[code] for code in np.flatnonzero(units == 1))
    return Judged(index, rows, errors, alone, trunk.computed)


def _weights(setup: Setup, labels: Ints) -> Floats | None:
    """What each image counts as, where somebody asked for class weights.

    Those of a shipped recipe shift probabilities, and of the planted errors fewer come first (benchmarks/NOTES.md).
    """
    shipped = setup.loaded.origins.get("loss.class_weights", "default").startswith(("recipe ", "default"))
    return None if shipped else class_weights_of(setup, labels)


def _labels(index: Index) -> Ints:
    if index.task == "multilabel":
        raise UsageError(
            "label-errors judges data with one label an image, and these have several (multi-label).",
            "Judge one label at a time, by a table that has a column for it:  --label-col COLUMN --task single",
        )
    return index.labels()


def _together(index: Index) -> Ints:
    """What may not judge each other has the same number, int64 (N,): a group; without groups, exact copies."""
    if index.groups is not None:
        return index.groups
    found = np.unique(index.hashes, axis=0, return_inverse=True)[1]
    return found.reshape(-1).astype(np.int64)


def write(judged: Judged, setup: Setup, out: Path) -> None:
    """Write labels.csv and label-errors.html into a folder.

    Raises:
        DiskError: if they cannot be written.
        UsageError: if one of them is a picture of the data.
    """
    index = judged.index
    for file in (out / SHEET, out / PAGE):
        refuse_picture(file, map(index.path, range(len(index))))
    with disk_told(out):
        out.mkdir(parents=True, exist_ok=True)
    write_sheet(judged, out / SHEET)
    facts = [
        ("Data", f"{count(len(index), 'image')}, {count(len(index.classes), 'class', 'classes')}"),
        ("Wrong", f"{judged.estimate}, as confident learning estimates"),
        ("Judged by", f"a logistic regression on features of {setup.about['model']}, fitted without the image"),
    ]
    page = LabelPage(
        "Labels that may be wrong", facts, notes_of(judged), judged.noise, judged.suspects, len(judged.suspects), SHEET
    )
    write_label_page(page, out / PAGE, max_pixels=setup.recipe.data.max_pixels)


def notes_of(judged: Judged) -> list[str]:
    """What has to be known of the numbers."""
    alone = [f"{listed(judged.alone)}: a single image or group, which no other one can judge."] if judged.alone else []
    return [CAVEAT, *alone]


def write_sheet(judged: Judged, file: Path) -> None:
    """Write the whole data set as a table that `--data` takes: the most suspect first, `label` as it was given.

    Raises:
        DiskError: if it cannot be written.
    """
    index, errors = judged.index, judged.errors
    labels, suspects = index.labels(), set(errors.suspects.tolist())
    grouped = () if index.groups is None else ("group",)
    with disk_told(file), whole_file(file, newline="") as stream:
        sheet = Rows(stream)
        sheet.writerow(("path", "label", "split", *grouped, *JUDGED))

        def write(row: int, told: Sequence[str]) -> None:
            label = guarded_answer(index.classes[labels[row]])
            group = () if index.groups is None else (str(index.groups[row]),)
            cells = (_path_cell(index.paths[row]), label, SPLITS[index.splits[row]])
            sheet.writerow((*cells, *group, label, *told))

        for rank, place in enumerate(errors.order.tolist(), start=1):
            code = int(errors.suggested[place])
            other = guarded_answer(index.classes[code]), f"{errors.probs[place, code]:.4f}"
            told = ("", "") if code == errors.given[place] else other
            suspect = "yes" if place in suspects else ""
            write(int(judged.rows[place]), (*told, f"{errors.scores[place]:.4f}", str(rank), suspect))
        for row in np.setdiff1d(np.arange(len(index)), judged.rows).tolist():
            write(row, ("",) * (len(JUDGED) - 1))


def _path_cell(path: str) -> str:
    """A path that is no formula in a spreadsheet, and still leads to the file."""
    return path if guarded(path) == path else f"./{path}"
