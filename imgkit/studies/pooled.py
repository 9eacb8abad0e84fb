"""What the trainings of a cross-validation come to: every image answered once, by a training that did not see it."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from imgkit.calibration import Calibration
from imgkit.data.rows import count
from imgkit.errors import DiskError, printable
from imgkit.evaluation_tables import tables_of
from imgkit.evaluations import read_logits
from imgkit.metrics import Scored, summarise_scored
from imgkit.multilabel import ScoredSets, summarise_sets
from imgkit.report.stored import AnswersOfSets, Stored, stored_of
from imgkit.run import RunFolder
from imgkit.studies.estimates import FoldDifference
from imgkit.studies.plan import Planned
from imgkit.studies.results import SCORES, Quantity

RESULT, OOF = "folds.json", "oof.csv"
SCHEMA = 1
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError)


@dataclass(frozen=True)
class FoldScore:
    """One training.

    Args:
        run: its name.
        n: images of each of its splits.
        scores: on its fold, by key of `SCORES`.
    """

    run: str
    n: Mapping[str, int]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Pooled:
    """All folds.

    Args:
        folds: of each training, in order.
        quantities: the scores, those of `folds` and `metrics`.
        metrics: of all images together, as metrics.json has them.
        table: SHA-256 of folds.csv.
        rows: of oof.csv, the header first.
        grouped: whether images have groups.
        model: the network.
        smoke: whether the runs are trials of a few steps.
    """

    folds: Sequence[FoldScore]
    quantities: Sequence[Quantity]
    metrics: Mapping[str, Any]
    table: str
    rows: Sequence[Sequence[str]]
    grouped: bool
    model: str
    smoke: bool

    def values(self, key: str) -> list[float]:
        """A score of each fold."""
        return [fold.scores[key] for fold in self.folds]

    @property
    def ratio(self) -> float:
        """Images that a training is scored on over those that it is trained on, in the mean."""
        return fmean(fold.n["test"] / fold.n["train"] for fold in self.folds)


class Compared(NamedTuple):
    """This cross-validation against another one of the same folds."""

    name: str  # of the other
    model: str
    quantity: Quantity
    difference: FoldDifference  # this one minus the other


def pool(out: Path, runs: Sequence[Planned], table: str, *, seed: int, grouped: bool) -> Pooled:
    """Read the finished runs; `seed` draws the bootstrap.

    Raises:
        DiskError: if a run has no evaluation of its fold any more, or a file of it is damaged.
    """
    folds, scored, rows = [], list[Scored | ScoredSets](), list[list[str]]()
    header: list[str] = []
    classes: tuple[str, ...] = ()
    for number, run in enumerate(runs, start=1):
        folder = RunFolder(out / run.name)
        stored = stored_of(folder, "test")
        if stored is None:
            raise DiskError(
                f"{printable(str(folder.path))} has no evaluation of its fold any more, and the table needs it.",
                f"Make it again:  imgkit evaluate {folder.address} --split test",
            )
        classes = stored.classes
        try:
            part, table_rows = _answers(stored)
            header, *lines = ([*row] for row in table_rows)
        except _UNREADABLE as error:
            raise DiskError(
                f"{printable(str(stored.folder))} cannot be read ({error}).",
                f"Make it again:  imgkit evaluate {folder.address} --split test",
            ) from error
        scored.append(part)
        rows += [[*line, str(number)] for line in lines]
        about = folder.read_json("run.json")
        values = {**stored.metrics, "topk_error": 1.0 - stored.metrics.get("topk", 0.0)}
        scores = {one.key: float(values[one.key]) for one in SCORES[stored.task]}
        folds.append(FoldScore(run.name, about["data"]["n"], scores))
    together = _together(scored)
    metrics = (
        summarise_scored(together, classes, seed=seed)
        if isinstance(together, Scored)
        else summarise_sets(together, classes, seed=seed)
    )
    task = "single" if isinstance(together, Scored) else "multilabel"
    metrics = {"schema": SCHEMA, "task": task, "split": "all folds", **metrics}
    metrics |= {"topk_error": 1.0 - metrics["topk"]} if task == "single" else {}
    rows.sort(key=lambda row: row[0])
    quantities = [
        one._replace(title=f"top-{metrics['k']} error") if one.key == "topk_error" else one
        for one in SCORES["single" if task == "single" else "multilabel"]
        if one.key != "topk_error" or metrics["k"] < len(classes)  # else all labels are among them
    ]
    whole = [[*header, "fold"], *rows]
    return Pooled(folds, quantities, metrics, table, whole, grouped, str(about["model"]), bool(about["smoke"]))


def compare_with_others(pooled: Pooled, out: Path) -> list[Compared]:
    """The differences to the cross-validations beside this one that have the same folds, image by image."""
    found = []
    for other, told in _others(out):
        if (told["table"], told["smoke"]) != (pooled.table, pooled.smoke):  # the table has the number of folds, too
            continue
        for quantity in pooled.quantities:
            if quantity.kind != "share":
                continue
            theirs = [fold["scores"].get(quantity.key) for fold in told["folds"]]
            if None not in theirs:
                values = [mine - its for mine, its in zip(pooled.values(quantity.key), theirs, strict=True)]
                difference = FoldDifference(values, pooled.ratio)
                found.append(Compared(other.name, str(told["model"]), quantity, difference))
    return found


def write(pooled: Pooled, compared: Sequence[Compared], out: Path) -> list[Path]:
    """Write folds.json, oof.csv and folds.md into the folder of the runs; returns them.

    Raises:
        DiskError: if one cannot be written.
    """
    folder = RunFolder(out)
    told = {
        "schema": SCHEMA,
        "table": pooled.table,
        "model": pooled.model,
        "smoke": pooled.smoke,
        "folds": [{"run": fold.run, "n": dict(fold.n), "scores": dict(fold.scores)} for fold in pooled.folds],
        "mean": {one.key: fmean(pooled.values(one.key)) for one in pooled.quantities},
        "sd": {one.key: stdev(pooled.values(one.key)) for one in pooled.quantities},
        "pooled": pooled.metrics,
        "compared": [
            {
                "with": one.name,
                "quantity": one.quantity.key,
                "values": list(one.difference.values),
                "mean": one.difference.mean,
                "half": one.difference.half,
                "p": one.difference.p,
                "test_over_train": one.difference.ratio,
            }
            for one in compared
        ],
    }
    folder.write_json(RESULT, told)
    stream = io.StringIO()
    csv.writer(stream).writerows(pooled.rows)
    folder.write_text(OOF, stream.getvalue())
    folder.write_text("folds.md", "\n".join(lines_of(pooled, compared, out.name)) + "\n")
    return [out / name for name in (OOF, "folds.md", RESULT)]


def lines_of(pooled: Pooled, compared: Sequence[Compared], name: str) -> list[str]:
    """folds.md, line by line."""
    folds = len(pooled.folds)
    lines = [f"# {name}", "", sentence(pooled), ""]
    heads = ["score", "all images", "95 %", "mean of folds", "sd", *(f"fold {number + 1}" for number in range(folds))]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in table(pooled)]
    lines += ["", *notes(pooled)]
    if compared:
        lines += ["", "| against | score | difference | 95 % | p | |", "|---|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in comparison(compared)]
        lines += ["", *notes_of_comparison(compared)]
    return lines


def sentence(pooled: Pooled) -> str:
    """What was done."""
    n = pooled.metrics["n"]
    return (
        f"{pooled.model}: {count(len(pooled.folds), 'training')}, each scored once on the fold that it did not see; "
        f"{count(n, 'image')}, each answered once."
    )


def table(pooled: Pooled) -> list[list[str]]:
    """A row a score: of all images together with its interval, the mean over folds, their deviation, and each."""
    rows = []
    for one in pooled.quantities:
        values = pooled.values(one.key)
        ends = pooled.metrics["intervals"].get(one.key)
        interval = "" if ends is None else f"{_shown(ends[0], one)} to {_shown(ends[1], one)}"
        whole = _shown(pooled.metrics[one.key], one)
        parts = [_shown(value, one) for value in (fmean(values), stdev(values), *values)]
        rows.append([one.title, whole, interval, *parts])
    return rows


def notes(pooled: Pooled) -> list[str]:
    """What the numbers are, and are not."""
    found = [
        "The interval is over images, of all folds together. The deviation (sd) tells how folds differ; since "
        "images that one training is scored on train the others, sd / √K is not the error of the mean.",
    ]
    if pooled.grouped:
        found.append("Images of one group are alike, so the interval, which takes them for independent, is too narrow.")
    if pooled.smoke:
        found.append("A smoke run: a few steps each, and of each fold a few images were scored. It means nothing.")
    return found


def comparison(compared: Sequence[Compared]) -> list[list[str]]:
    """A row a difference, in points."""
    rows = []
    for one in compared:
        mean, half = one.difference.mean, one.difference.half
        ends = "" if half is None else f"{100 * (mean - half):+.1f} to {100 * (mean + half):+.1f}"
        p = "" if one.difference.p is None else f"{one.difference.p:.3g}"
        rows.append([one.name, one.quantity.title, f"{100 * mean:+.1f}", ends, p, one.difference.verdict])
    return rows


def notes_of_comparison(compared: Sequence[Compared]) -> list[str]:
    """How the differences are judged."""
    return [
        "Differences are this one minus the other, in points, fold by fold on the same images; interval and p by the "
        f"corrected resampled t-test (Nadeau & Bengio 2003). {count(len(compared), 'comparison')}, p not corrected for "
        "their number."
    ]


def _answers(stored: Stored) -> tuple[Scored | ScoredSets, list[Sequence[str]]]:
    """What a fold's evaluation scored, and the rows of its predictions.csv."""
    logits = read_logits(stored.folder)
    if logits is None:
        raise ValueError("scores.safetensors is missing or damaged")
    answers, told = stored.answers, stored.metrics.get("calibration")
    targets = answers.targets.astype(np.float32) if isinstance(answers, AnswersOfSets) else answers.targets
    calibration = None if told is None else Calibration.from_dict(told)
    tables = tables_of(answers.paths, targets, logits, stored.classes, calibration, 0, fit_loss=False)
    return tables.scored, list(tables.files["predictions.csv"])


def _together(parts: Sequence[Scored | ScoredSets]) -> Scored | ScoredSets:
    """The images of all parts, field by field."""
    kind = type(parts[0])
    return kind(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _others(out: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Cross-validations beside `out` that can be read."""
    for file in sorted(out.parent.glob(f"*/{RESULT}")):
        if file.parent.name == out.name:
            continue
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and told.get("schema") == SCHEMA:
            yield file.parent, told


def _shown(value: float, quantity: Quantity) -> str:
    return f"{100 * value:.1f} %" if quantity.kind == "share" else f"{value:.3f}"
