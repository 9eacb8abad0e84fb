"""Compute an evaluation's numbers again from its predictions.csv, with pandas and scikit-learn and without imgkit.

    python benchmarks/recompute_metrics.py runs/NAME/evaluations/test@53

compares every metric of metrics.json, and per_class.csv and confusion.csv cell by cell. Exit 0: all equal (floats to
1e-9); 1: a difference, listed; 2: wrong usage. For up to 100 classes the predictions and ranks are computed again from
the classes' probabilities, and these from the logits in scores.safetensors and the temperature (to 1e-8, since they are
rounded); above that predictions.csv has no such columns, the ranks are taken as they stand, and the Brier score, and
everything of a multi-label task, comes from the logits. What `uncalibrated` says always comes from the logits.
The bootstrap's draws follow the recipes in imgkit/metrics.py and imgkit/multilabel.py (seed and number in metrics.json)
and need NumPy's same generator, hence the same NumPy series.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from scipy.special import logsumexp
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    hamming_loss,
    precision_recall_fscore_support,
)

SCORES = ("precision", "recall", "f1")


def read_csv(file: Path) -> pd.DataFrame:
    """All cells as text, an apostrophe before a would-be formula taken off."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    table.columns = [bare(name) for name in table.columns]
    return table.map(bare)


def bare(cell: str) -> str:
    return re.sub(r"\A'(?='*[=+\-@\t\r])", "", cell)


class Comparison:
    """Counts what was compared and keeps what differed."""

    def __init__(self) -> None:
        self.count = 0
        self.different: list[str] = []

    def check(self, name: str, written: object, computed: object) -> None:
        self.count += 1
        if isinstance(written, int | float) and isinstance(computed, int | float):
            same = math.isclose(written, computed, rel_tol=1e-9, abs_tol=1e-9)
        else:
            same = written == computed
        if not same:
            self.different.append(f"{name}: written {written!r}, computed {computed!r}")

    def check_all(self, name: str, written: object, computed: dict[str, Any]) -> None:
        for key, value in computed.items():
            where = f"{name}{key}"
            if not isinstance(written, dict) or key not in written:
                self.check(where, "(missing)", value)
            elif isinstance(value, dict):
                self.check_all(f"{where}.", written[key], value)
            elif isinstance(value, list) and isinstance(written[key], list) and len(value) == len(written[key]):
                for place, (one, other) in enumerate(zip(written[key], value, strict=True)):
                    self.check(f"{where}[{place}]", one, other)
            else:
                self.check(where, written[key], value)


def check_rows(table: pd.DataFrame, classes: list[str], result: Comparison) -> None:
    """The columns label_prob, label_rank, predicted and prob, against the classes' probabilities."""
    scores = table[[f"p:{name}" for name in classes]].astype(float).to_numpy().tolist()
    for row, (label, predicted, prob, label_prob, rank) in enumerate(
        zip(*(table[name] for name in ("label", "predicted", "prob", "label_prob", "label_rank")), strict=True)
    ):
        line, own = scores[row], classes.index(label)
        best = line.index(max(line))  # the first of equal ones
        earlier = sum(value > line[own] or (value == line[own] and c < own) for c, value in enumerate(line))
        where = f"predictions.csv row {row + 2} "
        result.check(where + "predicted", predicted, classes[best])
        result.check(where + "prob", float(prob), line[best])
        result.check(where + "label_prob", float(label_prob), line[own])
        result.check(where + "label_rank", int(rank), 1 + earlier)


def wilson(share: float, n: float) -> list[float]:
    z = 1.959963984540054
    root = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ends = [(share + z * z / (2 * n) + sign * root) / (1 + z * z / n) for sign in (-1, 1)]
    return [max(0.0, ends[0]), min(1.0, ends[1])]


def interval(value: float, variance: float, bias: float) -> list[float]:
    """Wilson's around value - bias, of as many images as give a share of `value` that variance."""
    low, high = wilson(min(max(value - bias, 0), 1), value * (1 - value) / variance)
    return [min(low, value), max(high, value)]


