"""What the files of one evaluation hold: metrics, a row for each image, a row for each class.

predictions.csv of one label an image has path, label, predicted, prob, label_prob, label_rank and, up to 100 classes, a
column `p:CLASS` for the probability of each. In a multi-label task it has path, labels, predicted (see `cells.joined`),
exact (1 or 0) and, up to 100 labels, a column `y:LABEL` (1 or 0) and a column `p:LABEL` for each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.calibration import Calibration, calibrated_loss
from imgkit.cells import guarded, joined
from imgkit.data.csv_text import PREDICTED, PREDICTED_SETS
from imgkit.metrics import Ints, Scored, confusion_matrix, per_class, reliability, score, summarise_scored
from imgkit.multilabel import USUAL_THRESHOLD, ScoredSets, per_label, score_sets, summarise_sets
from imgkit.probabilities import Floats, sigmoid, softmax
from imgkit.recipe.fields import Task

WIDEST = 100  # classes up to which predictions.csv has columns for each
_DIGITS = 9  # significant ones of a probability
_DIGITS_OF_SETS = 12  # so that 1 - p, which the loss takes the logarithm of, has some too
Rows = Iterable[Sequence[str]]


class Tables(NamedTuple):
    """An evaluation before it is written."""

    task: Task
    metrics: dict[str, Any]  # ready for JSON
    files: Mapping[str, Rows]  # CSV by name
    arrays: dict[str, npt.NDArray[Any]]  # of scores.safetensors
    scored: Scored | ScoredSets  # with probabilities as predictions.csv has them


def tables_of(
    paths: Sequence[str],
    targets: npt.NDArray[Any],
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    calibration: Calibration | None,
    seed: int,
    *,
    fit_loss: bool = True,
) -> Tables:
    """The tables of logits (N, K) against targets: int64 (N,), or zeros and ones (N, K) of a multi-label task.

    `loss_calibrated` is among the metrics only with `fit_loss`.

    Raises:
        DataError: if there is no image, or one without a label.
        DivergedError: if the scores are not finite.
    """
    make = _tables_of_sets if targets.ndim == 2 else _tables_of_labels
    tables = make(paths, targets, np.ascontiguousarray(logits, dtype=np.float32), classes, calibration, seed)
    if fit_loss:
        tables.metrics["loss_calibrated"] = calibrated_loss(logits, targets)
    return tables


def _tables_of_labels(
    paths: Sequence[str],
    targets: Ints,
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    calibration: Calibration | None,
    seed: int,
) -> Tables:
    wide = len(classes) <= WIDEST
    probs = softmax(logits) if calibration is None else calibration.probabilities(logits)
    probs = _as_written(probs, _DIGITS) if wide else probs
    scored = score(probs, targets)
    if not wide:
        shown = _as_written(np.stack([scored.prob, scored.label_prob], axis=1), _DIGITS)
        scored = scored._replace(prob=shown[:, 0], label_prob=shown[:, 1])
    metrics = summarise_scored(scored, classes, seed=seed)
    if calibration is not None:
        raw = reliability(score(softmax(logits), targets), len(classes))
        metrics |= {"calibration": calibration.to_dict(), "uncalibrated": raw}
    confusion = confusion_matrix(scored, len(classes))
    files = {
        "predictions.csv": _prediction_rows(paths, scored, probs if wide else None, classes),
        "per_class.csv": _class_rows(per_class(confusion, classes)),
        "confusion.csv": _confusion_rows(confusion, classes),
    }
    return Tables("single", metrics, files, {"logits": logits}, scored)


def _tables_of_sets(
    paths: Sequence[str],
    targets: npt.NDArray[np.float32],
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    calibration: Calibration | None,
    seed: int,
) -> Tables:
    wide = len(classes) <= WIDEST
    probs = sigmoid(logits) if calibration is None else calibration.probabilities(logits)
    probs = _as_written(probs, _DIGITS_OF_SETS) if wide else probs
    fitted = None if calibration is None else calibration.thresholds
    thresholds = dict.fromkeys(classes, USUAL_THRESHOLD) if fitted is None else dict(fitted)
    scored = score_sets(probs, targets, np.array([thresholds[name] for name in classes]))
    metrics = summarise_sets(scored, classes, seed=seed) | {"thresholds": thresholds}
    if calibration is not None:
        raw = score_sets(sigmoid(logits), targets)
        before = summarise_sets(raw, classes, draws=0)
        shown = {name: before[name] for name in ("loss", "ece", "brier", "f1_macro", "subset_accuracy")}
        metrics |= {"calibration": calibration.to_dict(), "uncalibrated": shown}
    files = {
        "predictions.csv": _rows_of_sets(paths, scored, classes, wide=wide),
        "per_class.csv": _class_rows(per_label(scored, classes, thresholds)),
    }
    arrays: dict[str, npt.NDArray[Any]] = {"logits": logits, "targets": scored.targets.astype(np.uint8)}
    return Tables("multilabel", metrics, files, arrays, scored)


def _prediction_rows(
    paths: Sequence[str], scored: Scored, probs: Floats | None, classes: Sequence[str]
) -> Iterator[Sequence[str]]:
    yield [*PREDICTED, *(f"p:{name}" for name in classes if probs is not None)]
    names, form = [guarded(name) for name in classes], _form(len(classes), _DIGITS)
    columns = (scored.targets, scored.predicted, scored.prob, scored.label_prob, scored.label_rank)
    for row, (path, target, predicted, prob, label_prob, rank) in enumerate(
        zip(paths, *(column.tolist() for column in columns), strict=True)
    ):
        yield [
            guarded(path),
            names[target],
            names[predicted],
            f"{prob:.{_DIGITS}g}",
            f"{label_prob:.{_DIGITS}g}",
            str(rank),
            *(() if probs is None else (form % tuple(probs[row].tolist())).split(",")),
        ]


def _rows_of_sets(
    paths: Sequence[str], scored: ScoredSets, classes: Sequence[str], *, wide: bool
) -> Iterator[Sequence[str]]:
    each = classes if wide else ()
    yield [*PREDICTED_SETS, *(f"y:{name}" for name in each), *(f"p:{name}" for name in each)]
    form, exact = _form(len(classes), _DIGITS_OF_SETS), (scored.targets == scored.predicted).all(axis=1)
    for row, path in enumerate(paths):
        labels, predicted = scored.targets[row], scored.predicted[row]
        yield [
            guarded(path),
            guarded(joined(name for name, one in zip(classes, labels, strict=True) if one)),
            guarded(joined(name for name, one in zip(classes, predicted, strict=True) if one)),
            str(int(exact[row])),
            *(map(str, labels.astype(np.int64).tolist()) if wide else ()),
            *((form % tuple(scored.probs[row].tolist())).split(",") if wide else ()),
        ]


def _class_rows(rows: Sequence[Mapping[str, str | int | float]]) -> Iterator[Sequence[str]]:
    yield list(rows[0])
    for row in rows:
        yield [guarded(cell) if isinstance(cell, str) else repr(cell) for cell in row.values()]


def _confusion_rows(confusion: Ints, classes: Sequence[str]) -> Iterator[Sequence[str]]:
    names = [guarded(name) for name in classes]
    yield ["label", *names]
    for name, counts in zip(names, confusion.tolist(), strict=True):
        yield [name, *map(str, counts)]


def _as_written(values: Floats, digits: int) -> Floats:
    """Values (N, K) as they read back from text of so many significant digits."""
    form = _form(values.shape[1], digits)
    found = np.empty_like(values)
    for row, numbers in enumerate(values):
        found[row] = [float(text) for text in (form % tuple(numbers.tolist())).split(",")]
    return found


def _form(count: int, digits: int) -> str:
    return ",".join([f"%.{digits}g"] * count)
