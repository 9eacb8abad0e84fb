"""Weights against imbalance, from the number of training images of each class; or from a file, by name.

The formulas are those of timm.loss.compute_class_weights, which needs torch; tests hold the two equal. They differ in
scale: here the mean weight over training images is 1, so that a rate means the same with and without weights.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.data.index import Index
from imgkit.data.rows import listed
from imgkit.errors import RecipeError, printable, suggestion
from imgkit.recipe.losses import CLASS_RULES, POSITIVE_RULES, Bce, ClassWeighted, LogitAdjusted, LossSettings
from imgkit.recipe.plan import PhasePlan, Plan

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SHOWN = 12  # classes of which each weight is on the screen


def class_weights(counts: npt.ArrayLike, rule: str, *, beta: float = 0.999) -> Floats:
    """The weight of each class's images, float64 (K,); their mean over the images is 1.

    A class without images counts as one that has one.

    Args:
        counts: training images of each class, (K,), at least one image in all.
        rule: "none"; "inverse", 1 / n; "sqrt", 1 / sqrt(n); "effective", (1 - beta) / (1 - beta**n), one over the
            effective number of images (Cui et al. 2019).
        beta: in (0, 1); near 0, "effective" weighs all classes alike, near 1, it is "inverse".
    """
    n: Floats = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    if rule == "none":
        return np.ones_like(n)
    if rule == "effective":
        return normalised((1.0 - beta) / -np.expm1(n * math.log(beta)), counts)
    assert rule in CLASS_RULES, rule
    return normalised(n ** (-1.0 if rule == "inverse" else -0.5), counts)


def normalised(weights: Floats, counts: npt.ArrayLike) -> Floats:
    """`weights` (K,) times what makes their mean over the images of `counts` (K,) 1."""
    images = np.asarray(counts, dtype=np.float64)
    return weights * float(images.sum() / (weights * images).sum())


def positive_weights(counts: npt.ArrayLike, images: int, rule: str) -> Floats:
    """What multiplies the loss of a label where an image has it, float64 (K,).

    A label that no image has, or that every image has, counts as if one had it, or lacked it.

    Args:
        counts: training images with each label, (K,).
        images: training images, at least 1.
        rule: "none"; "neg_pos", images without the label over images with it; "sqrt", the root of that.
    """
    n: Floats = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    if rule == "none":
        return np.ones_like(n)
    assert rule in POSITIVE_RULES, rule
    ratio: Floats = np.maximum(images - n, 1.0) / n
    return ratio if rule == "neg_pos" else np.sqrt(ratio)


def log_shares(counts: npt.ArrayLike) -> Floats:
    """Log of each class's share of the training images, float64 (K,); 0 for a class without images.

    With that 0 an adjusted loss pushes such a class down like any other, and nothing raises it.

    Args:
        counts: training images of each class, (K,), at least one image in all.
    """
    n: Floats = np.asarray(counts, dtype=np.float64)
    return np.log(np.where(n > 0, n / n.sum(), 1.0))


def logit_shifts(plan: Plan, index: Index) -> dict[str, dict[str, float]]:
    """By how much an adjusted loss raises the logits of each class: class name to shift, by the phase's name."""
    found = {}
    for phase in plan.phases:
        if isinstance(phase.loss, LogitAdjusted):
            shifts: Floats = -phase.loss.tau * log_shares(index.counts("train"))
            found[phase.name] = dict(zip(index.classes, shifts.tolist(), strict=True))
    return found


def loss_weights(plan: Plan, index: Index) -> dict[str, dict[str, float]]:
    """The weights of each phase that has some: class name to weight, by the phase's name.

    Those of `class_weights` weigh images by their class, and the images of a solved head, too. Those of `pos_weight`
    weigh labels that are there.

    Raises:
        RecipeError: if a file of weights cannot be used.
    """
    found = {phase.name: _phase_weights(phase, index) for phase in plan.phases}
    return {
        phase: dict(zip(index.classes, weights.tolist(), strict=True))
        for phase, weights in found.items()
        if weights is not None
    }


def _phase_weights(phase: PhasePlan, index: Index) -> Floats | None:
    loss, counts = phase.loss, index.counts("train")
    if index.task == "single" and isinstance(loss, ClassWeighted) and loss.class_weights != "none":
        rule = loss.class_weights
        if rule in CLASS_RULES:
            return class_weights(counts, rule, beta=loss.class_weights_beta)
        return normalised(read_weights(Path(rule), index.classes, "loss.class_weights"), counts)
    if index.task == "multilabel" and isinstance(loss, Bce) and loss.pos_weight != "none" and phase.lr is not None:
        rule = loss.pos_weight
        if rule in POSITIVE_RULES:
            return positive_weights(counts, len(index.rows("train")), rule)
        return read_weights(Path(rule), index.classes, "loss.pos_weight")
    return None