def bootstrap(counts: np.ndarray, value: float, draws: int, seed: int) -> list[float] | None:
    """Redraw each class's images from its smoothed row of the confusion matrix, one F1 after another."""
    if counts.sum() < 30 or value in (0, 1):
        return None
    rng, classes = np.random.default_rng(seed), range(len(counts))
    support = [int(row.sum()) for row in counts]
    kept = [c for c in classes if support[c]]
    likely = (sum(counts[c, c] / support[c] for c in kept) + 0.5) / (len(kept) + 1)
    hits, guessed = np.zeros((draws, len(counts))), np.zeros((draws, len(counts)))
    for c in kept:
        wrong = [other for other in classes if counts[c, other] and other != c]
        extra, size = (1 if counts[c, c] else 3), max(1, support[c] - 1)
        weights = [counts[c, c] + extra * likely, *(counts[c, other] for other in wrong), extra * (1 - likely)]
        drawn = rng.multinomial(size, np.array(weights) / (support[c] + extra), size=draws) * (support[c] / size)
        hits[:, c] = drawn[:, 0]
        guessed[:, c] += drawn[:, 0]
        for place, other in enumerate(wrong):
            guessed[:, other] += drawn[:, 1 + place]
        for other in classes:
            if other != c:
                guessed[:, other] += drawn[:, -1] / (len(counts) - 1)
    scores = [np.mean([2 * hits[draw, c] / (support[c] + guessed[draw, c]) for c in kept]) for draw in range(draws)]
    if np.std(scores) < 1e-9:
        return None
    middle = np.mean([2 * hits[:, c].mean() / (support[c] + guessed[:, c].mean()) for c in kept])
    return interval(value, float(np.var(scores)), float(np.mean(scores) - middle))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Over 15 bins: the share of answers in each, times how far mean confidence and the share of right ones differ."""
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        inside |= (confidence == 0) & (number == 0)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(total)


def brier(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance from the truth, probs (N, K) and labels (N,); half of it for two classes."""
    distance = np.square(probs - np.eye(probs.shape[1])[labels]).sum(axis=1).mean()
    return float(distance / (2 if probs.shape[1] == 2 else 1))


