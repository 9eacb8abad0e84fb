"""One worker of a sweep: takes up or draws a trial, trains it as an ordinary run, tells how it ended; and again."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from imgkit.data.rows import count
from imgkit.errors import DataError, DiskError, ImgkitError, Interrupted, WeightsError, disk_told
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.signals import Request, hear_signals
from imgkit.studies.plan import Asked as Study
from imgkit.studies.plan import Planned
from imgkit.studies.state import State, state_of, states
from imgkit.studies.work import Outcome, say_run, train_run
from imgkit.sweeps.library import quiet
from imgkit.sweeps.plan import Aim, Asked, plan_trial, run_name
from imgkit.sweeps.record import record_of, write_record
from imgkit.sweeps.space import suggest
from imgkit.sweeps.storage import HEARTBEAT_S, Trials, is_running, told

if TYPE_CHECKING:
    from optuna import Trial

Worker = Callable[[Mapping[str, Any], Request, Callable[[], object]], Outcome]
"""Does a job, see `cli.child`, apart from this process, and calls the third one again and again until it ends."""
PRUNED = "pruned: "
"""What the reason of a pruned run begins with, in its status.json."""
_WAIT_S = 1.0  # between looks for a trial that another worker left
_LIVES = 3  # of a run whose process is killed from outside, before its trial counts as failed
_HOPELESS = 3  # trials, none finished or pruned, after which a worker stops
_NOT_ITS_OWN = {kind.exit_code for kind in (DataError, WeightsError, DiskError)}  # circumstances, not a trial's values


@contextmanager
def turn(out: Path) -> Iterator[None]:
    """What only one worker of a folder does at a time; the system ends it with the process."""
    with disk_told(out):
        lock = FileLock(out / ".sweep.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Taken:
    """A trial that this worker has.

    Args:
        trial: the trial.
        lock: held until its end was told.
        again: whether another worker had it before.
    """

    trial: "Trial"
    lock: FileLock
    again: bool


def work(asked: Asked, trials: Trials, aim: Aim, screen: Screen, worker: Worker) -> None:
    """Train trials until there are as many as were asked for and each has ended.

    Raises:
        Interrupted: if a signal came; the run under way is saved, and any worker goes on with it.
        ImgkitError: what stopped a run that was no fault of its values, or all of the first trials.
    """
    waiting = False
    with hear_signals() as request:
        while True:
            if request.stop is not None:
                raise Interrupted("Stopped between trials.", "The same command goes on.", signal=request.stop)
            taken, others = take(asked, trials)
            if taken is not None:
                waiting = False
                _train(asked, trials, aim, taken, screen, worker, request)
                continue
            if not others:
                return
            if not waiting:
                screen.note(f"waiting for {count(others, 'trial')} of other workers; Ctrl-C ends this one alone")
                waiting = True
            time.sleep(_WAIT_S)


def take(asked: Asked, trials: Trials) -> tuple[Taken | None, int]:
    """A trial that nobody works on, or a new one, and how many others work on.

    Raises:
        DiskError: if the storage cannot be reached.
    """
    others = 0
    with turn(asked.out):
        for one in trials.all():
            if not is_running(one):
                continue
            lock = _lock(asked, one.number) if trials.is_ours(one) else None
            if lock is None:
                others += 1
            elif (trial := trials.taken_up(one.number)) is not None:
                return Taken(trial, lock, again=True), others
            else:
                lock.release()
        trial = trials.draw()
        if trial is None:
            return None, others
        lock = _lock(asked, trial.number)
        assert lock is not None, "nobody else knows of a trial that was drawn in this turn"
        return Taken(trial, lock, again=False), others


def _lock(asked: Asked, number: int) -> FileLock | None:
    """The lock of a trial, held; None where another worker holds it."""
    place = asked.out / ".locks"
    with disk_told(place):
        place.mkdir(exist_ok=True)
        lock = FileLock(place / run_name(asked, number))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
    return lock


def _train(
    asked: Asked, trials: Trials, aim: Aim, taken: Taken, screen: Screen, worker: Worker, request: Request
) -> None:
    """Train a trial to its end, and tell it; where it was stopped by what is no fault of its values, it is left."""
    trial = taken.trial
    try:
        with told(asked), quiet():
            values = suggest(trial, asked.sweep.space)
            trial.set_user_attr("run", run_name(asked, trial.number))
            trial.set_user_attr("host", socket.gethostname())
            trial.set_user_attr("pid", os.getpid())
        try:
            study, run = plan_trial(asked, trial.number, values)
        except ImgkitError as error:  # values that do not go together
            _end(asked, trials, aim, trial, "FAIL", reason=error.message)
            screen.warn(f"trial {trial.number}: {error.message}")
        else:
            state = states(study, [run])[run.name]
            many = f"{trial.number + 1} of {asked.sweep.trials} · {run.name}"
            say_run(screen, f"{many}{' · left by another worker' * taken.again}", run, asked.out, state)
            watch = Watch(trials, trial, aim, RunFolder(asked.out / run.name), request)
            _close(asked, trials, aim, trial, _live(study, run, state, screen, worker, watch), watch, screen)
        with turn(asked.out):
            write_record(asked.out, record_of(asked, aim, trials.all()))
        _stop_where_hopeless(trials)
    finally:
        taken.lock.release()


def _live(study: Study, run: Planned, state: State, screen: Screen, worker: Worker, watch: "Watch") -> Outcome:
    """Train a run, in more lives than one where its process is killed from outside."""
    for _ in range(_LIVES):
        if watch.was_pruned or watch.outer.stop is not None:
            return Outcome(0)
        outcome = train_run(study, run, state, screen, lambda job, own: worker(job, own, watch), watch.own)
        killed = outcome.code < 0 or outcome.code >= 128
        if not killed or watch.pruned is not None or watch.outer.stop is not None:
            break
        screen.note(f"{run.name} was ended from outside, {outcome.words}; it goes on")
        state = state_of(study.out, run)
    return outcome


class Watch:
    """Looks at a run while it trains: tells its trial each epoch, and ends it where it is to be pruned.

    Nothing is changed in the run, which is asked to stop as by a person: its path up to that step is that of any other.

    Args:
        trials: of the sweep.
        trial: the run's.
        aim: what is told.
        folder: the run's.
        request: what signals ask of this worker.
    """

    def __init__(self, trials: Trials, trial: "Trial", aim: Aim, folder: RunFolder, request: Request) -> None:
        self.trials, self.trial, self.aim, self.folder = trials, trial, aim, folder
        self.outer, self.own = request, Request()
        self.pruned: Mapping[str, Any] | None = None
        """The row of history.jsonl after which the trial was to be pruned."""
        self._seen = 0
        self._reported = {*trial._cached_frozen_trial.intermediate_values}
        self._size = -1
        self._beat_s = 0.0

    def __call__(self) -> None:
        """Look once; a storage that does not answer now is asked again at the next look."""
        self.own.stop = self.own.stop or self.outer.stop
        self.own.save, self.outer.save = self.own.save or self.outer.save, False
        try:
            self.look()
        except DiskError:
            return

    def look(self) -> None:
        """Tell what is new.

        Raises:
            DiskError: if the storage does not take it.
        """
        with told(self.trials.asked), quiet():
            if time.monotonic() - self._beat_s > HEARTBEAT_S:
                self.trials.beat(self.trial)
                self._beat_s = time.monotonic()
            file = self.folder.path / "history.jsonl"
            size = file.stat().st_size if file.is_file() else 0
            if size == self._size:
                return
            for number, row in enumerate(self.folder.history()):
                if number >= self._seen:
                    self._tell(number, row)
                    self._seen = number + 1
            self._size = size

    def _tell(self, number: int, row: Mapping[str, Any]) -> None:
        if number not in self._reported:
            self.trial.report(float(row[self.aim.monitor]), number)
            self._reported.add(number)
        last = row["step"] >= self.folder.read_json("status.json")["total_steps"]
        newest = number == max(self._reported)  # of a trial that was taken up, several are known at once
        if self.pruned is None and newest and not last and self.trial.should_prune():
            self.pruned = row
            self.own.stop = signal.SIGTERM

    @property
    def was_pruned(self) -> bool:
        """Whether the run has stopped because it was to be pruned, perhaps in another worker's time."""
        file = self.folder.path / "status.json"
        return file.is_file() and str(self.folder.read_json("status.json").get("reason", "")).startswith(PRUNED)

    def note_pruned(self) -> str:
        """Leave in status.json why the run stopped; that reason."""
        assert self.pruned is not None, "else it was not pruned"
        row, monitor = self.pruned, self.aim.monitor
        reason = f"{PRUNED}{monitor} {row[monitor]:.4g} at epoch {row['epoch']} is worse than the median of the trials"
        with self.folder.lock():
            status = self.folder.read_json("status.json")
            self.folder.write_json("status.json", status | {"state": "stopped", "reason": reason})
        return reason


