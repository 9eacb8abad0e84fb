"""Run folders as text, made without training."""

import json
from pathlib import Path
from typing import Any

from imgkit.run import RunFolder


def metrics_of(split: str, top1: float, f1: float, n: int = 100) -> dict[str, Any]:
    """A metrics.json with the keys that reports read."""
    return {
        "schema": 1,
        "task": "single",
        "split": split,
        "n": n,
        "classes": 3,
        "classes_without_support": [],
        "top1": top1,
        "f1_macro": f1,
        "k": 3,
        "topk": 1.0,
        "loss": 0.5,
        "ece": 0.04,
        "brier": 0.3,
        "chance": {"uniform": 1 / 3, "majority": 0.4, "majority_class": "cat"},
        "intervals": {"top1": [top1 - 0.05, top1 + 0.02], "f1_macro": [f1 - 0.06, f1 + 0.03]},
    }


def write_run(
    out: Path,
    name: str,
    *,
    f1: float | None = 0.8,
    split: str = "val",
    data: str = "cells/ (from --data)",
    fingerprint: str = "aa" * 32,
    created: str = "2026-11-22T10:00:00+00:00",
    state: str = "finished",
    smoke: bool = False,
    recipe_text: str | None = None,
    **about: object,
) -> RunFolder:
    """A run folder with one epoch and, unless `f1` is None, its evaluation at step 10."""
    folder = RunFolder(out / name)
    (folder.path / "evaluations").mkdir(parents=True)
    content = {
        "created": created,
        "verb": "finetune",
        "model": "resnet50",
        "recipe": "finetune",
        "seed": 0,
        "task": "single",
        "smoke": smoke,
        "data": {"where": data, "fingerprint": fingerprint, "n": {"train": 300, "val": 100, "test": 0}},
        "classes": ["cat", "dog", "eel"],
        "parameters": 23_600_000,
        "weights": {"sha256": None},
        **about,
    }
    folder.write_json("run.json", content)
    if recipe_text is not None:
        (folder.path / "recipe.toml").write_text(recipe_text)
    best = None if f1 is None else {"step": 10, "metric": "val/f1_macro", "value": f1}
    folder.set_status(state, step=10, total_steps=10, reason="the loss is not finite" * (state == "failed"), best=best)
    if f1 is not None:
        row = {"epoch": 1, "step": 10, "phase": "all", "train_loss": 0.4, "val/loss": 0.5, "val/top1": 0.9}
        folder.write_rows("history.jsonl", [row | {"val/f1_macro": f1, "seconds": 61.0, "best": True}])
        place = folder.path / "evaluations" / f"{split}@10"
        place.mkdir()
        (place / "metrics.json").write_text(json.dumps(metrics_of(split, 0.9, f1)))
        rows = "class,support,predicted,precision,recall,f1,most_confused_with,confused\n"
        rows += "cat,40,40,0.9,0.9,0.91,dog,4\ndog,60,50,0.9,0.9,0.7,cat,9\neel,0,0,0,0,0.0,,0\n"
        (place / "per_class.csv").write_text(rows)
    return folder
