"""200 recipes drawn from all options: each is planned, and two of its updates are the same bits with any workers."""

import copy
import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from multilabel_data import write_patches
from sampled_recipes import AUGMENT, LOSSES, MODEL, NETWORKS, OPTIMIZERS, SCHEDULES, TRAIN, Drawn, sample

from imgkit.experiment import Experiment
from imgkit.prepare import prepare
from imgkit.recipe.fields import Task
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.setup import Setup, plan_lines

NUMBERS = range(200)
QUICK = 40  # of them, in every test run
SOLVED = 10  # of these, whose head is solved too


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Task, Path]:
    """A CSV of each task, with a column of weights."""
    found: dict[Task, Path] = {}
    for task in ("single", "multilabel"):
        found[task] = file = write_patches(tmp_path_factory.mktemp(task), n=40)
        table = pd.read_csv(file, keep_default_na=False)
        if task == "single":
            table["labels"] = table["labels"].str.split(";").str[0].replace("", "none")
        table["weight"] = 1 + table.index % 3
        table.to_csv(file, index=False)
    return found


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[] if number < QUICK else pytest.mark.slow) for number in NUMBERS]
)
def test_two_updates_are_the_same_with_any_workers(number: int, tables: Mapping[Task, Path], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    drawn = sample(number, tmp_path)
    setup = prepared(drawn, tables[drawn.task], tmp_path)
    lines = "\n".join(plan_lines(setup))
    assert "all: train" in lines
    assert "augmentation:" in lines
    start = copy.deepcopy(setup.model)
    prints = [
        two_updates(replace(setup, model=copy.deepcopy(start), workers=workers), tmp_path, solve=number < SOLVED)
        for workers in (0, 2)
    ]
    assert prints[0] == prints[1], drawn


def prepared(drawn: Drawn, table: Path, folder: Path) -> Setup:
    """The recipe on the data of its task, as far as a dry run goes."""
    several = {"data__label_delimiter": ";"} if drawn.task == "multilabel" else {}
    loaded = drawn.load(folder, data__path=str(table), data__label_col="labels", **several)
    screen = Screen(quiet=True)
    return prepare(loaded, verb="scratch", command="", smoke=False, dry_run=True, screen=screen)[0]


def two_updates(setup: Setup, folder: Path, *, solve: bool) -> str:
    """SHA-256 of all that the two updates of the last phase leave: weights, averages, moments, losses."""
    experiment = Experiment(RunFolder(folder), setup, Screen(quiet=True))
    *before, phase = setup.plan.phases
    for solved in before if solve else []:
        experiment.trainer.begin(solved)
        list(experiment._solve(solved))
    experiment.progress.step = phase.first_step
    experiment.trainer.begin(phase)
    with closing(experiment._validation):
        updates = list(experiment._updates(phase))
    assert len(updates) == phase.steps == 2
    assert all(torch.isfinite(torch.tensor(update.loss)) for update in updates)
    found = hashlib.sha256(json.dumps([[update.loss, update.lr] for update in updates]).encode())
    tensors = {**setup.model.state_dict(), **experiment.trainer.tensors()}
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def test_the_matrix_holds_every_option(tmp_path: Path) -> None:
    drawn = [sample(number, tmp_path) for number in NUMBERS]
    met: dict[str, set[str]] = {}
    for one in drawn:
        for written, value in one.values.items():
            key = written.removeprefix("phases.all.")
            met.setdefault(f"{one.task} {key}" if key == "loss.name" else key, set()).add(str(value))
    for task, losses in LOSSES.items():
        assert met[f"{task} loss.name"] == set(losses)
        assert {f"loss.{key}" for table in losses.values() for key in table} <= set(met)
    assert met["schedule.name"] == set(SCHEDULES)
    assert {f"schedule.{key}" for table in SCHEDULES.values() for key in table} <= set(met)
    assert met["train.optimizer"] | met["optimizer"] == set(OPTIMIZERS)
    assert met["train.sampler"] | met["sampler"] == set(TRAIN["sampler"])
    assert {f"augment.{key}" for key in AUGMENT} | set(MODEL) | {f"train.{key}" for key in TRAIN} <= set(met)
    for key in ("preset", "policy"):
        assert met[f"augment.{key}"] == set(AUGMENT[key])
    assert {one.network for one in drawn} == set(NETWORKS)
    assert sum(one.solved for one in drawn[:SOLVED]) >= 2
    assert len({(one.network, one.task, repr(one.values)) for one in drawn}) == len(drawn)
