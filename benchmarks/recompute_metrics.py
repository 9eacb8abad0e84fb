"""Compute an evaluation's numbers again from its predictions.csv, with pandas and scikit-learn and without imgkit.

    python benchmarks/recompute_metrics.py runs/NAME/evaluations/test@53

compares every metric of metrics.json, and per_class.csv and confusion.csv cell by cell. Exit 0: all equal (floats to
1e-9); 1: a difference, listed; 2: wrong usage. For up to 100 classes the predictions and ranks are computed again from
the classes' probabilities; above that predictions.csv has no such columns, and the ranks are taken as they stand.
The bootstrap's draws follow the recipe in imgkit/metrics.py (seed and number in metrics.json) and need NumPy's same
generator, hence the same NumPy series.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

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


def wilson(share: float, n: int) -> list[float]:
    z = 1.959963984540054
    root = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ends = [(share + z * z / (2 * n) + sign * root) / (1 + z * z / n) for sign in (-1, 1)]
    return [max(0.0, ends[0]), min(1.0, ends[1])]


def bootstrap(counts: np.ndarray, value: float, draws: int, seed: int) -> list[float] | None:
    """Redraw each class's images from its row of the confusion matrix, one F1 after another; None: too few of them."""
    rng = np.random.default_rng(seed)
    kept = [c for c in range(len(counts)) if counts[c].sum()]
    hits, guessed = np.zeros((draws, len(counts))), np.zeros((draws, len(counts)))
    for c in kept:
        cells = [other for other in range(len(counts)) if counts[c, other]]
        drawn = rng.multinomial(counts[c].sum(), counts[c, cells] / counts[c].sum(), size=draws)
        for place, other in enumerate(cells):
            guessed[:, other] += drawn[:, place]
            if other == c:
                hits[:, c] = drawn[:, place]
    scores = [
        np.mean([2 * hits[draw, c] / (counts[c].sum() + guessed[draw, c]) for c in kept]) for draw in range(draws)
    ]
    if counts.sum() < 30 or max(scores) - min(scores) < 1e-9:
        return None
    low, high = np.percentile(scores, [2.5, 97.5])
    return [min(low, value), max(high, value)]


def metrics_of(table: pd.DataFrame, classes: list[str], draws: int, seed: int) -> dict[str, Any]:
    """Every number of metrics.json that follows from predictions.csv."""
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


def compare(folder: Path) -> Comparison:
    result = Comparison()
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    table = read_csv(folder / "predictions.csv")
    classes = [name[2:] for name in table.columns if name.startswith("p:")]
    if classes:
        check_rows(table, classes, result)
    else:
        classes = list(read_csv(folder / "confusion.csv").columns[1:])
    drawn = written.get("bootstrap", {})
    computed = metrics_of(table, classes, int(drawn.get("draws", 2000)), int(drawn.get("seed", 0)))
    result.check_all("metrics.json ", written, computed)
    check_tables(folder, table, classes, result)
    return result


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
