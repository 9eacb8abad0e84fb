"""SIGKILL at any instant, with any number of workers: the resumed run ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no forked life has to)
import torch
from oracle import fingerprint, short_run, write_recipe

import imgkit.experiment  # noqa: F401  (likewise)
from imgkit import checkpoint, open_run, resume
from imgkit.errors import UsageError
from imgkit.evaluate import store
from imgkit.report.collect import collect

RANDOM_KILLS = 16
KILLS_INSIDE_SAVE = 12
FRESH_KILLS = 10
POINTS = (
    "before mkdir",
    "write model.safetensors",
    "before fsync train.safetensors",
    "write state.json",
    "write MANIFEST.json",
    "before rename",
    "after rename",
    "before prune",
    "prune",
)


def life(work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Run `work` in a forked process group of its own; SIGKILL the group after a while. Returns the exit status.

    Forking spares the imports of a new process, so that a life takes a second.
    """
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + (120 if kill_after_s is None else kill_after_s)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start_or_resume(folder: Path, workers: int, die_at: tuple[str, int] | None = None) -> None:
    """Begin the run, or go on with it; die at the n-th passing of a point of the save protocol."""
    torch.set_num_threads(1)
    if die_at is not None:
        point, countdown = die_at

        def reached(name: str) -> None:
            nonlocal countdown
            if name == point:
                countdown -= 1
                if countdown == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.reached = reached
    try:
        open_run("run", folder / "runs")
    except UsageError:
        short_run(folder, workers=workers)  # a kill before there is a run leaves its name free
    else:
        resume("run", out=folder / "runs", workers=workers)


@pytest.mark.timeout(900)
def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    began = time.monotonic()
    assert life(lambda: short_run(tmp_path / "oracle")) == 0
    whole_s = time.monotonic() - began
    expected = fingerprint(open_run("run", tmp_path / "oracle" / "runs"))

    draw = random.Random(0)
    kills = inside = 0
    folder = tmp_path / "killed"
    rounds = 0
    while kills < RANDOM_KILLS + KILLS_INSIDE_SAVE:
        workers = draw.choice([0, 1, 2, 4])
        die_at = (
            (POINTS[inside % len(POINTS)], draw.choice([1, 2])) if kills % 2 and inside < KILLS_INSIDE_SAVE else None
        )
        delay = None if die_at else draw.uniform(0.1, whole_s)
        code = life(partial(start_or_resume, folder, workers, die_at), delay)
        assert code in (0, -signal.SIGKILL), "a life ends by itself or by the kill, never by an error"
        if code == 0:  # it got through: compare, and start another one
            assert fingerprint(open_run("run", folder / "runs")) == expected
            rounds += 1
            folder = tmp_path / f"killed-{rounds}"
        else:
            kills += 1
            inside += die_at is not None
    assert life(lambda: start_or_resume(folder, 0)) == 0
    assert fingerprint(open_run("run", folder / "runs")) == expected
    assert inside >= 6
    hidden = [
        entry.name for entry in (folder / "runs" / "run").rglob(".*") if "tmp" in entry.name or "trash" in entry.name
    ]
    assert hidden == [], "nothing half written is left"


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_kills_while_a_run_begins_leave_its_name_free(tmp_path: Path) -> None:
    whole = short_run(tmp_path / "oracle")
    folder, place = tmp_path / "killed", tmp_path / "killed" / "runs" / "run"
    places = ["RunFolder.write_text", "RunFolder.set_status", "RunFolder.write_json", "_name", "RunFolder.announce"]
    for number, name in enumerate(places):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"imgkit.run.{name}", die)
            assert life(partial(start_or_resume, folder, 0)) == -signal.SIGKILL
        assert place.exists() == (place / "run.json").exists() == (name == "RunFolder.announce")
        hidden = [entry.name for entry in place.parent.iterdir() if entry != place]
        assert len(hidden) == min(number + 1, 4), "one of each start that did not get to its name"
        assert all(entry.startswith(".run.tmp-") for entry in hidden)
        assert [run.name for run in collect(place.parent)] == ["run"] * place.exists()
    assert life(lambda: start_or_resume(folder, 0)) == 0
    assert fingerprint(open_run("run", place.parent)) == fingerprint(whole)


