"""How well each class is known, with intervals: the rows of a page's table of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgkit.cells import bare
from imgkit.metrics import Ints, per_class, shares, wilson
from imgkit.report.confusions import together
from imgkit.report.stored import AnswersOfSets, Stored, table

Ends = tuple[float, float]


@dataclass(frozen=True)
class ClassScore:
    """One class or label; shares in [0, 1], 0 where the denominator is 0.

    Args:
        name: of the class.
        support: images that have it.
        predicted: images for which it was answered.
        precision: share of the answers that are right.
        recall: share of the images that were found.
        f1: their harmonic mean.
        interval: 95 % of F1, see `f1_interval`; None where no image has the class and none was answered so.
        confused_with: what most of its images that were missed were taken for; "" where there is none.
        confused: how many.
        ap: average precision, of a label.
        threshold: from which on a label is answered.
    """

    name: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float
    interval: Ends | None
    confused_with: str = ""
    confused: int = 0
    ap: float | None = None
    threshold: float | None = None


def f1_interval(hits: int, support: int, predicted: int) -> Ends | None:
    """95 % of the F1 of one class, from its counts: right answers, images that have it, answers.

    With h hits, m misses and f false answers F1 = 2h / (2h + m + f), and J = h / (h + m + f) gives F1 = 2J / (1 + J).
    Its derivative 2 / (1 + J)^2 is positive: ends that hold J hold F1. Of the images that have the class or were
    answered so, each is a hit with the same probability, so J is a binomial share, and the ends are those of Wilson's
    interval (1927) of J. That is the "indirect" method of Lam, Gopal & Qian (2023), "Confidence Intervals for the F1
    Score: A Comparison of Four Methods", arXiv:2309.14621. A bootstrap says nothing of a class without a mistake, and
    too little of one with few images; this keeps to 95 % there.

    None where no image has the class and none was answered so.
    """
    either = support + predicted - hits
    if not either:
        return None
    low, high = (2 * end / (1 + end) for end in wilson(hits, either))
    return low, high


def class_scores(stored: Stored) -> list[ClassScore]:
    """A row a class, in the order of the run's classes.

    Raises:
        OSError, ValueError, KeyError: if a table of the evaluation cannot be read.
    """
    answers = stored.answers
    if isinstance(answers, AnswersOfSets):
        return _of_labels(stored, answers)
    return _of_classes(answers.confusion(len(stored.classes)), stored.classes)


def _of_classes(confusion: Ints, classes: Sequence[str]) -> list[ClassScore]:
    hits = np.diagonal(confusion)
    return [
        ClassScore(
            name=str(row["class"]),
            support=int(row["support"]),
            predicted=int(row["predicted"]),
            precision=float(row["precision"]),
            recall=float(row["recall"]),
            f1=float(row["f1"]),
            interval=f1_interval(int(hits[code]), int(row["support"]), int(row["predicted"])),
            confused_with=str(row["most_confused_with"]),
            confused=int(row["confused"]),
        )
        for code, row in enumerate(per_class(confusion, classes))
    ]


def _of_labels(stored: Stored, answers: AnswersOfSets) -> list[ClassScore]:
    """Average precision is that of per_class.csv: it needs probabilities, which predictions.csv has of few labels."""
    hits, support, predicted = (
        part.sum(axis=0) for part in (answers.targets & answers.predicted, answers.targets, answers.predicted)
    )
    found = shares(hits, support, predicted)
    rows = table(stored.folder / "per_class.csv")
    header = next(rows)
    ap, name = header.index("ap"), header.index("class")
    ap_of = {bare(row[name]): float(row[ap]) for row in rows}
    worst, many = _taken_for(answers)
    return [
        ClassScore(
            name=label,
            support=int(support[code]),
            predicted=int(predicted[code]),
            precision=float(found.precision[code]),
            recall=float(found.recall[code]),
            f1=float(found.f1[code]),
            interval=f1_interval(int(hits[code]), int(support[code]), int(predicted[code])),
            confused_with=stored.classes[worst[code]] if many[code] else "",
            confused=int(many[code]),
            ap=ap_of[label] if support[code] else None,
            threshold=float(stored.metrics["thresholds"][label]),
        )
        for code, label in enumerate(stored.classes)
    ]


def _taken_for(answers: AnswersOfSets) -> tuple[Ints, Ints]:
    """Of the images where a label was missed: the label that was most often answered wrongly, and how often, (K,)."""
    found = together(answers.targets & ~answers.predicted, ~answers.targets & answers.predicted)
    return found.argmax(axis=1), found.max(axis=1, initial=0)
