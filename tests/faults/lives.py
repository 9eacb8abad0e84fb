"""Lives of one run: each a forked process group, which spares the imports and may be killed at any instant."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import sklearn.linear_model  # noqa: F401  (imported here so that no forked life has to)
import torch
from oracle import fingerprint, short_run

from imgkit import Run, checkpoint, open_run, resume
from imgkit.errors import UsageError
from imgkit.experiment import Experiment

SAVE_EVERY = 2  # steps, of `short_run`
POINTS = (
    "before mkdir",
    *(f"write {name}" for name in (*checkpoint._FILES, "MANIFEST.json")),
    *(f"before fsync {name}" for name in (*checkpoint._FILES, "MANIFEST.json")),
    "before rename",
    "after rename",
    "before prune",
    "prune",
)
"""What each save passes, once there is something to remove."""
_LONGEST_S = 120.0

Begin = Callable[[Path, int], object]
"""Starts the run called "run" in a folder, with so many workers."""
Blow = tuple[tuple[str, int] | None, float | None]
"""How a life ends: at the n-th passing of a point, or after so many seconds; (None, None): by itself."""


class End(NamedTuple):
    """What a run that nobody disturbs ends with, and after how long."""

    print: str
    seconds: float


def life(work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Run `work` in a fork; SIGKILL its group after a while, unless None. Returns the exit status."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + (_LONGEST_S if kill_after_s is None else kill_after_s)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert kill_after_s is not None, f"no end within {_LONGEST_S:g} s"
    return os.waitstatus_to_exitcode(status)


def begin(folder: Path, workers: int) -> Run:
    """Start the usual run."""
    return short_run(folder, workers=workers)


def start_or_resume(folder: Path, workers: int, die_at: tuple[str, int] | None = None, start: Begin = begin) -> None:
    """Begin the run, or go on with it; die at the n-th passing of a point of the save protocol."""
    torch.set_num_threads(1)
    _note_steps(folder)
    if die_at is not None:
        point, countdown = die_at

        def reached(name: str) -> None:
            nonlocal countdown
            countdown -= name == point
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.reached = reached
    try:
        open_run("run", folder / "runs")
    except UsageError:
        start(folder, workers)  # a kill before there is a run leaves its name free
    else:
        resume("run", out=folder / "runs", workers=workers)


def kill_again_and_again(
    folder: Path, expected: str, draw: Random, kills: int, blow: Callable[[], Blow], start: Begin = begin
) -> Counter[str]:
    """Kill runs below `folder` so often and let the last one end: the figures of T-K but for where they died.

    "mismatches": runs whose end is not the expected one; "left": hidden files after it; "repeated": the most steps
    that a life did again.
    """
    seen = Counter(kills=0, mismatches=0, left=0, repeated=0)
    number = 0
    while True:
        place = folder / str(number)
        die_at, delay_s = blow() if seen["kills"] < kills else (None, None)
        code = life(partial(start_or_resume, place, draw.choice([0, 1, 2, 4]), die_at, start), delay_s)
        assert code in (0, -signal.SIGKILL), "a life ends by itself or by the kill, never by an error"
        if code == -signal.SIGKILL:
            seen["kills"] += 1
            continue
        seen["mismatches"] += fingerprint(open_run("run", place / "runs")) != expected
        seen["left"] += len(leftovers(place / "runs"))
        seen["repeated"] = max(seen["repeated"], most_repeated(place))
        shutil.rmtree(place)
        number += 1
        if seen["kills"] == kills:
            return seen


def leftovers(runs: Path) -> list[str]:
    """What is half written in runs' folders, but for the drafts of runs that never began: these go a day later."""
    return [entry.name for entry in runs.glob("run/**/.*") if "tmp" in entry.name or "trash" in entry.name]


def most_repeated(folder: Path) -> int:
    """The most steps that a life did again."""
    most = farthest = 0
    before = ""
    for line in (folder / "steps").read_text().splitlines():
        life, step = line.split()
        if life != before:
            most, before = max(most, farthest + 1 - int(step)), life
        farthest = max(farthest, int(step))
    return most


def newest(place: Path) -> int:
    """The newest checkpoint's step, -1 where there is none."""
    return max(checkpoint.steps(place / "checkpoints"), default=-1)


def _note_steps(folder: Path) -> None:
    """Have this process write each step that it makes, as it makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    count = Experiment._count
    journal = os.open(folder / "steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def noted(self: Experiment, update: object, phase: object) -> None:
        count(self, update, phase)  # type: ignore[arg-type]
        os.write(journal, f"{os.getpid()} {self.progress.step}\n".encode())

    Experiment._count = noted  # type: ignore[method-assign]
