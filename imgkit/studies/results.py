"""Reads the finished runs of a study: their scores on each split, and what they cost; text only."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from imgkit.data.index import SPLITS
from imgkit.errors import DiskError, printable
from imgkit.recipe.fields import Task
from imgkit.run import RunFolder
from imgkit.studies.plan import Planned
from imgkit.studies.state import Memory, identity, state_of


class Quantity(NamedTuple):
    """Something that is measured of a run.

    Attributes:
        key: its name in study.csv.
        title: for people.
        kind: "share", a fraction that is shown in percent, "loss", "seconds", "count" or "bytes".
    """

    key: str
    title: str
    kind: str


SCORES: Mapping[Task, tuple[Quantity, ...]] = {
    "single": (
        Quantity("top1", "accuracy", "share"),
        Quantity("topk_error", "top-5 error", "share"),
        Quantity("loss", "loss", "loss"),
        Quantity("f1_macro", "macro F1", "share"),
    ),
    "multilabel": (
        Quantity("f1_micro", "micro F1", "share"),
        Quantity("f1_macro", "macro F1", "share"),
        Quantity("map", "mAP", "share"),
        Quantity("subset_accuracy", "exact sets", "share"),
        Quantity("loss", "loss", "loss"),
    ),
}
GAPS: Mapping[Task, tuple[str, ...]] = {"single": ("topk_error", "top1"), "multilabel": ("f1_micro", "loss")}
"""Scores whose gap between seen and unseen images the tables show, the first one first."""
COSTS = (
    Quantity("parameters", "parameters", "count"),
    Quantity("trainable", "trainable", "count"),
    Quantity("size_bytes", "size", "bytes"),
    Quantity("epoch_s", "time an epoch", "seconds"),
    Quantity("batch_s", "time a batch", "seconds"),
)


class Scored(NamedTuple):
    """The scores of one split: by key, over n images whose fingerprint is `data`."""

    values: Mapping[str, float]
    n: int
    data: str


@dataclass(frozen=True)
class Result:
    """What a finished run came to.

    Args:
        run: as planned.
        task: one label an image, or any number.
        k: of the top-k error.
        splits: of "train", "val" and "test", those that were scored.
        costs: by key of `COSTS`; what is not known is left out.
        model: the network.
        sample: which training images were scored; "" for all.
        precision: the number format that it was trained in.
    """

    run: Planned
    task: Task
    k: int
    splits: Mapping[str, Scored]
    costs: Mapping[str, float]
    model: str
    sample: str
    precision: str

    @property
    def unseen(self) -> str:
        """The split that tells how unseen images are answered."""
        return "test" if "test" in self.splits else "val"


def read_results(out: Path, runs: Iterable[Planned], memory: Memory) -> list[Result]:
    """The results of the runs that are finished.

    Raises:
        DiskError: if a file of one is damaged, or its evaluation of val was removed.
    """
    return [
        _read(RunFolder(out / run.name), run, memory.measured.get(run.name, {}))
        for run in runs
        if state_of(out, run) == "done"
    ]


def _read(folder: RunFolder, run: Planned, entry: Mapping[str, Any]) -> Result:
    about, who = folder.read_json("run.json"), identity(folder)
    entry = entry if {key: entry.get(key) for key in who} == who else {}
    stored = folder.evaluations()
    names = {split: f"{split}@{who['label']}" for split in SPLITS} | ({"train": entry["train"]} if entry else {})
    found = {split: stored[name] for split, name in names.items() if name in stored}
    if "val" not in found:
        raise DiskError(
            f"{printable(str(folder.path))} has no evaluation val@{who['label']} any more, and the table needs it.",
            f"Make it again:  imgkit evaluate {shlex.quote(str(folder.path))} --split val",
        )
    task: Task = "multilabel" if about["task"] == "multilabel" else "single"
    costs = {"parameters": float(about["parameters"])}
    if (epoch := epoch_seconds(folder.history())) is not None:
        costs["epoch_s"] = epoch
    if entry:
        costs |= {key: float(entry[key]) for key in ("trainable", "size_bytes")}
        costs["batch_s"] = float(entry["inference"]["seconds"])
    return Result(
        run=run,
        task=task,
        k=int(next(iter(found.values())).get("k", 0)),
        splits={
            split: Scored(_values(metrics, task), int(metrics["n"]), metrics["data"])
            for split, metrics in found.items()
        },
        costs=costs,
        model=str(about["model"]),
        sample=str(found.get("train", {}).get("sample", "")),
        precision=str(about["format"]["precision"]),
    )


def _values(metrics: Mapping[str, Any], task: Task) -> dict[str, float]:
    known = {**metrics, **({"topk_error": 1.0 - metrics["topk"]} if task == "single" else {})}
    return {quantity.key: float(known[quantity.key]) for quantity in SCORES[task]}


def epoch_seconds(history: Sequence[Mapping[str, Any]]) -> float | None:
    """The median time from one evaluation to the next over the epochs that take gradient steps; None without one."""
    rows = [{"seconds": 0.0}, *history]
    times = [row["seconds"] - before["seconds"] for before, row in pairwise(rows) if not row.get("solved")]
    return median(times) if times else None
