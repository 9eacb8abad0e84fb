"""What happened in a training, as numbers by epoch: read from a run's folder, or from a table (`table.py`)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

from imgkit.errors import UsageError
from imgkit.recipe.monitors import TOPK
from imgkit.report.collect import damage_told
from imgkit.run import RunFolder

SCORES = ("top1", "top5", "map", "f1_macro", "f1_micro")
"""What is plotted besides the loss, fractions in [0, 1]."""


class Phase(NamedTuple):
    """A phase on the axis of epochs, which epoch e takes up from e - 0.5 to e + 0.5."""

    name: str
    start: float
    stop: float


@dataclass(frozen=True)
class Rates:
    """The learning rate of the head group.

    Args:
        x: places on the axis of epochs; not finite between two phases, so that no line joins them.
        y: the rates there.
        by_epoch: one an epoch, in force from x - 0.5 to x + 0.5; else at single updates.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    by_epoch: bool


@dataclass(frozen=True)
class Chosen:
    """The epochs whose weights were kept, more than one where they were averaged, and what to call that."""

    epochs: tuple[float, ...]
    words: str


@dataclass(frozen=True)
class History:
    """A training by epoch, n rows.

    Args:
        title: what it is, for people.
        epochs: number of each row's epoch, (n,), not falling; 0 is a head solved before the first epoch.
        phases: the phase of each row, (n,).
        columns: "train/loss", "val/top1" and so on, (n,) each; NaN where nothing was recorded. Scores are fractions.
        rates: the learning rate, if it is known.
        held_out: what to call the images of the columns val/: "val" or "test".
        chosen: the epochs whose weights were kept, if that is known.
        notes: what is worth knowing about how it was read.
    """

    title: str
    epochs: tuple[float, ...]
    phases: tuple[str, ...]
    columns: Mapping[str, tuple[float, ...]]
    rates: Rates | None = None
    held_out: str = "val"
    chosen: Chosen | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def spans(self) -> list[Phase]:
        """The phases in order; one ends half way between its last epoch and the first of the next one."""
        rows = [list(group) for _, group in groupby(range(len(self.epochs)), key=lambda row: self.phases[row])]
        middles = [(self.epochs[rows[-1]] + self.epochs[after[0]]) / 2 for rows, after in pairwise(rows)]
        ends = [self.epochs[0] - 0.5, *middles, self.epochs[-1] + 0.5]
        names = [self.phases[own[0]] for own in rows]
        return [Phase(name, start, stop) for name, (start, stop) in zip(names, pairwise(ends), strict=True)]


def history_of_run(folder: RunFolder) -> History:
    """The history of a run so far, from its text files.

    Raises:
        UsageError: if it has no epoch yet.
        DiskError: if a file of it is missing or damaged.
    """
    rows = folder.history()
    if not rows:
        raise UsageError(f"{folder.name} has no epoch yet, so there is nothing to plot.", "Wait for its first one.")
    with damage_told(folder):
        about = folder.read_json("run.json")
        names = _kept(about)
        found = {_plain(key): key for row in rows for key in row}
        columns = {
            f"{split}/{name}": tuple(_number(row.get(found[f"{split}/{name}"])) for row in rows)
            for split in ("train", "val")
            for name in names
            if f"{split}/{name}" in found
        }
        return History(
            title=folder.name,
            epochs=tuple(float(row["epoch"]) for row in rows),
            phases=tuple(str(row["phase"]) for row in rows),
            columns={name: values for name, values in columns.items() if not all(map(math.isnan, values))},
            rates=_rates(rows, folder.rows("steps.jsonl")),
            chosen=_chosen(rows, folder.read_json("status.json").get("best")),
            notes=_notes(names, columns),
        )


def _kept(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The scores that say something in the task: few classes make top-5 certain, one label makes micro F1 top-1."""
    if about["task"] == "multilabel":
        return ("loss", "map", "f1_macro", "f1_micro")
    return ("loss", "top1", "top5", "f1_macro") if len(about["classes"]) > TOPK else ("loss", "top1", "f1_macro")


def _plain(key: str) -> str:
    """A key of history.jsonl as a name of `History.columns`."""
    return "train/loss" if key == "train_loss" else key.replace("/topk", f"/top{TOPK}")


def _notes(names: Sequence[str], columns: Mapping[str, object]) -> tuple[str, ...]:
    missing = [name for name in names if f"val/{name}" in columns and f"train/{name}" not in columns]
    if not missing:
        return ()
    return (f"on train this run recorded no {', '.join(missing)}: of these there is the curve of val only",)


def _rates(rows: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> Rates | None:
    """The rates of steps.jsonl on the axis of epochs; a solved phase has none, and an epoch under way is left out."""
    solved = {row["phase"] for row in rows if row["solved"]}
    ends = [0.0, *(float(row["step"]) for row in rows)]
    places = [float(rows[0]["epoch"]) - 0.5, *(float(row["epoch"]) + 0.5 for row in rows)]
    taken = [row for row in steps if row["phase"] not in solved and row["step"] <= ends[-1]]
    x, y = list[float](), list[float]()
    for _, group in groupby(taken, key=lambda row: row["phase"]):
        of_phase = list(group)
        x += [math.nan] * bool(x) + np.interp([row["step"] for row in of_phase], ends, places).tolist()
        y += [math.nan] * bool(y) + [float(row["lr"]) for row in of_phase]
    return Rates(tuple(x), tuple(y), by_epoch=False) if x else None


def _chosen(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> Chosen | None:
    """The best epoch that status.json names at the end of a run, else the best one so far."""
    if best is None:
        epochs = [float(row["epoch"]) for row in rows if row.get("best")][-1:]
        return Chosen(tuple(epochs), f"best so far: epoch {epochs[0]:g}") if epochs else None
    steps = best.get("mean_of") or [best["step"]]
    epochs = sorted(float(row["epoch"]) for row in rows if row["step"] in steps)
    if not epochs:
        return None
    listed = ", ".join(f"{epoch:g}" for epoch in epochs)
    which = f"mean of epochs {listed}" if len(epochs) > 1 else f"epoch {listed}"
    return Chosen(tuple(epochs), f"chosen by {best['metric']}: {which}" if "metric" in best else f"chosen: {which}")


def _number(value: object) -> float:
    """A recorded number; NaN where there is none, or none that can be drawn."""
    number = math.nan if value is None else float(value)  # type: ignore[arg-type]  # what is no number is told as damage
    return number if math.isfinite(number) else math.nan
