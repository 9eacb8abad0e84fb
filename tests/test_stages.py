"""Stages: on a change of phase the new one's values are in force, and the optimizer's state is kept or reset."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import life
from oracle import fingerprint, write_recipe

from imgkit import Run, checkpoint, finetune, open_run, resume
from imgkit.data.batches import Batch
from imgkit.errors import RecipeError
from imgkit.losses import Loss
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import PhasePlan, make_plan
from imgkit.shares import Shards
from imgkit.trainer import Trainer, Update

STAGES = """
schema = 1
name = "stages"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
optimizer = "sgd"
momentum = 0.9
weight_decay = 0.01
batch_norm = "train"
precision = "float32"

[augment]
jitter = [0.4, 0.4, 0.4, 0.1]
jitter_p = 0.8

[save]
every_steps = 1
keep = "all"

[schedule]
name = "constant"

[[phases]]
name = "first"
train = "all"
steps = 3
lr = 0.01

[[phases]]
name = "second"
train = "all"
epochs = 1
lr = 4e-4
momentum = 0.95
weight_decay = 0.002
augment = { jitter_p = 0.5 }
schedule = { name = "cosine", warmup = "25%" }
"""
SECOND = 3
"""The step at which the second phase begins; it has four updates."""
RESET = "phases.second.optimizer_state=reset"


def stages(folder: Path, *sets: str) -> Run:
    """Three updates, then an epoch of four of another phase."""
    folder.mkdir(exist_ok=True)
    return finetune(
        "test_resnet",
        recipe=write_recipe(folder, STAGES),
        data="synthetic:3x16",
        out=folder / "runs",
        name="run",
        sets=["run.workers=0", *sets],
    )


def go_on_from(run: Run, step: int, aside: Path) -> Run:
    """The run resumed as if it had been killed after the checkpoint of `step`."""
    place = run.folder.path / "checkpoints"
    for later in checkpoint.steps(place):
        if later > step:
            (place / f"step-{later:08d}").rename(aside / f"moved-{step}-{later}")
    run.folder.set_status("stopped", step=step, total_steps=SECOND + 4)
    return resume("run", out=run.folder.path.parent)


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, float, float]]:
    """Of each update: step, rate, momentum and decay of the optimizer that made it."""
    seen: list[tuple[int, float, float, float]] = []
    update = Trainer._update

    def spied(
        self: Trainer, phase: PhasePlan, batch: Batch, step: int, lr: float, loss_of: Loss, shards: Shards
    ) -> Update:
        done = update(self, phase, batch, step, lr, loss_of, shards)
        assert self._optimizer is not None
        groups: list[dict[str, Any]] = self._optimizer.param_groups
        assert len({(group["lr"], group["momentum"]) for group in groups}) == 1
        decays = {group["weight_decay"] for group in groups}
        seen.append((step, groups[0]["lr"], groups[0]["momentum"], max(decays)))
        return done

    monkeypatch.setattr(Trainer, "_update", spied)
    return seen


def expected(steps: range) -> list[tuple[int, float, float, float]]:
    """By hand: a constant rate, then a warm-up of one step and a cosine over three."""
    cosine = [0.01, 1.0, 0.75, 0.25]
    return [
        (step, 0.01, 0.9, 0.01) if step < SECOND else (step, 4e-4 * cosine[step - SECOND], 0.95, 0.002)
        for step in steps
    ]


def close(found: list[tuple[int, float, float, float]], wanted: list[tuple[int, float, float, float]]) -> bool:
    return len(found) == len(wanted) and all(
        one == pytest.approx(other, rel=1e-9) for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("sets", [(), (RESET,)], ids=["keep", "reset"])
def test_a_phase_has_its_own_values_and_a_resume_inside_it_the_same_bits(
    tmp_path: Path, in_force: list[tuple[int, float, float, float]], sets: tuple[str, ...]
) -> None:
    whole = stages(tmp_path, *sets)
    assert close(in_force, expected(range(SECOND + 4)))
    bits = fingerprint(whole)
    for step in (SECOND + 3, SECOND + 1, SECOND, SECOND - 1):  # inside the second phase, at its start, before it
        in_force.clear()
        assert fingerprint(go_on_from(whole, step, tmp_path)) == bits, f"from step {step}"
        assert close(in_force, expected(range(step, SECOND + 4))), "whatever was in force when it was saved"


def buffers(run: Run, step: int) -> dict[str, torch.Tensor]:
    """The moments in a checkpoint."""
    train = checkpoint.read(run.folder.path / "checkpoints", step).train
    return {name: value for name, value in train.items() if name.startswith("opt/")}


def test_moments_are_kept_unless_the_phase_resets_them(tmp_path: Path) -> None:
    kept, reset = stages(tmp_path / "kept"), stages(tmp_path / "reset", RESET)
    first = [checkpoint.read(run.folder.path / "checkpoints", SECOND).model for run in (kept, reset)]
    assert all(torch.equal(first[0][name], first[1][name]) for name in first[0]), "one path until then"
    before, after, anew = buffers(kept, SECOND), buffers(kept, SECOND + 1), buffers(reset, SECOND + 1)
    for name, buffer in after.items():
        # The same gradient at the same weights: buffer = momentum * buffer + gradient, or the gradient alone.
        torch.testing.assert_close(buffer, 0.95 * before[name] + anew[name], rtol=1e-4, atol=1e-7)
    assert fingerprint(kept) != fingerprint(reset)


def test_the_change_is_one_line_of_the_log_and_a_resume_does_not_repeat_it(tmp_path: Path) -> None:
    whole = stages(tmp_path, RESET)
    line = (
        "second: lr 0.01 → 0.0004 · momentum 0.9 → 0.95 · weight_decay 0.01 → 0.002 · optimizer_state reset · "
        "jitter_p 0.8 → 0.5 · schedule constant → cosine"
    )
    go_on_from(whole, SECOND + 1, tmp_path)
    told = [text.partition("  ")[2] for text in (whole.folder.path / "log.txt").read_text().splitlines()]
    assert [text for text in told if text.startswith("second")] == [line, "second"]


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_a_state_that_cannot_be_there_is_no_option(tmp_path: Path, state: str) -> None:
    solved = '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n\n'
    body = STAGES.replace('[[phases]]\nname = "first"', solved + '[[phases]]\nname = "first"')
    recipe = write_recipe(tmp_path, body)
    for phase, reason in (
        ("head", "phase 'head' is solved on features, without an optimizer"),
        ("first", "no phase before 'first' takes gradient steps"),
    ):
        with pytest.raises(RecipeError) as caught:
            make_plan(load_recipe(recipe, sets=[f"phases.{phase}.optimizer_state={state}"]), 64)
        assert caught.value.message == (f'phases.{phase}.optimizer_state = "{state}" (--set) is not used: {reason}')
        assert caught.value.hint == "Leave it out: there is no state that it could keep or reset."
    other = ["phases.second.optimizer=lamb", "phases.second.momentum=none", f"phases.second.optimizer_state={state}"]
    with pytest.raises(RecipeError, match="phase 'first' before it has another optimizer, 'sgd'"):
        make_plan(load_recipe(recipe, sets=other), 64)
    make_plan(load_recipe(recipe, sets=other[2:]), 64)
    # What a checkpoint of another run brings along is a state, too.
    make_plan(load_recipe(recipe, sets=[f"phases.first.optimizer_state={state}", "model.weights=run:other@2"]), 64)


def test_an_unknown_state_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must be 'keep' or 'reset', got 'rest' .did you mean 'reset'"):
        load_recipe(write_recipe(tmp_path, STAGES), sets=["phases.second.optimizer_state=rest"])


def rows_of(log: str) -> list[dict[str, str]]:
    """The epochs of a log.txt, as docs/run-folder.md says they are read."""
    rows: dict[str, dict[str, str]] = {}
    for line in log.splitlines():
        words = line.split("  ", 1)[-1].split(" ")
        if line.partition("  ")[2].startswith("Checkpoint loaded, resuming from epoch "):
            rows = {step: row for step, row in rows.items() if int(row["epoch"]) <= int(words[-1])}
        elif words[0] == "Epoch":
            row = {"epoch": words[1].removesuffix(":"), **dict(word.split("=", 1) for word in words[2:])}
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows, key=int)]


def printed(value: object) -> object:
    """A value of history.jsonl as it is printed, read back."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_back(text: str, like: object) -> object:
    if like is None or isinstance(like, bool):
        return {"none": None, "true": True, "false": False}[text]
    return type(like)(text)


