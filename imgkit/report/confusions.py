"""What is taken for what: counts in an order that puts alike classes side by side, and the images behind each count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.metrics import Ints
from imgkit.multilabel import Bools
from imgkit.report.stored import Answers, AnswersOfSets

NO_LABEL, NO_ANSWER = "(no label)", "(nothing answered)"
_OPTIMAL = 200  # classes up to which the leaves of the tree are put into their best order: beyond, it takes seconds
_LISTED = 100  # confusions in the table of the most frequent ones
Cell = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """One confusion.

    Args:
        cell: its places in the matrix.
        true: the class or label that the images have.
        answered: what was answered instead, or, of labels, wrongly besides.
        count: how many images.
        share: of the images that have the class, in [0, 1].
    """

    cell: Cell
    true: str
    answered: str
    count: int
    share: float


@dataclass(frozen=True, eq=False)
class Confusions:
    """A confusion matrix, or in a multi-label task how often each label was answered where another one is true.

    Args:
        rows: names of the rows, what is true.
        columns: names of the columns, what was answered.
        counts: (rows, columns), in that order.
        support: images that have what the row says, (rows,).
        pairs: the most frequent confusions, the most frequent first.
        images: rows of predictions.csv behind wrong answers by cell, the surest first; of labels, in their order.
        right: those behind right answers, by cell of the diagonal, the least sure first; of labels, in their order.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Ints
    support: Ints
    pairs: tuple[Pair, ...]
    images: Mapping[Cell, Ints]
    right: Mapping[Cell, Ints]

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Each count as a share of its row's images, in [0, 1]."""
        return self.counts / np.maximum(self.support, 1)[:, None]


def similarity_order(counts: Ints) -> list[int]:
    """The classes of a matrix (K, K) so that those that are confused lie side by side.

    Leaves of an average-linkage tree (Sokal & Michener 1958) over 1 - similarity, where the similarity of two classes
    is the mean of the shares in which each is taken for the other; up to `_OPTIMAL` classes in the order that makes
    neighbours most alike (Bar-Joseph et al. 2001).
    """
    k = len(counts)
    if k < 3:
        return list(range(k))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    alike = (shares + shares.T) / 2
    np.fill_diagonal(alike, 0.0)
    distance = 1.0 - np.minimum(alike, 1.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=k <= _OPTIMAL)
    return [int(leaf) for leaf in leaves_list(tree)]


def confusions_of(answers: Answers | AnswersOfSets, classes: Sequence[str]) -> Confusions:
    """The confusions of an evaluation."""
    if isinstance(answers, AnswersOfSets):
        return _of_sets(answers, classes)
    counts = answers.confusion(len(classes))
    order = similarity_order(counts)
    place = np.argsort(order)
    wrong = np.flatnonzero(~answers.right)
    wrong = wrong[np.argsort(-answers.prob[wrong], kind="stable")]
    images = _by_cell(wrong, place[answers.targets[wrong]], place[answers.predicted[wrong]])
    good = np.flatnonzero(answers.right)
    good = good[np.argsort(answers.prob[good], kind="stable")]
    right = _by_cell(good, place[answers.targets[good]], place[answers.predicted[good]])
    names = tuple(classes[code] for code in order)
    counts = counts[np.ix_(order, order)]
    support = counts.sum(axis=1)
    return Confusions(names, names, counts, support, _pairs(images, names, names, support), images, right)


def _of_sets(answers: AnswersOfSets, classes: Sequence[str]) -> Confusions:
    """Labels by labels, then a row for images without one, and a column for images without an answer."""
    true = np.column_stack([answers.targets, ~answers.targets.any(axis=1)])
    answer = np.column_stack([answers.predicted, ~answers.predicted.any(axis=1)])
    counts = together(true, answer)
    order = [*similarity_order(counts[:-1, :-1]), len(classes)]
    true, answer, counts = true[:, order], answer[:, order], counts[np.ix_(order, order)]
    names = tuple(classes[code] for code in order[:-1])
    rows, columns = (*names, NO_LABEL), (*names, NO_ANSWER)
    support = true.sum(axis=0)
    wrong = answer & ~true  # a label that is not there, or no answer where there is a label
    image, label = np.nonzero(true)
    pair, column = np.nonzero(wrong[image])  # (true labels of all images, K + 1)
    images = _by_cell(image[pair], label[pair], column)
    right = {(one, one): np.flatnonzero(true[:, one] & answer[:, one]) for one in range(len(rows))}
    return Confusions(rows, columns, counts, support, _pairs(images, rows, columns, support), images, right)


def together(one: Bools, other: Bools) -> Ints:
    """In how many images (N) each of one (N, K) and each of other (N, L) hold, (K, L)."""
    return (one.T.astype(np.float32) @ other.astype(np.float32)).astype(np.int64)  # whole numbers below 2^24 are exact


def _by_cell(rows: Ints, true: Ints, answered: Ints) -> dict[Cell, Ints]:
    """Rows by cell, in their order."""
    if not len(rows):
        return {}
    order = np.lexsort((answered, true))  # stable
    cells = np.column_stack([true[order], answered[order]])
    starts = np.flatnonzero(np.append(True, (np.diff(cells, axis=0) != 0).any(axis=1)))
    members = np.split(rows[order], starts[1:])
    return {(i, j): found for (i, j), found in zip(cells[starts].tolist(), members, strict=True)}


def _pairs(images: Mapping[Cell, Ints], rows: Sequence[str], columns: Sequence[str], support: Ints) -> tuple[Pair, ...]:
    found = sorted(images, key=lambda cell: (-len(images[cell]), cell))[:_LISTED]
    return tuple(
        Pair(cell, rows[cell[0]], columns[cell[1]], len(images[cell]), len(images[cell]) / int(support[cell[0]]))
        for cell in found
    )