@pytest.mark.parametrize(
    "place",
    [
        "experiment.store",
        "finish.export_best",
        "finish.calibrate",
        "finish.save_model_folder",
        "finish.store",
        "finish._say_result",
    ],
)
def test_kills_between_the_last_update_and_the_end(tmp_path: Path, place: str) -> None:
    whole = short_run(tmp_path / "oracle", "data.test=0.25", data="synthetic:3x24")
    work = partial(short_run, tmp_path / "killed", "data.test=0.25", data="synthetic:3x24")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"imgkit.{place}", die)
        assert life(work) == -signal.SIGKILL
    assert life(lambda: start_or_resume(tmp_path / "killed", 0)) == 0
    killed = open_run("run", tmp_path / "killed" / "runs")
    assert fingerprint(killed) == fingerprint(whole)
    assert killed.metrics == whole.metrics
    tensors = [run.folder.path / "model" / "model.safetensors" for run in (whole, killed)]
    assert tensors[0].read_bytes() == tensors[1].read_bytes()


LIMIT = ("time_limit=8s", "save.average_best=3", "monitor=val/loss")


@pytest.mark.parametrize(
    "place", ["experiment.store", "average.store", "finish.export_best", "finish.save_model_folder"]
)
def test_kills_where_the_time_is_up_and_the_best_are_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("imgkit.experiment.Experiment._elapsed_s", lambda self: float(self.progress.step))
    whole = short_run(tmp_path / "oracle", *LIMIT)
    reached = whole.folder.read_json("status.json")["step"]
    assert reached == 8

    def kill(folder: Path, *arguments: object, **options: object) -> dict[str, object]:
        if place != "experiment.store" or folder.name == f"val@{reached}":
            os.kill(os.getpid(), signal.SIGKILL)
        return store(folder, *arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"imgkit.{place}", kill)
        assert life(partial(short_run, tmp_path / "killed", *LIMIT)) == -signal.SIGKILL
    # However quick the next life is, the end stays where it was.
    monkeypatch.setattr("imgkit.experiment.Experiment._elapsed_s", lambda self: 0.0)
    assert life(lambda: start_or_resume(tmp_path / "killed", 0)) == 0
    killed = open_run("run", tmp_path / "killed" / "runs")
    assert fingerprint(killed) == fingerprint(whole)
    assert killed.metrics == whole.metrics
    tensors = [run.folder.path / "model" / "model.safetensors" for run in (whole, killed)]
    assert tensors[0].read_bytes() == tensors[1].read_bytes()
    statuses = [run.folder.read_json("status.json") for run in (whole, killed)]
    assert [(status["step"], status["reason"], status["best"]) for status in statuses[1:]] == [
        (statuses[0]["step"], statuses[0]["reason"], statuses[0]["best"])
    ]


def test_a_kill_while_a_damaged_checkpoint_is_replaced(tmp_path: Path) -> None:
    whole = short_run(tmp_path / "oracle")
    assert life(lambda: start_or_resume(tmp_path / "killed", 0, ("before prune", 4))) == -signal.SIGKILL
    step = newest(tmp_path / "killed" / "runs" / "run")
    damaged = tmp_path / "killed" / "runs" / "run" / "checkpoints" / f"step-{step:08d}" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert life(lambda: start_or_resume(tmp_path / "killed", 0, ("replace", 1))) == -signal.SIGKILL
    assert life(lambda: start_or_resume(tmp_path / "killed", 0)) == 0
    assert fingerprint(open_run("run", tmp_path / "killed" / "runs")) == fingerprint(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fresh_processes_with_two_threads_on_lite0(tmp_path: Path) -> None:
    """The same promise for a real network, in processes that share nothing, killed while they train."""
    runs = str(tmp_path / "runs")
    begin = ["finetune", "tf_efficientnet_lite0", "--recipe", write_recipe(tmp_path), "--data", "synthetic:3x16"]
    begin += ["--out", runs]
    begin += ["--set", "run.threads=2", "--set", "save.every_steps=1", "--set", "phases.all.epochs=8"]

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "imgkit", *arguments]
        return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)

    assert start(*begin, "--name", "oracle").wait(600) == 0
    draw = random.Random(1)
    kills = 0
    place = tmp_path / "runs" / "killed"
    while kills < FRESH_KILLS:
        known = (place / "run.json").is_file()
        resumed = ("resume", "killed", "--runs", runs, "--workers", str(draw.choice([0, 1, 2])))
        before = newest(place)
        process = start(*(resumed if known else (*begin, "--name", "killed")))
        # Let it get one checkpoint further, then kill it a random moment later.
        while process.poll() is None and newest(place) <= before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        assert process.poll() is None, "the run is long enough for every kill"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert start("resume", "killed", "--runs", runs).wait(600) == 0
    whole, killed = (open_run(name, tmp_path / "runs") for name in ("oracle", "killed"))
    assert fingerprint(whole) == fingerprint(killed)


def newest(place: Path) -> int:
    """The newest checkpoint's step, -1 where there is none."""
    return max(checkpoint.steps(place / "checkpoints"), default=-1)