def weights_lines(weights: Mapping[str, float] | None) -> list[str]:
    """`weights: cat 0.667, dog 2`, a line of the plan; of many classes, the smallest and the largest."""
    if weights is None:
        return []
    if len(weights) <= _SHOWN:
        return ["  weights: " + ", ".join(f"{printable(name)} {weight:.3g}" for name, weight in weights.items())]
    low, high = min(weights, key=lambda name: weights[name]), max(weights, key=lambda name: weights[name])
    return [
        f"  weights: from {weights[low]:.3g} ({printable(low)}) to {weights[high]:.3g} ({printable(high)}), "
        f"{len(weights):,} classes"
    ]


def check_weights(loss: LossSettings) -> None:
    """See that the file of weights that a loss names holds weights; the classes are compared when the data are known.

    Raises:
        RecipeError: if it does not.
    """
    if isinstance(loss, ClassWeighted) and loss.class_weights not in CLASS_RULES:
        _read(Path(loss.class_weights), "loss.class_weights")
    if isinstance(loss, Bce) and loss.pos_weight not in POSITIVE_RULES:
        _read(Path(loss.pos_weight), "loss.pos_weight")


def read_weights(file: Path, classes: Sequence[str], key: str) -> Floats:
    """The weights of a file, float64 (K,) in the order of `classes`, as they are written.

    Args:
        file: JSON, an object of class name to number; or CSV, a line class,weight and one line a class.
        classes: names; each has one weight in the file, and the file has no other.
        key: the recipe key that names the file, for messages.

    Raises:
        RecipeError: if the file cannot be read or is not such a table, a class is missing, unknown or written twice,
            or a weight is not above 0.
    """
    found = _read(file, key)
    _check_names(found, classes, _shown(file, key))
    return np.array([found[name] for name in classes], dtype=np.float64)


def _shown(file: Path, key: str) -> str:
    return f"{key} = {printable(str(file))!r}"


def _read(file: Path, key: str) -> dict[str, float]:
    shown = _shown(file, key)
    try:
        text = file.read_text(encoding="utf-8-sig")
        pairs = _json_pairs(text) if file.suffix == ".json" else _csv_pairs(text)
    except OSError as error:
        raise RecipeError(f"{shown}: the file cannot be read: {error.strerror}.", "Give the path of a file.") from None
    except ValueError as error:
        raise RecipeError(
            f"{shown}: {error}.", 'JSON: {"cat": 1.0, "dog": 2.5}; CSV: a line class,weight and one line a class.'
        ) from None
    return _by_name(pairs, shown)


def _json_pairs(text: str) -> list[tuple[str, object]]:
    pairs = json.loads(text, object_pairs_hook=list)
    if not (isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs)):
        raise ValueError("the file holds no JSON object")
    return pairs


def _csv_pairs(text: str) -> list[tuple[str, object]]:
    try:
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except csv.Error as error:
        raise ValueError(f"the file is no CSV ({error})") from None
    if rows[:1] != [["class", "weight"]]:
        raise ValueError("the first line is not class,weight")
    if odd := [row for row in rows if len(row) != 2]:
        raise ValueError(f"the line {','.join(odd[0])!r} has not two columns")
    return [(name, weight) for name, weight in rows[1:]]


def _by_name(pairs: Sequence[tuple[str, object]], shown: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, weight in pairs:
        number = _number(weight)
        if not (math.isfinite(number) and number > 0):
            raise RecipeError(
                f"{shown}: the weight of {printable(name)!r} is {printable(str(weight))!r}.",
                "A weight is a number above 0.",
            )
        if name in found:
            raise RecipeError(f"{shown}: {printable(name)!r} is written twice.", "Keep one of them.")
        found[name] = number
    return found


def _number(cell: object) -> float:
    """A weight of a file as a number; not-a-number where it is none."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return math.nan
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return math.nan


def _check_names(found: Mapping[str, float], classes: Sequence[str], shown: str) -> None:
    unknown = [name for name in found if name not in set(classes)]
    missing = [name for name in classes if name not in found]
    if unknown:
        raise RecipeError(
            f"{shown}: the data have no class {listed(unknown)}{suggestion(unknown[0], missing)}.",
            "Names are those of the classes, letter for letter; imgkit data check lists them.",
        )
    if missing:
        raise RecipeError(f"{shown}: there is no weight for {listed(missing)}.", "Give each class one; 1 is neutral.")
