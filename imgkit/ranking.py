"""Which backbone: the heads of several networks, solved on features of the same images and judged by cross-validation.

Each image outside test is answered by a head that was fitted without it (and without others of its group), so that the
networks are compared by macro F1 on all of them, image by image, after about one pass of each trunk over the data.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.cells import guarded, joined
from imgkit.data.index import Index
from imgkit.errors import DataError, DeviceError, disk_told, memory_told
from imgkit.features import BY_SGD, head_layer
from imgkit.files import whole_file
from imgkit.metrics import bootstrap_f1
from imgkit.multilabel import bootstrap_sets, score_sets
from imgkit.report.compare import Gap, compare, macro_f1
from imgkit.scaled import Ints
from imgkit.setup import Setup
from imgkit.signals import Watched
from imgkit.solve import FOLDS, fits, solve_head
from imgkit.trunk import Trunk

SHEET, ANSWERS = "probe.csv", "held-out.csv"
_COLUMNS = (
    *("rank", "model", "weights", "parameters", "features", "f1_macro", "f1_low", "f1_high", "right"),
    *("behind", "behind_low", "behind_high", "told_apart", "c", "images", "computed", "seconds"),
)


@dataclass(frozen=True, eq=False)
class Probed:
    """What a network's features are worth.

    Attributes:
        model: its name.
        weights: where they are from.
        parameters: of the network with its head.
        width: D, features of an image.
        rows: of the index that were answered, int64 (n,).
        targets: what is true, int64 (n,), or bool (n, K) in a multi-label task.
        answers: in the same form.
        f1: macro F1 of the answers.
        f1_interval: 95 %, of `f1`; None where there is none to give.
        right: top-1, or exact sets.
        c: the strength of the penalty that was best (scikit-learn's C).
        computed: images whose features no earlier run had kept.
        seconds: for features and fits.
    """

    model: str
    weights: str
    parameters: int
    width: int
    rows: Ints
    targets: npt.NDArray[Any]
    answers: npt.NDArray[Any]
    f1: float
    f1_interval: tuple[float, float] | None
    right: float
    c: float
    computed: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Ranked:
    """A network's place.

    Attributes:
        rank: 1 is best; equal scores share one.
        probed: what its features are worth.
        behind: its macro F1 minus that of the first network, on the same images; None for that one.
    """

    rank: int
    probed: Probed
    behind: Gap | None


def probe_network(setup: Setup, watched: Watched) -> Probed:
    """Features of all images outside test, and what heads answer to those that they were not fitted to.

    Raises:
        DataError: if the images are too few to hold some out.
        DeviceError: if the features are too many for the solver.
    """
    began, index = time.monotonic(), setup.index
    rows = np.sort(np.concatenate([index.rows("train"), index.rows("val")]))
    width, trunk = head_layer(setup.model).weight.shape[1], Trunk(setup)
    if not fits(len(rows), width, len(index.classes)):
        raise DeviceError(
            f"{len(rows):,} images × {width:,} features are too many to solve a head in memory.",
            "Probe fewer images: a table of some of them as --data.",
        )
    with memory_told(DeviceError(f"Out of memory on {setup.device} while the head was solved.", BY_SGD)):
        features = trunk.plain(rows.tolist(), watched)
        with watched("solving the heads") as progress:
            solution = solve_head(
                features.values,
                features.targets,
                classes=len(index.classes),
                groups=rows if index.groups is None else index.groups[rows],
                weights=class_weights_of(setup, features.targets.numpy()),
                seed=setup.recipe.seed,
                progress=progress,
                held_out=True,
            )
    if solution.held_out is None:
        raise DataError(
            "The images are too few to hold some out: no class has two that do not belong together.",
            "It takes two images, or groups, of each class; better ten.",
        )
    kept, logits = solution.held_out
    targets: npt.NDArray[Any] = features.targets.numpy()[kept]
    single = index.task == "single"
    answers = logits.argmax(axis=1) if single else logits > 0
    targets = targets if single else targets.astype(np.bool_)
    return Probed(
        model=setup.about["model"],
        weights=setup.about["weights"]["detail"],
        parameters=setup.about["parameters"],
        width=width,
        rows=rows[kept],
        targets=targets,
        answers=answers,
        f1=macro_f1(targets, answers),
        f1_interval=_interval(targets, answers, logits, len(index.classes)),
        right=float((answers == targets).mean() if single else (answers == targets).all(axis=1).mean()),
        c=solution.c,
        computed=trunk.computed,
        seconds=time.monotonic() - began,
    )


def class_weights_of(setup: Setup, targets: Ints) -> npt.NDArray[np.float64] | None:
    """What each image counts as, by its class, where the recipe weighs classes."""
    by_class = next((found for found in setup.about["loss_weights"].values() if found), None)
    if by_class is None or targets.ndim == 2:
        return None
    return np.array([by_class[name] for name in setup.index.classes], dtype=np.float64)[targets]


def _interval(
    targets: npt.NDArray[Any], answers: npt.NDArray[Any], logits: npt.NDArray[np.float32], classes: int
) -> tuple[float, float] | None:
    if targets.ndim == 1:
        confusion = np.bincount(targets * classes + answers, minlength=classes**2).reshape(classes, classes)
        return bootstrap_f1(confusion)
    found = bootstrap_sets(score_sets(1 / (1 + np.exp(-logits.astype(np.float64))), targets))["f1_macro"]
    return None if found is None else (found[0], found[1])


def rank(probed: Sequence[Probed]) -> list[Ranked]:
    """Networks that answered the same images, best first, each with how far it is behind the first."""
    ordered = sorted(probed, key=lambda one: -one.f1)
    first = ordered[0]
    assert all(np.array_equal(one.rows, first.rows) for one in ordered), "the same images for all"
    found = []
    for one in ordered:
        place = 1 + sum(other.f1 > one.f1 for other in ordered)
        behind = None if one is first else compare(first.targets, first.answers, one.answers).f1
        found.append(Ranked(place, one, behind))
    return found


def write(ranked: Sequence[Ranked], index: Index, folder: Path) -> None:
    """Write probe.csv, a row a network, and held-out.csv, a row an image with what each network answered.

    Raises:
        DiskError: if they cannot be written.
    """
    with disk_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / SHEET, newline="") as stream:
            sheet = csv.writer(stream)
            sheet.writerow(_COLUMNS)
            sheet.writerows(_cells(one) for one in ranked)
        first = ranked[0].probed
        with whole_file(folder / ANSWERS, newline="") as stream:
            sheet = csv.writer(stream)
            sheet.writerow(["path", "label", *(guarded(one.probed.model) for one in ranked)])
            for number, row in enumerate(first.rows.tolist()):
                told = [first.targets[number], *(one.probed.answers[number] for one in ranked)]
                sheet.writerow([guarded(cell) for cell in (index.paths[row], *(_words(one, index) for one in told))])


def _cells(one: Ranked) -> list[str]:
    probed, behind = one.probed, one.behind
    gap = (None, None, None, None)
    if behind is not None:
        gap = (behind.value, *(behind.interval or (None, None)), behind.told_apart)
    low, high = probed.f1_interval or (None, None)
    cells = (
        *(one.rank, probed.model, probed.weights, probed.parameters, probed.width, probed.f1, low, high, probed.right),
        *(*gap, probed.c, len(probed.rows), probed.computed, round(probed.seconds, 2)),
    )
    return ["" if cell is None else guarded(cell) if isinstance(cell, str) else str(cell) for cell in cells]


def _words(answer: Any, index: Index) -> str:  # noqa: ANN401
    """The label of an answer, or its labels, in a cell."""
    if index.task == "single":
        return index.classes[int(answer)]
    return joined(name for name, has in zip(index.classes, answer, strict=True) if has)


PROTOCOL = f"{FOLDS}-fold cross-validation of a logistic regression on frozen features; no image of test is looked at"
