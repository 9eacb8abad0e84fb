"""What a run remembers besides weights: JSON in each checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgkit.hits import NO_HITS, Hits
from imgkit.recipe.fields import Task
from imgkit.recipe.monitors import MONITORS, way
from imgkit.recipe.plan import PhasePlan


@dataclass
class Progress:
    """The position of a run, its epochs so far, and the sums of the epoch under way.

    Attributes:
        step: updates done.
        history: one row an epoch, as in history.jsonl.
        best: step, metric and value of the best evaluation whose weights were saved.
        epochs_without_gain: evaluations since the best one.
        plateau: what a plateau schedule remembers of the phase under way, as `plateau.Standstill` has it.
        lr: of the last update.
        loss_sum: sum of the losses of the epoch under way, each image's once.
        images: seen in the epoch under way.
        hits: right answers on them.
        train_seconds: of the epoch under way, in updates alone.
        seconds: of the whole run when it was saved.
        closing_seconds: that the last evaluation and its checkpoint took.
        skipped: updates of the epoch under way that overflowed in float16.
        stopped_early: no update follows, because the scores stood still.
        time_up: no update follows, because the time limit was reached.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    epochs_without_gain: int = 0
    plateau: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.0
    loss_sum: float = 0.0
    images: int = 0
    hits: Hits = NO_HITS
    train_seconds: float = 0.0
    seconds: float = 0.0
    closing_seconds: float = 0.0
    skipped: int = 0
    stopped_early: bool = False
    time_up: bool = False

    def __post_init__(self) -> None:
        self.hits = Hits(*self.hits)  # a list, as JSON has it

    @property
    def over(self) -> bool:
        """Whether no update follows, wherever the plan ends."""
        return self.stopped_early or self.time_up

    def open_epoch(self) -> None:
        """Begin the sums of an epoch."""
        self.loss_sum, self.images, self.skipped, self.train_seconds = 0.0, 0, 0, 0.0
        self.hits = NO_HITS

    def row(self, phase: PhasePlan, metrics: Mapping[str, Any], *, best: bool, seconds: float) -> dict[str, Any]:
        """The row of the epoch that ends now; `metrics` are those of validation, `seconds` those of the run so far."""
        solved = phase.solver == "logistic"
        epochs = 0 if solved else math.ceil((self.step - phase.first_step) / phase.steps_per_epoch)
        return {
            "epoch": phase.first_epoch + epochs,
            "step": self.step,
            "phase": phase.name,
            "solved": solved,
            "lr": self.lr,
            "train_loss": self.loss_sum / self.images,
            **({} if metrics["task"] == "multilabel" else self._shares()),
            **{f"val/{name}": metrics[name] for name in MONITORS[metrics["task"]] if name in metrics},
            "best": best,
            "seconds": seconds,
            "images_per_second": self.images / self.train_seconds if self.train_seconds else None,
            "skipped": self.skipped,
        }

    def _shares(self) -> dict[str, float | None]:
        """Top-1 and top-k on the training images of the epoch; None where nothing was counted."""
        images, top1, topk = self.hits
        return {"train/top1": top1 / images if images else None, "train/topk": topk / images if images else None}

    def left_s(self, total_steps: int) -> float | None:
        """Time to the end at the pace of the last epoch, its evaluation included; None after a solved head."""
        last, *earlier = reversed(self.history)
        if last["solved"]:
            return None
        step, seconds = (earlier[0]["step"], earlier[0]["seconds"]) if earlier else (0, 0.0)
        pace = (last["seconds"] - seconds) / (last["step"] - step)
        return float(pace * (total_steps - last["step"]))


def best_row(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The epoch whose weights are the best ones: the last of those that were better than all before them."""
    return next(row for row in reversed(history) if row["best"])


def best_first(history: Sequence[Mapping[str, Any]], monitor: str, task: Task) -> list[int]:
    """Steps of the epochs in `history`, the best by `monitor` first; of equal ones, the earlier first."""
    sign = -1.0 if way(monitor, task) == "max" else 1.0
    return [row["step"] for row in sorted(history, key=lambda row: (sign * row[monitor], row["step"]))]