def metrics_of(table: pd.DataFrame, classes: list[str], probs: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """Every number of metrics.json that follows from predictions.csv; for the Brier score with probs (N, K)."""
    label, guess = table["label"], table["predicted"]
    support = label.value_counts()
    present = [name for name in classes if name in support.index]
    k, n = min(5, len(classes)), len(table)
    own = table["label_prob"].astype(float).clip(lower=sys.float_info.min)
    found: dict[str, Any] = {
        "n": n,
        "classes": len(classes),
        "classes_with_support": len(present),
        "classes_without_support": [name for name in classes if name not in present],
        "loss": float((-np.log(own)).mean()),
        "ece": calibration_error(table["prob"].astype(float).to_numpy(), (label == guess).to_numpy()),
        "brier": brier(probs, np.array([classes.index(name) for name in label])),
        "top1": float(accuracy_score(label, guess)),
        "k": k,
        "topk": float((table["label_rank"].astype(int) <= k).mean()),
    }
    for mean in ("macro", "micro", "weighted"):
        values = precision_recall_fscore_support(label, guess, labels=present, average=mean, zero_division=0)
        found |= {f"{name}_{mean}": float(value) for name, value in zip(SCORES, values[:3], strict=True)}
    largest = max(present, key=lambda name: support[name])
    found["chance"] = {
        "uniform": 1 / len(classes),
        "majority": float(support[largest] / n),
        "majority_class": largest,
    }
    counts = confusion_matrix(label, guess, labels=classes)
    macro = float(f1_score(label, guess, labels=present, average="macro", zero_division=0))
    found["intervals"] = {"top1": wilson(found["top1"], n), "f1_macro": bootstrap(counts, macro, draws, seed)}
    return found


def check_tables(folder: Path, table: pd.DataFrame, classes: list[str], result: Comparison) -> None:
    """per_class.csv and confusion.csv, cell by cell."""
    counts = confusion_matrix(table["label"], table["predicted"], labels=classes)
    written = read_csv(folder / "confusion.csv")
    result.check("confusion.csv columns", list(written.columns), ["label", *classes])
    result.check("confusion.csv labels", list(written.iloc[:, 0]), classes)
    if written.shape == (len(classes), len(classes) + 1):
        cells = written.iloc[:, 1:].astype(int).to_numpy()
        for c, other in np.ndindex(*counts.shape):
            result.check(
                f"confusion.csv {classes[c]!r} as {classes[other]!r}", int(cells[c, other]), int(counts[c, other])
            )

    rows = read_csv(folder / "per_class.csv")
    result.check("per_class.csv classes", list(rows["class"]), classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        table["label"], table["predicted"], labels=classes, average=None, zero_division=0
    )
    for c, line in enumerate(rows.to_dict("records")[: len(classes)]):
        mistakes = [(count, -other) for other, count in enumerate(counts[c]) if other != c and count]
        most, other = max(mistakes, default=(0, 0))
        computed = {
            "support": support[c],
            "predicted": counts[:, c].sum(),
            "precision": precision[c],
            "recall": recall[c],
            "f1": f1[c],
            "confused": most,
        }
        for key, value in computed.items():
            result.check(f"per_class.csv {classes[c]!r} {key}", float(line[key]), float(value))
        result.check(
            f"per_class.csv {classes[c]!r} most_confused_with",
            line["most_confused_with"],
            classes[-other] if most else "",
        )


def uncalibrated(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What metrics.json says of the plain probabilities, from logits (N, K) and labels (N,)."""
    probs = softmax(logits)
    own = np.maximum(probs[np.arange(len(labels)), labels], sys.float_info.min)
    right = probs.argmax(axis=1) == labels
    error = calibration_error(probs.max(axis=1), right)
    return {"loss": float(-np.log(own).mean()), "ece": error, "brier": brier(probs, labels)}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).mean())


def least_loss(loss: Callable[[float], float]) -> float:
    """The smallest loss(T) of temperatures T from 0.1 to 10, of which there is one: by golden sections."""
    low, high = 0.1, 10.0
    for _ in range(200):  # in 1 / T, in which the loss is convex
        width = 0.381966011250105 * (high - low)
        if loss(1 / (low + width)) <= loss(1 / (high - width)):
            high -= width
        else:
            low += width
        if high - low < 1e-7:
            break
    return min(loss(2 / (low + high)), loss(1.0), loss(0.1), loss(10.0))


def check_probabilities(written: np.ndarray, computed: np.ndarray, result: Comparison) -> None:
    """Those of predictions.csv against those of the logits, to the digits that are written."""
    worst = np.abs(written - computed).max(initial=0.0)
    result.check("predictions.csv probabilities, furthest from those of the logits", bool(worst < 1e-8), True)


def fits_loss(written: dict[str, Any]) -> bool:
    """Whether metrics.json has to have loss_calibrated: evaluations during training lack it where nothing needs it."""
    return "calibration" in written or "loss_calibrated" in written


def compare(folder: Path) -> Comparison:
    result = Comparison()
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    table, scores = read_csv(folder / "predictions.csv"), load_file(folder / "scores.safetensors")
    logits = scores["logits"].astype(np.float64)
    temperature = written.get("calibration", {}).get("temperature", 1.0)
    drawn = written.get("bootstrap", {})
    draws, seed = int(drawn.get("draws", 2000)), int(drawn.get("seed", 0))
    classes = [name[2:] for name in table.columns if name.startswith("p:")]
    if written["task"] == "multilabel":
        compare_sets(folder, table, written, logits, scores["targets"], result)
        return result
    probs = softmax(logits / temperature)
    if classes:
        shown = table[[f"p:{name}" for name in classes]].astype(float).to_numpy()
        check_probabilities(shown, probs, result)
        probs = shown
        check_rows(table, classes, result)
    else:
        classes = list(read_csv(folder / "confusion.csv").columns[1:])
    computed = metrics_of(table, classes, probs, draws, seed)
    labels = np.array([classes.index(name) for name in table["label"]])
    if fits_loss(written):
        computed["loss_calibrated"] = least_loss(lambda t: cross_entropy(logits / t, labels))
    if "calibration" in written:
        computed["uncalibrated"] = uncalibrated(logits, labels)
    result.check_all("metrics.json ", written, computed)
    check_tables(folder, table, classes, result)
    return result


# --- several labels an image ---------------------------------------------------------------------------------------


def sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def shares_of_sets(truth: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 over the labels with support."""
    kept = truth.any(axis=0)
    one, other = truth[:, kept].astype(int), answers[:, kept].astype(int)
    if kept.sum() == 1:  # scikit-learn would take it for two classes
        one, other = np.repeat(one, 2, axis=1), np.repeat(other, 2, axis=1)
    found: dict[str, float] = {}
    for mean in ("macro", "micro", "weighted", "samples"):
        values = (0.0, 0.0, 0.0)
        if kept.any():
            values = precision_recall_fscore_support(one, other, average=mean, zero_division=0)[:3]
        found |= {f"{name}_{mean}": float(value) for name, value in zip(SCORES, values, strict=True)}
    return found


def reliability_of_sets(truth: np.ndarray, probs: np.ndarray) -> dict[str, float]:
    near = np.clip(probs, 1e-12, 1 - 1e-12)
    return {
        "loss": float(-np.where(truth, np.log(near), np.log(1 - near)).mean()),
        "ece": calibration_error(probs.ravel(), truth.ravel()),
        "brier": float(np.square(probs - truth).mean()),
    }


def average_precision(truth: np.ndarray, probs: np.ndarray) -> float:
    """Of one label: precision at each level of probability, times the recall gained there."""
    order = np.argsort(-probs, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probs[order])), len(probs) - 1)
    hits = truth[order].cumsum()[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / truth.sum())