LONGER = ("phases.second.epochs=3", "phases.first.steps=4", "save.every_steps=3", "save.keep=2")


def test_a_log_with_kills_and_resumes_holds_the_rows_of_the_history(tmp_path: Path) -> None:
    whole = stages(tmp_path / "whole", *LONGER)
    killed = tmp_path / "killed"
    passings = {
        "after rename": 4,
        "before rename": 2,
    }  # after the checkpoint of epoch 2, before its line; and in the next

    def begin() -> None:
        torch.set_num_threads(1)
        if (killed / "runs" / "run" / "run.json").exists():
            resume("run", out=killed / "runs")
        else:
            stages(killed, *LONGER)

    def dying(point: str, passing: int) -> None:
        left = passing

        def reached(name: str) -> None:
            nonlocal left
            left -= name == point
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.reached = reached
        begin()

    for point, passing in passings.items():
        assert life(partial(dying, point, passing)) == -signal.SIGKILL
    assert life(begin) == 0
    log = (killed / "runs" / "run" / "log.txt").read_text()
    assert log.count("Checkpoint loaded, resuming from epoch 2") == 2
    run = open_run("run", killed / "runs")
    assert fingerprint(run) == fingerprint(whole)
    for one in (run, whole):
        history = one.folder.history()
        found = rows_of((one.folder.path / "log.txt").read_text())
        assert [[*row] for row in found] == [[*row] for row in history], "every key, in its order"
        for row, true in zip(found, history, strict=True):
            assert {key: read_back(row[key], true[key]) for key in true} == {key: printed(true[key]) for key in true}
        ends = [f"Checkpoint saved at epoch {row['epoch']}" for row in history]
        lines = [line.partition("  ")[2] for line in (one.folder.path / "log.txt").read_text().splitlines()]
        assert set(ends) - set(lines) <= ({"Checkpoint saved at epoch 2"} if one is run else set())
        assert any(line.startswith("Checkpoint saved at step ") for line in lines)
