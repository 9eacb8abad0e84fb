"""Whether two runs differ on the same images: a paired bootstrap, McNemar's test (1947), Holm's correction (1979).

Differences are the one run minus the baseline, in fractions. F1 is scikit-learn's over the classes with support, as in
`metrics` and `multilabel`; "right" is the class of an image, or its set of labels exactly.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.metrics import DRAWS, FEWEST, Ints
from imgkit.multilabel import redraws
from imgkit.probabilities import Floats

Targets = npt.NDArray[Any]
"""The class of each image, int64 (N,), or whether it has each label, bool (N, K)."""
FEW_DISCORDANT = 25  # images that one run alone answers rightly, below which McNemar's test is exact: the usual rule
_SAME = 1e-9  # between draws that agree
_ENDS = [2.5, 97.5]


class Gap(NamedTuple):
    """A difference of two scores, and the ends of its 95 % interval; None where there is none to give."""

    value: float
    interval: tuple[float, float] | None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]


class McNemar(NamedTuple):
    """McNemar's test of whether two runs are right equally often.

    Attributes:
        gained: images that the run alone has right.
        lost: images that the baseline alone has right.
        p: two-sided.
        exact: from the binomial distribution; else chi-squared with Edwards's correction (1948).
    """

    gained: int
    lost: int
    p: float
    exact: bool


class Comparison(NamedTuple):
    """A run against a baseline on the same n images.

    Attributes:
        n: images.
        f1: difference in macro F1.
        right: difference in top-1, or in exact sets.
        test: of `right`.
        same_answers: whether both answer every image alike.
    """

    n: int
    f1: Gap
    right: Gap
    test: McNemar
    same_answers: bool


def compare(targets: Targets, base: Targets, other: Targets, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """How the answers `other` differ from those of `base`, both to the same images in the same order.

    Args:
        targets: what is true, int64 (N,) below K, or bool (N, K).
        base: what the baseline answered, in the same form.
        other: what the run answered.
        draws: of the bootstrap: both runs are scored on the same drawn images. With one label an image, one image fewer
            than a class has is drawn from those of the class and counted that much more: drawing as many would make the
            interval too narrow in small classes (Rao & Wu 1988). With sets of labels all images are drawn from all.
            The interval is the basic one (Davison & Hinkley 1997), numpy's 2.5 and 97.5 percentiles of the draws
            reflected at the difference, and moved outwards where needed to contain it. Percentiles as they are held
            the truth too seldom: differences are whole images, and few of them (tests/report/test_compare.py).
        seed: of the draws.

    There is no interval below `FEWEST` images, and where every draw is the same.
    """
    one_label = targets.ndim == 1
    found = _gaps_of_labels if one_label else _gaps_of_sets
    hits = [answer == targets if one_label else (answer == targets).all(axis=1) for answer in (base, other)]
    f1, right = found(targets, base, other, draws=draws, seed=seed)
    gap = int(hits[1].sum()) - int(hits[0].sum())
    return Comparison(
        n=len(targets),
        f1=_gap(macro_f1(targets, other) - macro_f1(targets, base), f1, len(targets)),
        right=_gap(gap / len(targets), right, len(targets)),
        test=mcnemar(int((hits[1] & ~hits[0]).sum()), int((hits[0] & ~hits[1]).sum())),
        same_answers=bool(np.array_equal(base, other)),
    )


def macro_f1(targets: Targets, answers: Targets) -> float:
    """Macro F1 of answers over the classes with support, as metrics.json has it; 0 where no label has support."""
    if targets.ndim == 1:
        classes = int(max(targets.max(), answers.max())) + 1
        support, answered = (np.bincount(part, minlength=classes) for part in (targets, answers))
        both = np.bincount(targets[targets == answers], minlength=classes)
    else:
        support, answered, both = (part.sum(axis=0) for part in (targets, answers, targets & answers))
    kept = support > 0
    return float((2 * both[kept] / (support + answered)[kept]).mean()) if kept.any() else 0.0


def mcnemar(gained: int, lost: int) -> McNemar:
    """McNemar's test of discordant images: exact where they are fewer than `FEW_DISCORDANT`; p = 1 without any."""
    from scipy.stats import binomtest, chi2

    discordant = gained + lost
    if discordant >= FEW_DISCORDANT:
        statistic = max(0, abs(gained - lost) - 1) ** 2 / discordant
        return McNemar(gained, lost, float(chi2.sf(statistic, 1)), exact=False)
    p = float(binomtest(gained, discordant).pvalue) if discordant else 1.0
    return McNemar(gained, lost, p, exact=True)


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the given order, at most 1."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    corrected, least = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = least
    return corrected


