"""Images of one content in several splits, and a score without those that training or choosing has seen."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.cells import visible
from imgkit.data.csv_text import INDEXED
from imgkit.metrics import bootstrap_f1, shares, wilson
from imgkit.multilabel import ScoredSets, summarise_sets
from imgkit.report.collect import Measured
from imgkit.report.stored import Answers, AnswersOfSets, rows_below

EARLIER = {"val": ("train",), "test": ("train", "val")}
"""The splits that an image of a split must not lie in, too."""


@dataclass(frozen=True)
class Indexed:
    """A run's index.csv: of each image its path, label, split and the SHA-256 of its bytes; (N,) each."""

    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]
    hashes: Sequence[str]


@dataclass(frozen=True)
class Copies:
    """Files of the same bytes.

    Args:
        files: how many are a copy of another one.
        contents: how many pictures they show.
        contradicting: of these, how many have copies with different labels.
    """

    files: int
    contents: int
    contradicting: int


@dataclass(frozen=True)
class Leak:
    """Scored images that also lie in an earlier split, byte for byte.

    Args:
        n: how many.
        of: images scored.
        among: how many of them lie in each earlier split.
        without: scores of the others by name, as `collect.SHOWN`; empty where none is left.
    """

    n: int
    of: int
    among: Mapping[str, int]
    without: Mapping[str, Measured]


def read_indexed(file: Path) -> Indexed:
    """The table of a run's images.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no such table.
    """
    cells = list(rows_below(file, INDEXED))
    return Indexed(
        paths=[visible(row[0]) for row in cells],
        labels=[row[1] for row in cells],
        splits=[row[2] for row in cells],
        hashes=[row[5] for row in cells],
    )


def copies(index: Indexed) -> Copies:
    """Files of the same bytes in the data."""
    times = Counter(index.hashes)
    labels = defaultdict[str, set[str]](set)
    for digest, label in zip(index.hashes, index.labels, strict=True):
        if times[digest] > 1:
            labels[digest].add(label)
    several = [n for n in times.values() if n > 1]
    return Copies(sum(several), len(several), sum(len(found) > 1 for found in labels.values()))


def leaked_rows(index: Indexed, paths: Sequence[str], split: str) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Which of the scored images (N,) lie in each earlier split, too.

    Args:
        index: the run's images.
        paths: of the scored ones, in the order of predictions.csv.
        split: that was scored.
    """
    digest_of = {
        path: digest for path, digest, own in zip(index.paths, index.hashes, index.splits, strict=True) if own == split
    }
    found = {}
    for earlier in EARLIER.get(split, ()):
        seen = {digest for digest, own in zip(index.hashes, index.splits, strict=True) if own == earlier}
        found[earlier] = np.array([digest_of.get(path) in seen for path in paths], dtype=np.bool_)
    return found


def leak_of(
    index: Indexed, answers: Answers | AnswersOfSets, split: str, classes: Sequence[str], seed: int
) -> Leak | None:
    """The leak into a scored split, with the scores of the images that are left; None where there is none."""
    rows = leaked_rows(index, answers.paths, split)
    leaked = np.logical_or.reduce([*rows.values(), np.zeros(len(answers.paths), dtype=np.bool_)])
    if not leaked.any():
        return None
    among = {earlier: int(found.sum()) for earlier, found in rows.items() if found.any()}
    score = _scores_of_sets if isinstance(answers, AnswersOfSets) else _scores
    without = score(answers, ~leaked, classes, seed) if not leaked.all() else {}  # type: ignore[arg-type]
    return Leak(int(leaked.sum()), len(leaked), among, without)


def _scores(answers: Answers, kept: npt.NDArray[np.bool_], classes: Sequence[str], seed: int) -> dict[str, Measured]:
    """Macro F1 and top-1 of some of the images, as metrics.json would have them."""
    few = answers._replace(targets=answers.targets[kept], predicted=answers.predicted[kept])
    confusion = few.confusion(len(classes))
    support, hits = confusion.sum(axis=1), np.diagonal(confusion)
    f1 = shares(hits, support, confusion.sum(axis=0)).f1[support > 0]
    right, n = int(hits.sum()), int(support.sum())
    return {
        "f1_macro": Measured(float(f1.mean()), bootstrap_f1(confusion, seed=seed)),
        "top1": Measured(right / n, wilson(right, n)),
    }


def _scores_of_sets(
    answers: AnswersOfSets, kept: npt.NDArray[np.bool_], classes: Sequence[str], seed: int
) -> dict[str, Measured]:
    known = answers.probs is not None
    probs = answers.probs if answers.probs is not None else answers.predicted.astype(np.float64)
    few = ScoredSets(answers.targets[kept], answers.predicted[kept], probs[kept])
    found = summarise_sets(few, classes, seed=seed)
    names = ("f1_macro", "map", "subset_accuracy") if known else ("f1_macro", "subset_accuracy")
    return {name: Measured(found[name], found["intervals"][name] and tuple(found["intervals"][name])) for name in names}
