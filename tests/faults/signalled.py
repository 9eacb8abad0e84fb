"""A command in a fork that is sent a signal at a chosen moment, and what is wrong with how it took that."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from oracle import fingerprint, write_recipe

from imgkit import checkpoint, open_run
from imgkit.cli import app
from imgkit.errors import UsageError

PLACES = {
    "scan": "imgkit.prepare.load_data",
    "folder": "imgkit.prepare.begin",
    "solve": "imgkit.experiment.solve_phase",
    "step": "imgkit.trainer.Trainer._update",
    "evaluation": "imgkit.setup.Setup.score",
    "save": "imgkit.checkpoint.save",
    "export": "imgkit.finish.export_best",
    "page": "imgkit.experiment.write_page",
}
"""What a command does when the signal comes, and where that begins; with the page all else is done."""
GRACE_S = 2.0  # besides a step and a save
_LONGEST_S = 30.0


@dataclass(frozen=True)
class Moment:
    """When a command is signalled: so long after the n-th beginning of a place. `workers`: that load its images."""

    place: str
    nth: int
    delay_s: float
    workers: int


class Event(NamedTuple):
    """A step that was done or saved, at a time of the system's steady clock."""

    at_s: float
    what: str
    step: int


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, so long after the (last) signal; what it said; what it did; who was left."""

    code: int
    sent_s: float
    took_s: float
    said: str
    events: tuple[Event, ...]
    orphans: bool

    def late_s(self) -> float:
        """How much longer it took than its longest step and save before it: what a signal holds up is no excuse."""
        steps = [event.at_s for event in self.events if event.what == "update" and event.at_s <= self.sent_s]
        longest = max((after - before for before, after in itertools.pairwise(steps)), default=0.0)
        return self.took_s - longest  # between two updates there is a save, and now and then an evaluation


def send(folder: Path, moment: Moment, *signals: int, slow: bool = False, look: bool = True) -> Ended:
    """Run the usual run in a fork, without saves but at epochs, and send it signals, half a second apart.

    With `slow` the place takes half a minute. Ctrl-C goes to the whole group, as a terminal sends it.
    Without `look` nobody waits for what is left of the group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            _command(folder, moment, tell, slow)
        finally:
            os._exit(70)
    os.close(tell)
    assert os.read(told, 1) == b"x", f"{moment.place} was not reached {moment.nth} times: see {folder / 'said'}"
    os.close(told)
    time.sleep(moment.delay_s)
    for time_of_it, number in enumerate(signals):
        time.sleep(0.5 * bool(time_of_it))  # at once, two would be taken as one
        sent_s = time.monotonic()
        (os.killpg if number == signal.SIGINT else os.kill)(child, number)
    code = _exit_code(child)
    took_s = time.monotonic() - sent_s
    return Ended(code, sent_s, took_s, (folder / "said").read_text(), _events(folder), look and _is_left(child))


def faults(folder: Path, ended: Ended, number: int, whole: str) -> list[str]:
    """What is wrong with how the run in `folder` took one signal; `whole` is what it has to end with if it goes on."""
    after = [event for event in ended.events if event.at_s > ended.sent_s]
    updates = [event.step for event in after if event.what == "update"]
    found = ["a process was left"] * ended.orphans + [place.name for place in (folder / "runs").rglob(".*")]
    if number == signal.SIGUSR1:
        saves = [position for position, event in enumerate(after) if event.what == "save"]
        soon = not updates or (saves and sum(event.what == "update" for event in after[: saves[0]]) <= 1)
        found += [] if ended.code == 0 else [f"exit code {ended.code}"]
        found += [] if soon else ["no checkpoint after the step"]
        return found if found or fingerprint(open_run("run", folder / "runs")) == whole else ["another end"]
    found += [] if ended.code == 128 + number else [f"exit code {ended.code}"]
    found += [f"{len(updates)} more steps"] * (len(updates) > 1)
    found += [f"{ended.late_s():.1f} s late"] * (ended.late_s() > GRACE_S)
    done = max((event.step for event in ended.events if event.what == "update"), default=0)
    return found + (["the step is not saved"] if _saved(folder) != done else [])


def _saved(folder: Path) -> int:
    """The step of the newest checkpoint that can be loaded; 0 where there is none."""
    try:
        run = open_run("run", folder / "runs")
    except UsageError:
        return 0
    found = checkpoint.load(run.folder.path / "checkpoints", pytest.fail)
    return 0 if found is None else found.step


def _command(folder: Path, moment: Moment, tell: int, slow: bool) -> None:
    """What the fork does: `imgkit finetune`, as a shell would start it."""
    torch.set_num_threads(1)
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    _tell_when_reached(patch, moment, tell, slow)
    _note(patch, folder)
    words = ["finetune", "test_resnet", "--recipe", write_recipe(folder), "--data", "synthetic:3x16", "--name", "run"]
    words += ["--out", str(folder / "runs"), "--set", "save.every_steps=none", "--workers", str(moment.workers)]
    sys.argv = ["imgkit", *words]
    try:
        app.main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def _tell_when_reached(patch: pytest.MonkeyPatch, moment: Moment, tell: int, slow: bool) -> None:
    left = moment.nth

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(tell, b"x")
            if slow:
                time.sleep(_LONGEST_S)

    _before(patch, PLACES[moment.place], lambda *_: reached())


def _note(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have this process write each update that it has made and each checkpoint that it has saved, with the time."""
    journal = os.open(folder / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC)

    def note(what: str, step: int) -> None:
        os.write(journal, f"{time.monotonic()} {what} {step}\n".encode())

    _before(patch, "imgkit.experiment.Experiment._poll", lambda self, phase: note("update", self.progress.step))
    save = checkpoint.save

    def saved(place: Path, found: checkpoint.Checkpoint, **options: Any) -> Path:  # noqa: ANN401
        target = save(place, found, **options)
        note("save", found.step)
        return target

    patch.setattr(checkpoint, "save", saved)


def _before(patch: pytest.MonkeyPatch, place: str, do: Callable[..., object]) -> None:
    """Have a function do something first."""
    from pkgutil import resolve_name

    owner, _, name = place.rpartition(".")
    real = getattr(resolve_name(owner), name)

    def first(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        do(*arguments)
        return real(*arguments, **options)

    patch.setattr(place, first)


def _events(folder: Path) -> tuple[Event, ...]:
    lines = (folder / "events").read_text().splitlines() if (folder / "events").exists() else []
    return tuple(Event(float(at), what, int(step)) for at, what, step in (line.split() for line in lines))


def _exit_code(child: int) -> int:
    end = time.monotonic() + _LONGEST_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _is_left(group: int) -> bool:
    """Whether a process of a group is alive half a second later; it is ended then."""
    for _ in range(50):
        if not _alive(group):
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True


def _alive(group: int) -> bool:
    """Whether a group has a process but for dead ones that nobody has asked about."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = file.read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state not in "ZX":
                return True
    return False
