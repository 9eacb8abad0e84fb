"""imgkit's side of benchmarks/speed.py: its own training, frozen training and prediction, through its Python functions.

Everything that a user's command does is done: scan, checks, checkpoints, evaluation, calibration, report. The rate
of a training is that of the run's own history.jsonl, whose clock runs from one update to the next, waiting for data
included.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import stopwatch

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
schema = 1
name = "speed"
[model]
weights = "none"
image_size = {size}
[train]
batch_size = {batch_size}
optimizer = "adamw"
{norm}
[augment]
crop = [0.08, 1.0]
hflip = 0.5
[run]
device = "{device}"
{workers}
[[phases]]
name = "{part}"
train = "{part}"
lr = 1e-4
{length}
"""
NORM = 'batch_norm = "train"'  # statistics and all, as the peers train it


def write_recipe(given: stopwatch.argparse.Namespace, part: str, length: str) -> Path:
    """The recipe of this run: which part trains, and for how long."""
    recipe: Path = given.scratch / "speed.toml"
    values = {"size": given.size, "batch_size": given.batch_size, "device": given.device}
    values["workers"] = "" if given.workers is None else f"workers = {given.workers}"
    recipe.write_text(RECIPE.format(**values, part=part, norm=NORM if part == "all" else "", length=length))
    return recipe


def history(run: Path) -> list[dict[str, Any]]:
    """Its epochs."""
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def chosen(run: Path) -> dict[str, Any]:
    """Number format and threads, as the run wrote them down."""
    about = json.loads((run / "run.json").read_text())
    return {"format": about["format"], "threads": about["threads"], "machine": about["machine"]}


def train(given: stopwatch.argparse.Namespace) -> None:
    """All layers; images a second of the epochs after the first, or of each epoch as it is asked for."""
    from imgkit import finetune
    from imgkit.experiment import Experiment

    turns = stopwatch.Turns() if given.turns else None
    recipe, sets = write_recipe(given, "all", f"epochs = {given.epochs}"), ["data.prepared=none"]
    if given.prepared:
        words = ["data", "prepare", given.model, "--data", str(given.data), "--recipe", str(recipe)]
        subprocess.run([sys.executable, "-m", "imgkit", *words], check=True)
        sets = []
    say = Experiment._say_epoch

    def said(experiment: Experiment, row: dict[str, Any], *rest: Any) -> None:  # noqa: ANN401
        say(experiment, row, *rest)
        if turns is not None:  # the clock of an epoch begins with its first update
            turns.over(row["images_per_second"], **chosen(experiment.folder.path))

    with patch.object(Experiment, "_say_epoch", said):
        run = finetune(
            given.model, recipe=str(recipe), data=given.data, out=given.scratch, name="run", sets=sets
        ).folder.path
    rows = history(run)
    each = json.loads((run / "run.json").read_text())["data"]["n"]["train"]
    seconds = [each / row["images_per_second"] for row in rows]
    whole = [after["seconds"] - before["seconds"] for before, after in pairwise(rows)]
    stopwatch.leave(
        given.out,
        stopwatch.rate([each] * len(rows), seconds),
        epochs_s=seconds,
        with_evaluation=each * len(whole) / sum(whole),  # images a second, evaluation and checkpoints counted
        **chosen(run),
    )


def frozen(given: stopwatch.argparse.Namespace) -> None:
    """The head alone, on features that are computed and kept, and once more on those that are there.

    The loop is all from the first picture of the features to the end of the last epoch, without validation and with;
    the call is all that `finetune` does.
    """
    from imgkit import finetune
    from imgkit.experiment import Experiment

    recipe = write_recipe(given, "head", f"epochs = {given.epochs}\nviews = 1")
    evaluate, evaluated, values = Experiment._evaluate, [0.0], dict[str, float]()

    def timed_evaluation(*rest: Any) -> Any:  # noqa: ANN401
        began = time.perf_counter()
        found = evaluate(*rest)
        evaluated[-1] += time.perf_counter() - began
        return found

    with patch.object(Experiment, "_evaluate", timed_evaluation):
        for name in ("first time", "again"):
            run, began = name.replace(" ", "-"), time.perf_counter()
            finetune(given.model, recipe=str(recipe), data=given.data, out=given.scratch, name=run)
            values[f", {name}: whole call"] = time.perf_counter() - began
            values[f", {name}: with validation"] = history(given.scratch / run)[-1]["seconds"]
            values[f", {name}"] = values[f", {name}: with validation"] - evaluated[-1]
            evaluated.append(0.0)
    ordered = {name: values[name] for name in sorted(values, key=lambda name: (name.count(":"), "again" in name))}
    stopwatch.leave(given.out, values=ordered, **chosen(given.scratch / "first-time"))


def predict(given: stopwatch.argparse.Namespace) -> None:
    """Label all pictures of a folder and write a table of the answers; images a second, the model's loading counted."""
    from imgkit import finetune

    recipe = write_recipe(given, "all", "steps = 1")
    run = finetune(given.model, recipe=str(recipe), data=given.small, out=given.scratch, name="run")
    next(run.predict(given.small, device=given.device))  # imports what it needs
    count = 0

    def work() -> None:
        nonlocal count
        with (given.scratch / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            for answer in run.predict(given.data, device=given.device):
                assert not answer.error
                rows.writerow((answer.path, answer.label, answer.prob))
                count += 1

    seconds = stopwatch.timed(work)
    stopwatch.leave(given.out, count / seconds, images=count, **chosen(given.scratch / "run"))


def main() -> None:
    """Do what is asked, with caches of its own."""
    parser = stopwatch.arguments("imgkit.", "train", "frozen", "predict")
    parser.add_argument("--prepared", action="store_true", help="pictures are decoded once, before")
    parser.add_argument("--small", type=stopwatch.Path, help="predict: a few pictures to make the model on")
    parser.set_defaults(workers=None)  # as many as imgkit takes by itself
    given = parser.parse_args()
    os.environ["IMGKIT_CACHE"] = str(given.scratch / "cache")
    {"train": train, "frozen": frozen, "predict": predict}[given.work](given)


if __name__ == "__main__":
    main()