def _close(
    asked: Asked, trials: Trials, aim: Aim, trial: "Trial", outcome: Outcome, watch: Watch, screen: Screen
) -> None:
    """Tell how a run ended; where circumstances ended it, nothing is told.

    Raises:
        Interrupted: if a signal asked this worker to stop.
        ImgkitError: what stopped the run, where it was no fault of its values.
    """
    folder = watch.folder
    status = folder.read_json("status.json") if (folder.path / "status.json").is_file() else {}
    finished = status.get("state") == "finished" and folder.has_model
    if watch.outer.stop is not None and not finished:
        raise Interrupted(f"Stopped in trial {trial.number}.", "The same command goes on.", signal=watch.outer.stop)
    if status:
        watch.look()
        with told(asked), quiet():
            trial.set_user_attr("data", str(folder.read_json("run.json")["data"]["fingerprint"]))
    if finished:  # also one that was to be pruned and was quicker
        value = float(status["best"]["value"])
        _end(asked, trials, aim, trial, "COMPLETE", value=value)
        screen.fact("Trial", f"{trial.number}: {aim.monitor} {value:.4g}")
    elif watch.was_pruned or watch.pruned is not None:
        reason = status["reason"] if watch.was_pruned else watch.note_pruned()
        _end(asked, trials, aim, trial, "PRUNED", reason=reason)
        screen.fact("Trial", f"{trial.number}: {reason}")
    elif outcome.exit_code in _NOT_ITS_OWN:
        raise outcome.error()
    else:
        _end(asked, trials, aim, trial, "FAIL", reason=f"failed {outcome.words}")
        screen.warn(f"trial {trial.number} failed {outcome.words.removesuffix('.')}. The others go on.")


def _end(
    asked: Asked,
    trials: Trials,
    aim: Aim,
    trial: "Trial",
    state: str,
    *,
    value: float | None = None,
    reason: str = "",
) -> None:
    from optuna.trial import TrialState

    with told(asked), quiet():
        if reason:
            trial.set_user_attr("reason", reason)
        trials.study.tell(trial, value, state=TrialState[state], skip_if_finished=True)


def _stop_where_hopeless(trials: Trials) -> None:
    """Raise what ended the last of the first trials, where all of them failed: so would the others.

    Raises:
        ImgkitError: then.
    """
    ended = [one for one in trials.all() if one.state.is_finished()]
    if len(ended) >= _HOPELESS and all(one.state.name == "FAIL" for one in ended):
        reason = ended[-1].user_attrs.get("reason", "")
        raise ImgkitError(
            f"None of {len(ended)} trials has ended well; the last one: {reason}",
            "Mend the space or the base, and give the sweep another name.",
        )