def bootstrap_of_sets(
    truth: np.ndarray, answers: np.ndarray, probs: np.ndarray, values: dict[str, float], drawn: dict[str, int]
) -> dict[str, list[float] | None]:
    """Images drawn again, one draw after another; a label that none of them has keeps its value."""
    n, rng = len(truth), np.random.default_rng(drawn["seed"])
    if n < 30 or not truth.any():
        return {"f1_macro": None, "map": None}
    kept = np.flatnonzero(truth.any(axis=0))
    truth, answers, probs = truth[:, kept], answers[:, kept], probs[:, kept]

    def f1(y: np.ndarray, p: np.ndarray) -> float:
        return 2 * (y & p).sum() / (y.sum() + p.sum())

    labels = range(len(kept))
    each = {
        "f1_macro": [f1(truth[:, k], answers[:, k]) for k in labels],
        "map": [average_precision(truth[:, k], probs[:, k]) for k in labels],
    }
    found: dict[str, list[float]] = {"f1_macro": [], "map": []}
    for draw in range(drawn["draws"]):
        rows = rng.integers(0, n, size=n)
        y, p = truth[rows], answers[rows]
        found["f1_macro"].append(
            np.mean([f1(y[:, k], p[:, k]) if y[:, k].any() else each["f1_macro"][k] for k in labels])
        )
        if draw < drawn["map_draws"]:
            told = [average_precision(y[:, k], probs[rows, k]) if y[:, k].any() else each["map"][k] for k in labels]
            found["map"].append(np.mean(told))
    support, answered = truth.sum(axis=0), answers.sum(axis=0)
    moved = {"f1_macro": 2 / (support + answered), "map": 1 / support}
    ends: dict[str, list[float] | None] = {}
    for name, numbers in found.items():
        likely = (sum(each[name]) + 0.5) / (len(kept) + 1)
        unseen = likely * (1 - likely) * float((moved[name] ** 2).sum()) / len(kept) ** 2
        none = np.std(numbers) < 1e-9 or not 0 < values[name] < 1
        bias = float(np.mean(numbers) - np.mean(each[name]))
        ends[name] = None if none else interval(values[name], float(np.var(numbers)) + unseen, bias)
    return ends


def chance_of_sets(truth: np.ndarray, classes: list[str]) -> dict[str, Any]:
    counts: dict[tuple[bool, ...], int] = {}
    for row in sorted(map(tuple, truth.tolist())):
        counts[row] = counts.get(row, 0) + 1
    most = max(counts, key=lambda row: counts[row])  # the first of equal ones
    share = truth.mean(axis=0)
    kept = share[share > 0]
    return {
        "set": [name for name, one in zip(classes, most, strict=True) if one],
        "subset_accuracy": counts[most] / len(truth),
        "hamming": float(np.minimum(share, 1 - share).mean()),
        "map": float(kept.mean()) if len(kept) else 0.0,
        "f1_macro": float((2 * kept / (1 + kept)).mean()) if len(kept) else 0.0,
    }


