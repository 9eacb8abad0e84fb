"""A sweep in tests whose runs are pretended: their files are written by a rule, in milliseconds, without torch."""

import io
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from imgkit.recipe.adapt import adapt
from imgkit.recipe.given import Flag
from imgkit.recipe.load import load_recipe
from imgkit.recipe.write import render
from imgkit.run import MODEL_FILES, RunFolder
from imgkit.screen import Screen
from imgkit.signals import Request
from imgkit.studies.work import Outcome
from imgkit.sweeps.conduct import Swept, conduct
from imgkit.sweeps.plan import Asked
from imgkit.sweeps.record import Record, read_record
from imgkit.sweeps.work import Worker

TEXT = """
schema = 1
name = "small"
verb = "finetune"
recipe = "probe"
model = "test_resnet"
trials = {trials}
{more}

[base]
"data.path" = "synthetic:3x16"
"phases.head.solver" = "sgd"
"phases.head.epochs" = 4

[space]
"phases.head.lr" = {{ low = 1e-4, high = 1e-1, log = true }}
"train.batch_size" = {{ choices = [8, 16] }}
"augment.crop" = {{ choices = [[0.5, 1.0], "none"] }}
"""
Score = Callable[[Mapping[str, Any], int], float]
"""The score of a run with these values of `--set` after so many epochs."""


def write_sweep(folder: Path, trials: int = 4, more: str = "") -> Path:
    """The file of a small sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.toml"
    file.write_text(TEXT.format(trials=trials, more=more))
    return file


def rising(values: Mapping[str, Any], epoch: int) -> float:
    """The smaller the rate, the better; and each epoch is a little better than the one before."""
    return 0.9 - float(values["phases.head.lr"]) + 0.001 * epoch


def pretending(
    score: Score = rising, *, epoch_s: float = 0.0, jobs: list[Mapping[str, Any]] | None = None, tested: bool = False
) -> Callable[[Mapping[str, Any], Request, Callable[[], object]], Outcome]:
    """A worker that writes what a training would, each epoch in turn; a run that is begun goes on where it was."""

    def work(job: Mapping[str, Any], request: Request, meanwhile: Callable[[], object]) -> Outcome:
        if jobs is not None:
            jobs.append(job)
        if job["do"] == "look":
            return Outcome(0, {"a point": {"parameters": 1, "steps": 4, "phases": {}}})
        words = job["words"]
        if words[0] == "evaluate":
            _evaluation(RunFolder(Path(words[3]) / words[1]), "test", 4, 0.5)
            return Outcome(0)
        folder = RunFolder(Path(words[3]) / words[1]) if words[0] == "resume" else _begun(words, tested)
        with folder.lock():
            return _train(folder, score, epoch_s, request, meanwhile)

    return work


def _begun(words: list[str], tested: bool) -> RunFolder:
    given = dict(pairwise(words))
    sets = [word for before, word in pairwise(words) if before == "--set"]
    flags = {"data.path": Flag("--data", given["--data"]), "seed": Flag("--seed", int(given["--seed"]))}
    flags["model.name"] = Flag("MODEL", words[1])
    loaded, _ = adapt(load_recipe("probe", flags=flags, sets=sets))
    place = Path(given["--out"]) / given["--name"]
    with (place.parent / "begun.txt").open("a") as stream:
        stream.write(f"{place.name}\n")
    place.mkdir()
    folder = RunFolder(place)
    (place / "checkpoints").mkdir()
    folder.write_text("recipe.toml", render(loaded))
    about = {"verb": "finetune", "smoke": False, "data": {"fingerprint": "f", "n": {"val": 10}}}
    about["data"]["n"] |= {"test": 9} if tested else {}
    folder.set_status("running", step=0, total_steps=4)
    folder.write_json("run.json", about | {"sets": sets})
    return folder


def _train(
    folder: RunFolder, score: Score, epoch_s: float, request: Request, meanwhile: Callable[[], object]
) -> Outcome:
    values = dict(text.split("=", 1) for text in folder.read_json("run.json")["sets"])
    for epoch in range(len(folder.history()) + 1, 5):
        time.sleep(epoch_s)
        folder.append_row("history.jsonl", {"epoch": epoch, "step": epoch, "val/f1_macro": score(values, epoch)})
        folder.set_status("running", step=epoch, total_steps=4)
        meanwhile()
        if request.stop is not None:
            folder.set_status("stopped", step=epoch, total_steps=4, reason="Stopped")
            return Outcome(128 + request.stop)
    (folder.path / "model").mkdir(exist_ok=True)
    for name in MODEL_FILES:
        (folder.path / "model" / name).touch()
    best = {"step": 4, "metric": "val/f1_macro", "value": score(values, 4)}
    _evaluation(folder, "val", 4, best["value"])
    folder.set_status("finished", step=4, total_steps=4, best=best)
    return Outcome(0)


def _evaluation(folder: RunFolder, split: str, step: int, value: float) -> None:
    place = folder.path / "evaluations" / f"{split}@{step}"
    place.mkdir(parents=True, exist_ok=True)
    metrics = {"n": 10, "f1_macro": value, "intervals": {"f1_macro": [value - 0.1, value + 0.1]}, "split": split}
    (place / "metrics.json").write_text(json.dumps(metrics))


def begun(out: Path) -> list[str]:
    """The names of the runs that were begun, each as often as it was."""
    return (out / "begun.txt").read_text().split()


def in_a_fork(job: Callable[[], object]) -> int:
    """Do a job in a fork; its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        except BaseException:
            traceback.print_exc()  # a test that fails shows it
        finally:
            os._exit(code)
    return pid


def go(asked: Asked, worker: Worker, said: io.StringIO | None = None) -> Swept:
    """Work on a sweep."""
    return conduct(asked, Screen(file=said or io.StringIO(), width=200), worker=worker)


def record_in(folder: Path) -> Record:
    """The trials of a sweep."""
    record = read_record(folder / "out")
    assert record is not None
    return record


def none_lost_or_doubled(folder: Path, trials: int) -> Record:
    """Every trial has ended and has one run, begun once, with the values that the storage has."""
    record = record_in(folder)
    names = [f"trial{number:04d}-seed0" for number in range(trials)]
    assert [row.number for row in record.rows] == [*range(trials)]
    assert [row.run for row in record.rows] == names == sorted(begun(folder / "out"))
    assert {row.state for row in record.rows} <= {"finished", "pruned"}
    for row in record.rows:
        run = RunFolder(folder / "out" / row.run)
        sets = dict(text.split("=", 1) for text in run.read_json("run.json")["sets"])
        assert float(sets["phases.head.lr"]) == row.params["phases.head.lr"]
        assert run.read_json("status.json")["state"] == {"finished": "finished", "pruned": "stopped"}[row.state]
    return record


def wait_for(folder: Path, runs: int) -> None:
    """Wait until so many runs were begun."""
    until = time.monotonic() + 20
    while not (folder / "out" / "begun.txt").exists() or len(begun(folder / "out")) < runs:
        assert time.monotonic() < until
        time.sleep(0.01)