def _gap(value: float, drawn: Floats, n: int) -> Gap:
    told = drawn[~np.isnan(drawn)]
    if n < FEWEST or not len(told) or np.ptp(told) < _SAME:
        return Gap(value, None)
    low, high = np.percentile(told, _ENDS)
    return Gap(value, (min(2 * value - float(high), value), max(2 * value - float(low), value)))


def _gaps_of_labels(targets: Ints, base: Ints, other: Ints, *, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Differences (draws,) in macro F1 and in the share of right answers, drawn within each class.

    With `rng = numpy.random.default_rng(seed)`, for each class with support in order, the counts of its pairs of
    answers (the base's, the other's) in order: `rng.multinomial(max(1, support - 1), counts / support, size=draws)`,
    scaled so that the class keeps its support.
    """
    classes = int(max(part.max() for part in (targets, base, other))) + 1
    support = np.bincount(targets, minlength=classes)
    hits, answered = (np.zeros((2, classes, draws)) for _ in range(2))  # of base and other
    rng = np.random.default_rng(seed)
    by_class = np.split(np.argsort(targets, kind="stable"), np.cumsum(support)[:-1])
    for label in np.flatnonzero(support):
        images = by_class[label]
        pairs, counts = np.unique(base[images] * classes + other[images], return_counts=True)
        size = max(1, support[label] - 1)
        drawn = rng.multinomial(size, counts / support[label], size=draws).T * (support[label] / size)  # (pairs, draws)
        for times, pair in zip(drawn, pairs.tolist(), strict=True):
            for run, answer in enumerate(divmod(pair, classes)):
                answered[run, answer] += times
                if answer == label:
                    hits[run, answer] += times
    kept = support > 0
    f1 = (2 * hits[:, kept] / (support[kept, None] + answered[:, kept])).mean(axis=1)  # (2, draws)
    right = hits.sum(axis=1) / len(targets)
    return f1[1] - f1[0], right[1] - right[0]


def _gaps_of_sets(
    targets: npt.NDArray[np.bool_],
    base: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    *,
    draws: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """The same for sets of labels, with the draws of `multilabel.redraws`; NaN where a draw has no label."""
    from scipy.sparse import csr_matrix

    n = len(targets)
    # Labels of an image are few: (draws, N) @ sparse (N, K) is far below the dense product.
    parts = [csr_matrix(part.astype(np.int64)) for part in (targets, base, targets & base, other, targets & other)]
    exact = [(answer == targets).all(axis=1).astype(np.int64) for answer in (base, other)]
    f1, right = np.empty(draws), np.empty(draws)
    for start, times in redraws(n, draws, seed):
        support, *counts = (_product(times, part) for part in parts)  # (block, K) each
        rows = slice(start, start + len(times))
        one, two = (_means(both, support, answered) for answered, both in (counts[:2], counts[2:]))
        f1[rows] = two - one
        right[rows] = (times @ exact[1] - times @ exact[0]) / n
    return f1, right


def _product(times: Ints, part: Any) -> Ints:  # noqa: ANN401 - scipy has no types
    return np.asarray((part.T @ times.T).T)


def _means(both: Ints, support: Ints, answered: Ints) -> Floats:
    """Macro F1 (block,) over the labels with support; NaN where there is none."""
    kept = support > 0
    f1 = np.divide(2 * both, support + answered, out=np.zeros(both.shape), where=kept)
    many = kept.sum(axis=1)
    found: Floats = np.divide(f1.sum(axis=1), many, out=np.full(len(both), np.nan), where=many > 0)
    return found