def metrics_of_sets(
    truth: np.ndarray, probs: np.ndarray, least: np.ndarray, classes: list[str], drawn: dict[str, int]
) -> dict[str, Any]:
    """Every number of metrics.json, from truth and probs (N, K) and the thresholds (K,)."""
    answers, n = probs >= least, len(truth)
    kept = np.flatnonzero(truth.any(axis=0))
    exact = float(accuracy_score(truth, answers)) if truth.shape[1] > 1 else float((truth == answers).mean())
    found: dict[str, Any] = {
        "n": n,
        "classes": len(classes),
        "classes_with_support": len(kept),
        "classes_without_support": [name for k, name in enumerate(classes) if k not in kept],
        "cardinality": float(truth.sum() / n),
        "empty": float((truth.sum(axis=1) == 0).mean()),
        **reliability_of_sets(truth, probs),
        "map": float(np.mean([average_precision_score(truth[:, k], probs[:, k]) for k in kept])) if len(kept) else 0.0,
        "subset_accuracy": exact,
        "hamming": float(hamming_loss(truth, answers)),
        **shares_of_sets(truth, answers),
        "chance": chance_of_sets(truth, classes),
    }
    found["intervals"] = {"subset_accuracy": wilson(exact, n)}
    found["intervals"] |= bootstrap_of_sets(truth, answers, probs, found, drawn)
    return found


def compare_sets(
    folder: Path,
    table: pd.DataFrame,
    written: dict[str, Any],
    logits: np.ndarray,
    targets: np.ndarray,
    result: Comparison,
) -> None:
    """metrics.json, predictions.csv and per_class.csv of a multi-label task."""
    classes, truth = list(written["thresholds"]), targets.astype(bool)
    least = np.array(list(written["thresholds"].values()))
    calibration = written.get("calibration")
    probs = sigmoid(logits / (calibration["temperature"] if calibration else 1.0))
    if f"p:{classes[0]}" in table.columns:
        shown = table[[f"p:{name}" for name in classes]].astype(float).to_numpy()
        check_probabilities(shown, probs, result)
        probs = shown
        truth = table[[f"y:{name}" for name in classes]].astype(int).to_numpy().astype(bool)
        result.check("predictions.csv y: as in scores.safetensors", bool((truth == targets.astype(bool)).all()), True)
    answers = probs >= least
    for row, (labels, predicted, exact) in enumerate(
        zip(table["labels"], table["predicted"], table["exact"], strict=True)
    ):
        where = f"predictions.csv row {row + 2} "
        result.check(where + "labels", labels, "|".join(np.array(classes, dtype=object)[truth[row]]))
        result.check(where + "predicted", predicted, "|".join(np.array(classes, dtype=object)[answers[row]]))
        result.check(where + "exact", exact, str(int((truth[row] == answers[row]).all())))
    computed = metrics_of_sets(truth, probs, least, classes, written["bootstrap"])
    if fits_loss(written):
        computed["loss_calibrated"] = least_loss(
            lambda t: float((np.logaddexp(0, logits / t) - truth * logits / t).mean())
        )
    if calibration:
        plain = sigmoid(logits)
        half = plain >= 0.5
        computed["uncalibrated"] = reliability_of_sets(truth, plain) | {
            "f1_macro": shares_of_sets(truth, half)["f1_macro"],
            "subset_accuracy": float((truth == half).all(axis=1).mean()),
        }
        result.check("metrics.json calibration.thresholds", calibration["thresholds"], written["thresholds"])
    result.check_all("metrics.json ", written, computed)

    rows = read_csv(folder / "per_class.csv")
    result.check("per_class.csv classes", list(rows["class"]), classes)
    for k, line in enumerate(rows.to_dict("records")[: len(classes)]):
        values = precision_recall_fscore_support(
            truth[:, k], answers[:, k], labels=[True], average="macro", zero_division=0
        )
        expected = {"support": truth[:, k].sum(), "predicted": answers[:, k].sum(), "threshold": least[k]}
        expected |= dict(zip(SCORES, values[:3], strict=True))
        expected["ap"] = average_precision_score(truth[:, k], probs[:, k]) if truth[:, k].any() else 0.0
        for key, value in expected.items():
            result.check(f"per_class.csv {classes[k]!r} {key}", float(line[key]), float(value))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="an evaluation's folder, runs/NAME/evaluations/SPLIT@STEP")
    folder = parser.parse_args(arguments).folder
    if not (folder / "predictions.csv").is_file():
        parser.error(f"{folder} has no predictions.csv")
    result = compare(folder)
    for line in result.different[:50]:
        print(line)
    print(f"{folder}: {result.count:,} values compared, {len(result.different)} different")
    return 1 if result.different else 0


if __name__ == "__main__":
    sys.exit(main())
