"""Goes through the runs of a study, one after another, each in a process of its own; a kill loses little."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgkit import errors
from imgkit.errors import ImgkitError, Interrupted
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.signals import SAVE, Request, hear_signals
from imgkit.studies.plan import Asked, Planned, typed
from imgkit.studies.state import Memory, State, is_held, state_of

_LOOK_S = 0.1  # between looks at the child and at signals


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        code: the exit code; negative: the number of the signal that ended the process.
        result: what it gave; None where it failed.
        kind: the name of the error's class; "" where there was none, or it could not be told.
        message: of the error.
        hint: of the error.
    """

    code: int
    result: Any = None
    kind: str = ""
    message: str = ""
    hint: str = ""

    def error(self) -> ImgkitError:
        """What went wrong, to be raised here."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, ImgkitError) and self.message:
            told = ImgkitError.__new__(kind)
            ImgkitError.__init__(told, self.message, self.hint)
            told.exit_code = self.code
            return told
        error = ImgkitError(f"A process of the study ended {self.words}.", "What it said stands above.")
        error.exit_code = self.exit_code
        return error

    @property
    def exit_code(self) -> int:
        """As a shell would give it: 137 for a SIGKILL."""
        return 128 - self.code if self.code < 0 else self.code

    @property
    def words(self) -> str:
        """`with exit code 6: the loss is no longer finite`."""
        if self.code < 0:
            return f"by signal {-self.code}" + " (was memory short?)" * (self.code == -9)
        return f"with exit code {self.code}" + (f": {self.message}" if self.message else "")


Worker = Callable[[Mapping[str, Any], Request], Outcome]
"""Does a job, see `cli.child`, apart from this process; passes on what signals ask."""


def in_a_process(job: Mapping[str, Any], request: Request, meanwhile: Callable[[], object] = lambda: None) -> Outcome:
    """Do a job in a fresh process; it hears no Ctrl-C of the terminal but through this one.

    `meanwhile` is called again and again until it ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-P", "-m", "imgkit.cli.child", json.dumps(job), str(file)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        asked: int | None = None
        while True:
            try:
                code = process.wait(_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                meanwhile()
                if request.stop is not None and asked is None:
                    asked = request.stop
                    process.send_signal(asked)
                if request.save and SAVE is not None:
                    request.save = False
                    process.send_signal(SAVE)
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return Outcome(code, **told)


def about_study(asked: Asked) -> dict[str, Any]:
    """What a child needs to read the study again."""
    return {
        "source": asked.study.source,
        "out": str(asked.out),
        "data": asked.data,
        "sets": list(asked.sets),
        "plugin": list(asked.plugin),
        "smoke": asked.smoke,
    }


def look(asked: Asked, names: Sequence[str], worker: Worker) -> dict[str, dict[str, Any]]:
    """The plan of each variant, by its name, once everything about it has been looked at.

    Raises:
        ImgkitError: all that is wrong with them.
    """
    with hear_signals() as request:
        outcome = worker({"do": "look", "study": about_study(asked), "variants": list(names)}, request)
        if request.stop is not None:
            raise Interrupted("Stopped before the first run.", "", signal=request.stop)
    if outcome.code != 0:
        raise outcome.error()
    found: dict[str, dict[str, Any]] = outcome.result
    return found


def work(asked: Asked, runs: Sequence[Planned], found: Mapping[str, State], screen: Screen, worker: Worker) -> Memory:
    """Train, resume and measure what is not done; what fails is recorded, and the others go on.

    Raises:
        Interrupted: if a signal came; the run under way is saved.
        DiskError: if the study's own files cannot be written.
    """
    memory = Memory.read(asked.out).only([run.name for run in runs])
    inference = asdict(asked.study.inference)
    with hear_signals() as request:
        for number, run in enumerate(runs, start=1):
            folder = RunFolder(asked.out / run.name)
            state = found[run.name]
            if state == "done" and memory.knows(folder, asked.study.train_images, inference):
                memory.failed.pop(run.name, None)
                continue
            say_run(screen, f"{number} of {len(runs)} · {run.name}", run, asked.out, state)
            outcome = train_run(asked, run, state, screen, worker, request)
            if outcome.code == 0:
                job = {
                    "do": "measure",
                    "run": run.name,
                    "out": str(asked.out),
                    "plugin": list(asked.plugin),
                    "train_images": asked.study.train_images,
                    "inference": inference,
                }
                outcome = worker(job, request)
            if request.stop is not None:
                raise Interrupted(
                    f"Stopped in run {run.name}; {number - 1} of {len(runs)} runs are behind it.",
                    "The same command goes on.",
                    signal=request.stop,
                )
            _record(memory, asked.out, run, outcome, screen)
    return memory


def say_run(screen: Screen, what: str, run: Planned, out: Path, state: State) -> None:
    """Which run is next, and what is done with it."""
    doing = {"new": typed(run.command(out)), "begun": "goes on", "done": "is trained; measured now"}
    screen.line()
    screen.fact("Run", what, doing[state])


def train_run(asked: Asked, run: Planned, state: State, screen: Screen, worker: Worker, request: Request) -> Outcome:
    """Begin a run, or go on with it; nothing, if it is finished."""
    if state == "done":
        return Outcome(0)
    if state == "begun":
        folder = RunFolder(asked.out / run.name)
        if is_held(folder):
            screen.note(f"{run.name} is still being trained by another process; waiting for it")
        while is_held(folder) and request.stop is None:
            time.sleep(_LOOK_S)
        if request.stop is not None or state_of(asked.out, run) == "done":
            return Outcome(0)
        plugin = [word for file in asked.plugin for word in ("--plugin", file)]
        return worker({"do": "command", "words": ["resume", run.name, "--runs", str(asked.out), *plugin]}, request)
    return worker({"do": "command", "words": run.command(asked.out)}, request)


def _record(memory: Memory, out: Path, run: Planned, outcome: Outcome, screen: Screen) -> None:
    if outcome.code == 0:
        memory.failed.pop(run.name, None)
        memory.measured[run.name] = outcome.result
    else:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        reason = outcome.words
        memory.failed[run.name] = {"code": outcome.exit_code, "reason": reason, "at": when}
        screen.warn(f"{run.name} failed {reason.removesuffix('.')}. The others go on.")
    memory.write(out)


def exit_code(memory: Memory, runs: Sequence[Planned]) -> int:
    """The code of the first run that failed, in the order of the study; 0 where none did."""
    codes = [memory.failed[run.name]["code"] for run in runs if run.name in memory.failed]
    return int(codes[0]) if codes else 0
