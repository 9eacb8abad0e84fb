"""Histories and run folders for the tests of plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sample_runs import write_run

from imgkit.run import RunFolder

EPOCHS = Path(__file__).parents[2] / "docs" / "examples" / "resnet50-imagenet-epochs.csv"
"""39 epochs of another project; docs/plots.md has the source."""


def row(epoch: int, step: int, phase: str, **values: object) -> dict[str, Any]:
    """A row of history.jsonl."""
    base = {"epoch": epoch, "step": step, "phase": phase, "solved": phase == "head", "lr": 0.0, "best": False}
    return {**base, "train_loss": 1.0, "val/loss": 1.0, **values}


HISTORY = [
    row(0, 1, "head", train_loss=0.9, **{"val/loss": 0.8, "val/top1": 0.5, "val/topk": 0.9, "val/f1_macro": 0.4}),
    row(1, 11, "warm", train_loss=0.8, **{"val/loss": 0.6, "val/top1": 0.6, "val/topk": 0.91, "val/f1_macro": 0.7}),
    row(2, 21, "all", train_loss=0.5, **{"val/loss": 0.5, "val/top1": 0.7, "val/topk": 0.95, "val/f1_macro": 0.6}),
    row(3, 31, "all", train_loss=0.3, **{"val/loss": 0.55, "val/top1": 0.65, "val/topk": 0.97, "val/f1_macro": 0.5}),
]
STEPS = [
    {"step": 1, "phase": "head", "lr": 0.0},
    {"step": 6, "phase": "warm", "lr": 0.001},
    {"step": 11, "phase": "warm", "lr": 0.002},
    {"step": 16, "phase": "all", "lr": 0.0001},
    {"step": 31, "phase": "all", "lr": 0.00005},
    {"step": 36, "phase": "all", "lr": 0.00001},
]
NAMES = ["cat", "dog", "eel", "fox", "gnu", "hen"]


def plotted_run(
    out: Path,
    *,
    history: Sequence[Mapping[str, Any]] = HISTORY,
    steps: Sequence[Mapping[str, Any]] = STEPS,
    best: Mapping[str, Any] | None = None,
    root: Path = Path("x"),
    **about: object,
) -> RunFolder:
    """A run called "one" with a history of its own; `best` is that of status.json, `root` that of its data."""
    folder = write_run(out, "one", f1=None, **({"classes": NAMES} | about))  # type: ignore[arg-type]
    run = folder.read_json("run.json")
    folder.write_json("run.json", run | {"data": run["data"] | {"root": str(root)}})
    folder.write_rows("history.jsonl", history)
    folder.write_rows("steps.jsonl", steps)
    folder.set_status("finished", step=31, total_steps=31, best=best)
    return folder


def svg_and_png(out: Path) -> set[str]:
    """The names that have both files."""
    return {file.stem for file in out.glob("*.svg")} & {file.stem for file in out.glob("*.png")}
