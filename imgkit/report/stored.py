"""A stored evaluation as arrays: what was answered for which image, read from text alone."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgkit.cells import bare, parted, visible
from imgkit.data.csv_text import PREDICTED, PREDICTED_SETS
from imgkit.data.rows import count
from imgkit.evaluations import weights_label
from imgkit.metrics import Ints
from imgkit.multilabel import Bools
from imgkit.probabilities import Floats
from imgkit.recipe.fields import Task
from imgkit.report.collect import scored_splits
from imgkit.run import RunFolder


class Answers(NamedTuple):
    """What was answered where an image has one label, in the order of predictions.csv."""

    paths: Sequence[str]  # (N,)
    targets: Ints  # (N,), true class
    predicted: Ints  # (N,)
    prob: Floats  # (N,), probability of the answer
    label_prob: Floats  # (N,), probability of the true class

    @property
    def right(self) -> Bools:
        """Whether each answer is right, (N,)."""
        right: Bools = self.targets == self.predicted
        return right

    def confusion(self, classes: int) -> Ints:
        """Counts (K, K): true class by answer."""
        counts = np.bincount(self.targets * classes + self.predicted, minlength=classes * classes)
        return counts.reshape(classes, classes).astype(np.int64)


class AnswersOfSets(NamedTuple):
    """The same where an image has any number of labels."""

    paths: Sequence[str]  # (N,)
    targets: Bools  # (N, K)
    predicted: Bools  # (N, K)
    probs: Floats | None  # (N, K); None with more labels than predictions.csv has probabilities of

    @property
    def right(self) -> Bools:
        """Whether the set of labels was answered exactly, (N,)."""
        exact: Bools = (self.targets == self.predicted).all(axis=1)
        return exact


@dataclass(frozen=True)
class Stored:
    """One evaluation of a run.

    Args:
        name: "test@1200".
        folder: where it lies.
        metrics: of metrics.json.
        classes: names of the run's classes, as the evaluation's tables have them.
        task: one label an image, or any number.
    """

    name: str
    folder: Path
    metrics: Mapping[str, Any]
    classes: tuple[str, ...]
    task: Task

    @property
    def split(self) -> str:
        """What was scored."""
        return str(self.metrics["split"])

    def file(self, name: str) -> str:
        """A file of it as the page names it, from the run's folder."""
        return f"evaluations/{self.name}/{name}"

    @cached_property
    def answers(self) -> Answers | AnswersOfSets:
        """What was answered.

        Raises:
            OSError: if predictions.csv cannot be read.
            ValueError, KeyError: if it is no such table, or has not a row for each image that was scored.
        """
        read = _sets if self.task == "multilabel" else _labels
        found, n = read(self.folder / "predictions.csv", self.classes), self.metrics["n"]
        if len(found.paths) != n:
            raise ValueError(f"predictions.csv has {count(len(found.paths), 'row')}, and {n:,} images were scored")
        return found


def stored_of(folder: RunFolder, split: str | None = None) -> Stored | None:
    """The evaluation of a run's best weights on test, else on validation; on `split` alone if that is given.

    Where the best weights are not known yet, those of the newest evaluation. None where there is none.

    Raises:
        DiskError: if a file is damaged.
    """
    about, status = folder.read_json("run.json"), folder.read_json("status.json")
    best = weights_label(status["best"]) if status.get("best") else None
    names = scored_splits(sorted(file.parent.name for file in folder.path.glob("evaluations/*/metrics.json")), best)
    name = names.get(split) if split else names.get("test", names.get("val"))
    if name is None:
        return None
    return Stored(
        name=name,
        folder=folder.path / "evaluations" / name,
        metrics=folder.read_json(f"evaluations/{name}/metrics.json"),
        classes=tuple(visible(str(one)) for one in about["classes"]),
        task="multilabel" if about["task"] == "multilabel" else "single",
    )


def table(file: Path) -> Iterator[list[str]]:
    """The rows of a CSV that imgkit wrote, the header first."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        yield from csv.reader(stream, strict=True)


def rows_below(file: Path, header: Sequence[str]) -> Iterator[list[str]]:
    """The rows below a header that begins with `header`, so many cells of each, as they were before they were guarded.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if its header is another one.
    """
    rows = table(file)
    _check(next(rows, ()), header)
    for row in rows:
        yield [bare(cell) for cell in row[: len(header)]]


def codes_of(cells: Sequence[str], classes: Sequence[str]) -> Ints:
    """The class of each cell, (N,).

    Raises:
        KeyError: if one is no class.
    """
    code_of = {name: code for code, name in enumerate(classes)}
    return np.array([code_of[cell] for cell in cells], dtype=np.int64)


def sets_of(cells: Sequence[str], classes: Sequence[str]) -> Bools:
    """The sets of labels, (N, K), of cells that `cells.joined` wrote.

    Raises:
        KeyError: if a label is no class.
    """
    code_of = {name: code for code, name in enumerate(classes)}
    found = np.zeros((len(cells), len(classes)), dtype=np.bool_)
    for row, cell in enumerate(cells):
        found[row, [code_of[name] for name in parted(cell)]] = True
    return found


def _labels(file: Path, classes: Sequence[str]) -> Answers:
    cells = list(rows_below(file, PREDICTED))
    return Answers(
        paths=[row[0] for row in cells],
        targets=codes_of([row[1] for row in cells], classes),
        predicted=codes_of([row[2] for row in cells], classes),
        prob=np.array([row[3] for row in cells], dtype=np.float64),
        label_prob=np.array([row[4] for row in cells], dtype=np.float64),
    )


def _sets(file: Path, classes: Sequence[str]) -> AnswersOfSets:
    rows = table(file)
    header = next(rows, [])
    _check(header, PREDICTED_SETS)
    cells, k, start = list(rows), len(classes), len(PREDICTED_SETS)
    wide = len(header) == start + 2 * k
    return AnswersOfSets(
        paths=[bare(row[0]) for row in cells],
        targets=sets_of([bare(row[1]) for row in cells], classes),
        predicted=sets_of([bare(row[2]) for row in cells], classes),
        probs=np.array([row[start + k :] for row in cells], dtype=np.float64).reshape(len(cells), k) if wide else None,
    )


def _check(header: Sequence[str], expected: Sequence[str]) -> None:
    if tuple(header[: len(expected)]) != tuple(expected):
        raise ValueError(f"the columns are not {', '.join(expected)}")
