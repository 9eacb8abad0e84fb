"""Checkpoints that are written beside the training: what goes on, what waits, and what is said when."""

import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracle import fingerprint, short_run

import imgkit
from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DiskError, Interrupted
from imgkit.experiment import Experiment
from imgkit.screen import Screen
from imgkit.trainer import Trainer

BESIDE = ("save.every_steps=none", "save.every_minutes=1e-9", "save.keep=all")
"""After every update, whatever is being written; all stay."""
WAITING = ("save.every_steps=1", "save.keep=all")
RARELY = ("save.every_steps=none",)
FILES = ("model.safetensors", "train.safetensors")
STEPS = 14  # of the short run
_LONGEST_S = 20.0


@contextmanager
def slow(seconds: float = 0.004, point: str = "") -> Iterator[None]:
    """A disk that takes its time at a point of each save, or at all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", lambda name: time.sleep(seconds) if point in name else None)
        yield


@contextmanager
def full_disk(step: int, folder: Path) -> Iterator[None]:
    """A disk that is full while the checkpoint of one step is written, and slow before."""

    def reached(point: str) -> None:
        if point == "before rename" and [*folder.glob(f"runs/run/checkpoints/.step-{step:08d}.tmp*")]:
            time.sleep(0.05)
            raise OSError(28, os.strerror(28))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", reached)
        yield


@contextmanager
def after_each_update(do: Callable[[Experiment], object]) -> Iterator[None]:
    """Have something done when an update was made, before its checkpoint is due."""
    count = Experiment._count

    def counted(self: Experiment, *given: object) -> None:
        count(self, *given)  # type: ignore[arg-type]  # as it was called
        do(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "_count", counted)
        yield


def saved(run: Path) -> dict[str, bytes]:
    """The tensors of every checkpoint of a run."""
    return {str(file.relative_to(run)): file.read_bytes() for name in FILES for file in run.rglob(f"step-*/{name}")}


def writers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("checkpoint of")]


def test_updates_are_made_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    on, held = threading.Event(), []
    folder = tmp_path / "runs" / "run"
    text: list[str] = []

    def hold(point: str) -> None:
        if point == "before rename" and [*folder.glob("checkpoints/.step-00000003.tmp*")]:
            held.append(on.wait(_LONGEST_S))

    def ask(experiment: Experiment) -> None:
        if experiment.progress.step == 3:
            experiment._last_save_s = -math.inf  # it is time
        if experiment.progress.step == 5:
            text.append((folder / "log.txt").read_text())
            assert checkpoint.steps(folder / "checkpoints") == [1]
            on.set()

    with pytest.MonkeyPatch.context() as patch, after_each_update(ask):
        patch.setattr(checkpoint, "reached", hold)
        run = short_run(tmp_path, *RARELY)
    assert held == [True], "the writer of step 3 was let go by update 5"
    assert "step 3" not in text[0], "nothing is called saved before it is"
    assert (folder / "log.txt").read_text().count("Checkpoint saved at step 3\n") == 1
    assert fingerprint(run) == fingerprint(short_run(tmp_path / "quiet", *RARELY))


def test_what_is_written_is_the_state_between_two_updates(tmp_path: Path) -> None:
    short_run(tmp_path / "waiting", *WAITING)
    with slow():
        short_run(tmp_path / "beside", *BESIDE)
    expected = saved(tmp_path / "waiting" / "runs")
    assert len(expected) == 2 * STEPS
    assert saved(tmp_path / "beside" / "runs") == expected
    # What protects, taken away: the check above must notice.
    with pytest.MonkeyPatch.context() as patch, slow():
        patch.setattr(Checkpoint, "copied", lambda self: self)
        short_run(tmp_path / "torn", *BESIDE)
    assert saved(tmp_path / "torn" / "runs").keys() == expected.keys()
    assert saved(tmp_path / "torn" / "runs") != expected


def test_one_is_written_at_a_time_and_the_next_one_waits(tmp_path: Path) -> None:
    save, events = checkpoint.save, []

    def noted(folder: Path, found: Checkpoint, **options: object) -> Path:
        assert threading.current_thread() is not threading.main_thread()
        events.append(("begins", found.step))
        target = save(folder, found, **options)  # type: ignore[arg-type]
        events.append(("ends", found.step))
        return target

    with pytest.MonkeyPatch.context() as patch, slow():
        patch.setattr(checkpoint, "save", noted)
        short_run(tmp_path, *BESIDE)
    steps = [step for what, step in events if what == "begins"]
    assert steps == [*range(1, STEPS + 1)]
    assert events == [(what, step) for step in steps for what in ("begins", "ends")]
    assert writers() == []


def test_lines_come_in_turn_and_tell_of_what_is_on_the_disk(tmp_path: Path) -> None:
    place, told = tmp_path / "runs" / "run" / "checkpoints", []
    event, epoch = Screen.event, Screen.epoch

    def on_disk(line: str, step: int) -> None:
        told.append((step, line))
        assert checkpoint.read(place, step).step == step

    def said(self: Screen, line: str) -> None:
        on_disk(line, int(line.rpartition(" ")[2]))
        event(self, line)

    def row(self: Screen, row: dict[str, int], **options: str) -> None:
        on_disk(options["saved"], row["step"])
        epoch(self, row, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, slow():
        patch.setattr(Screen, "event", said)
        patch.setattr(Screen, "epoch", row)
        run = short_run(tmp_path, *BESIDE)
    ends = {one["step"]: one["epoch"] for one in run.folder.history()}
    assert told == [
        (step, f"Checkpoint saved at epoch {ends[step]}" if step in ends else f"Checkpoint saved at step {step}")
        for step in range(1, STEPS + 1)
    ]
    log = (run.folder.path / "log.txt").read_text()
    assert [int(step) for step in re.findall(r"Epoch \d+: step=(\d+)", log)] == [*ends]
    assert log.index("Epoch 0: step=1") < log.index("Z  top"), "the line of an epoch comes before the next phase's"


@pytest.mark.parametrize("every", [2, 3])
def test_no_kill_costs_more_updates_than_every_steps(tmp_path: Path, every: int) -> None:
    lost = []

    def count(experiment: Experiment) -> None:
        lost.append(experiment.progress.step - max(checkpoint.steps(experiment._checkpoints), default=0))

    with slow(0.05, "before rename"), after_each_update(count):
        short_run(tmp_path, f"save.every_steps={every}")
    assert max(lost) == every


def test_a_save_that_fails_beside_the_training_is_told_once_and_its_epoch_is_not_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(10, tmp_path):
        run = short_run(tmp_path, *RARELY, "save.keep=all", "phases.all.epochs=3")
    rows = {row["step"]: row for row in run.folder.history()}
    assert [*rows] == [1, 5, 6, 10, 14, 18]
    assert checkpoint.steps(run.folder.path / "checkpoints") == [1, 5, 6, 14, 18]
    assert rows[10]["best"] is False
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Cannot write the checkpoint of step 10 in ") == 1
    assert said.count("Training goes on.") == 1
    log = (run.folder.path / "log.txt").read_text()
    assert f"Checkpoint saved at epoch {rows[10]['epoch']}\n" not in log


def test_a_stop_waits_for_what_is_being_written_and_saves_its_own_step(tmp_path: Path) -> None:
    def ask(experiment: Experiment) -> None:
        if experiment.progress.step == 3:
            experiment._last_save_s = -math.inf  # it is time
        if experiment.progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with slow(0.1, "before rename"), after_each_update(ask), pytest.raises(Interrupted, match="everything is saved"):
        short_run(tmp_path / "stopped", *RARELY, "save.keep=all")
    assert checkpoint.steps(tmp_path / "stopped/runs/run/checkpoints") == [1, 3, 4]
    assert writers() == []
    again = imgkit.resume("run", out=tmp_path / "stopped" / "runs")
    assert fingerprint(again) == fingerprint(short_run(tmp_path / "whole", *RARELY, "save.keep=all"))


def test_an_error_of_the_training_leaves_no_writer_behind(tmp_path: Path) -> None:
    def ask(experiment: Experiment) -> None:
        if experiment.progress.step == 3:
            experiment._last_save_s = -math.inf  # it is time
        if experiment.progress.step == 4:
            raise RuntimeError("broken")

    with slow(0.1, "before rename"), after_each_update(ask), pytest.raises(RuntimeError, match="broken"):
        short_run(tmp_path, *RARELY)
    assert checkpoint.steps(tmp_path / "runs/run/checkpoints")[-1] == 3
    assert "Checkpoint saved at step 3\n" in (tmp_path / "runs/run/log.txt").read_text()
    assert writers() == []


def test_weights_that_are_not_finite_end_the_run_though_they_are_found_beside_it(tmp_path: Path) -> None:
    tensors = Trainer.tensors

    def broken(self: Trainer) -> dict[str, object]:
        found: dict[str, object] = dict(tensors(self))
        return {name: value * float("nan") if name.startswith("ema/fc") else value for name, value in found.items()}  # type: ignore[operator]

    with pytest.MonkeyPatch.context() as patch, slow():
        patch.setattr(Trainer, "tensors", broken)
        with pytest.raises(imgkit.ImgkitError, match=r"^ema/fc\..* is no longer finite after step \d+, so this step"):
            short_run(tmp_path, *BESIDE)
    assert writers() == []


def test_the_last_one_has_to_be_on_the_disk(tmp_path: Path) -> None:
    with full_disk(STEPS, tmp_path), pytest.raises(DiskError, match="Cannot write the checkpoint of step 14") as caught:
        short_run(tmp_path, *RARELY)
    assert caught.value.exit_code == 7
    assert imgkit.resume("run", out=tmp_path / "runs").folder.read_json("status.json")["state"] == "finished"
