"""One training from the first step, or from the last checkpoint, to a scored model: where everything meets.

    prepare  ->  [ solve | update ]  ->  at the end of an epoch: evaluate, choose, save  ->  export, score test once

The loop's only position is `step`. What has to be remembered besides weights is `Progress`, and it is JSON.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

from imgkit import checkpoint
from imgkit.duration import format_seconds
from imgkit.epoch_log import loaded_line, saved_line
from imgkit.errors import DataError, DiskError, ImgkitError, Interrupted, memory_told
from imgkit.finish import finish, write_page
from imgkit.following import lead, shared
from imgkit.head import pictures_of, solve_phase
from imgkit.plateau import remembered
from imgkit.plugin_files import plugin_words
from imgkit.progress import Progress
from imgkit.recipe.changes import phase_changes
from imgkit.recipe.monitors import is_better
from imgkit.recipe.plan import PhasePlan
from imgkit.records import Records
from imgkit.run import RunFolder, State
from imgkit.saving import Saver, Then
from imgkit.scoring import store
from imgkit.screen import Screen
from imgkit.setup import Setup, trainer_of
from imgkit.signals import Request, hear_signals
from imgkit.time_limit import TimeLimit, epoch_notes
from imgkit.tracked import config_of, tell_end
from imgkit.tracking import Tracking
from imgkit.trainer import Update
from imgkit.trunk import phase_batches
from imgkit.validation import Validation

_LOG_EVERY = 10  # updates between rows of steps.jsonl
_TIME_AFTER = 10  # updates before the time left is estimated


class Experiment:
    """The training loop of one run.

    Args:
        folder: the run; its lock is held by the caller.
        setup: what `prepare` or `reopen` made.
        screen: where people look.
    """

    def __init__(self, folder: RunFolder, setup: Setup, screen: Screen) -> None:
        self.folder = folder
        self.setup = setup
        self.screen = screen
        self.progress = Progress()
        self.trainer = trainer_of(setup)
        test, val = (len(setup.index.rows(split)) for split in ("test", "val"))
        mean = setup.recipe.save.average_best is not None
        self._limit = TimeLimit(setup.recipe.time_limit, closings=1 + mean + test / val)
        self._request = Request()
        self._checkpoints = folder.path / "checkpoints"
        self._validation = Validation(setup, self._watched)
        self._saver = Saver(self._checkpoints, setup, self.trainer, screen)
        self._tracking = Tracking(setup.recipe.run.track, screen.warn)
        self._began_s = self._last_save_s = time.monotonic()
        self._seconds_before = 0.0

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end; export and score.

        Raises:
            Interrupted: if a signal came; the run is saved and `imgkit resume` goes on.
            ImgkitError: what stopped it; status.json says so too.
        """
        try:
            with hear_signals() as self._request:
                lead(self.folder, self._request)
                self._records = self._restore()
                self._set_status("running")
                try:
                    with closing(self._validation):
                        self._train()
                finally:  # whatever ends it: what was begun is written
                    self._saver.settle()
                history = self.progress.history
                best = finish(self.folder, self.setup, history, self._elapsed_s(), self.screen, self._watched)
                # Before the run is called finished: what a kill keeps from trackers, the next resume tells them.
                tell_end(self._tracking, self.folder, self.setup, best, self.screen)
                step, total = self.progress.step, self.setup.plan.total_steps
                why = self._limit.reached(step, total) if self.progress.time_up else ""
                self._set_status("finished", reason=why, best=best)
                write_page(self.folder, self.screen)
        except BaseException as error:
            self._say_why(error)
            raise

    def _restore(self) -> Records:
        self.folder.clean()
        found = checkpoint.load(self._checkpoints, self.screen.warn)
        if found is not None:
            with checkpoint.fitting(self._checkpoints, found.step):
                if found.state["fingerprint"] != self.setup.index.fingerprint:
                    why = f"{self.folder.path / 'data/index.csv'} is not the data that the checkpoint was trained on."
                    raise DataError(why, "Put the file back as it was, or start a new run.")
                self.progress = Progress(**found.state["progress"])
                phase = self.setup.plan.phase_at(max(0, found.step - 1))
                self.trainer.restore(found.model, found.train, found.state["optimizer"], phase)
            self._saver.saved_step = found.step
            if found.step > 0:  # else it is where the run begins, a checkpoint of another run
                self._say_resumed()
        # A killed life took time after its last checkpoint, too; its last heartbeat knows how much.
        told = self.folder.read_json("status.json").get("seconds", 0.0)
        self._seconds_before = max(self.progress.seconds, told)
        self._tracking.start(self.folder.path.absolute(), config_of(self.folder, self.setup))
        return Records(self.folder, self.progress.history, step=self.progress.step, tracking=self._tracking)

    def _say_resumed(self) -> None:
        """Where the run goes on, and its last epoch again: a kill may have come between its checkpoint and its line."""
        history = self.progress.history
        self.screen.line(loaded_line(history[-1]["epoch"] if history else 0))
        self.screen.note(f"going on from step {self.progress.step} of {self.setup.plan.total_steps}")
        if history:
            self.screen.epoch(history[-1], monitor=self.setup.recipe.monitor)

    def _train(self) -> None:
        """Phase after phase; an evaluation that was due when the run was saved comes first."""
        plan = self.setup.plan
        if self.progress.step > 0:
            self._close_epoch_if_due(plan.phase_at(self.progress.step - 1))
        for phase in plan.phases:
            if phase.stop <= self.progress.step or self.progress.over:
                continue
            self._enter(phase)
            for update in self._solve(phase) if phase.solver == "logistic" else self._updates(phase):
                self._count(update, phase)
                self._poll(phase)
                self._close_epoch_if_due(phase)
                self._saver.settle_before(self.progress.step)
                if self.progress.over:
                    break

    def _enter(self, phase: PhasePlan) -> None:
        """Take up a phase; where it begins, what changes is said, and the moments are dropped if they are to be."""
        self._saver.settle()  # the line of the last epoch comes first, and no loader is forked beside the writer
        begins, before = self.progress.step == phase.first_step, self.setup.plan.trained_before(phase)
        if before is None and self.setup.start is not None:
            before = self.setup.start.phase
        changes = phase_changes(before, phase) if begins and before is not None and phase.lr is not None else ""
        self.screen.phase(phase.name, changes)
        if begins and phase.optimizer_state == "reset":
            self.trainer.forget()
        self.trainer.begin(phase)

    def _solve(self, phase: PhasePlan) -> Iterator[Update]:
        """Solve the head; one step."""
        solution = solve_phase(self.setup, phase, self.folder.path, self.screen, self._watched)
        self.trainer.solve(solution)
        yield Update(phase.stop, solution.cv_loss[solution.c], 0.0, 0.0, pictures_of(self.setup, phase))

    def _updates(self, phase: PhasePlan) -> Iterator[Update]:
        """Gradient updates of a phase from the current step on."""
        start = self.progress.step
        batches = phase_batches(self.setup, phase, start, self.screen, self._watched)
        shards = shared(self.setup, phase, self.trainer, start)
        self._validation.begin(phase)
        with closing(batches), memory_told(self.setup.no_memory(phase)), self.setup.files_told():
            began = asked = time.monotonic()
            for update in self.trainer.train(phase, batches, start, self._lowered, shards):
                self.progress.train_seconds += time.monotonic() - asked
                pace = (time.monotonic() - began) / (update.step - start)
                if update.step - start == _TIME_AFTER and phase.steps_per_epoch > _TIME_AFTER:
                    left = format_seconds(pace * (phase.stop - update.step))
                    self.screen.fact("Time", f"about {left} for the rest of phase {phase.name}, besides evaluation")
                self.screen.update(update.step, self.setup.plan.total_steps, pace * (phase.stop - update.step))
                yield update
                asked = time.monotonic()

    def _lowered(self) -> float:
        """What a plateau schedule multiplies the rate of the next update by."""
        return float(self.progress.plateau.get("factor", 1.0))

    def _count(self, update: Update, phase: PhasePlan) -> None:
        now = self.progress
        now.step, now.lr = update.step, update.lr
        now.loss_sum += update.loss * update.images
        now.images += update.images
        now.hits = now.hits.plus(update.hits)
        now.skipped += update.skipped
        if update.step % _LOG_EVERY == 0 or phase.ends_epoch(update.step):
            row = {
                "step": update.step,
                "phase": phase.name,
                "loss": update.loss,
                "lr": update.lr,
                "grad_norm": None if update.skipped else update.grad_norm,
            }
            self._records.step(row)
        with suppress(DiskError):
            total = self.setup.plan.total_steps
            self.folder.beat(step=update.step, total_steps=total, seconds=self._elapsed_s())

    def _poll(self, phase: PhasePlan) -> None:
        """Save when it is time; stop when somebody asked, or when the time is up.

        That the time is up is saved before the evaluation that follows: a kill during it must not move the end.
        """
        self._stop_if_asked()
        save, now = self.setup.recipe.save, self.progress
        now.time_up = now.step < self.setup.plan.total_steps and self._left_s() <= 0.0
        due = time.monotonic() - self._last_save_s > 60 * save.every_minutes
        due = due or (save.every_steps is not None and now.step % save.every_steps == 0) or self._request.save
        if now.time_up or (due and not phase.ends_epoch(now.step)):
            self._save()

    def _stop_if_asked(self) -> None:
        if self._request.stop is None:
            return
        self._saver.settle()
        if self.progress.step > self._saver.saved_step:
            self.screen.note(f"stopping: step {self.progress.step} is being saved")
            self._save(last=True)
            self._saver.settle()
        raise Interrupted(
            f"Stopped at step {self.progress.step} of {self.setup.plan.total_steps}; everything is saved.",
            f"Go on: imgkit resume {shlex.quote(self.folder.address)}{plugin_words(self.folder)}",
            signal=self._request.stop,
        )

    @contextmanager
    def _watched(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A line of progress over batches, between which the run stops when somebody asked."""
        with self.screen.progress(label) as show:

            def progress(done: int, total: int) -> None:
                show(done, total)
                self._stop_if_asked()

            yield progress

    def _close_epoch_if_due(self, phase: PhasePlan) -> None:
        """Evaluate on validation, choose the best, have the checkpoint written; then history and lines follow."""
        now = self.progress
        due = now.time_up or phase.ends_epoch(now.step)
        if not due or (now.history and now.history[-1]["step"] == now.step):
            return
        self._saver.settle()
        began = time.monotonic()
        unwritten: list[DiskError] = []
        metrics = self._evaluate(phase, unwritten.append)
        monitor, before = self.setup.recipe.monitor, now.best
        value = metrics[monitor.removeprefix("val/")]
        gain = before is None or is_better(value, before["value"], monitor, self.setup.index.task)
        if gain:
            now.best = {"step": now.step, "metric": monitor, "value": value}
        now.epochs_without_gain = 0 if gain else now.epochs_without_gain + 1
        patience = self.setup.recipe.early_stop
        now.stopped_early = patience is not None and now.epochs_without_gain >= patience
        lowered = self._lowered()
        now.plateau = remembered(now.plateau, phase, now.step, metrics, monitor)
        now.history.append(now.row(phase, metrics, best=gain, seconds=self._elapsed_s()))
        now.open_epoch()
        now.closing_seconds = closing = time.monotonic() - began
        notes, last = epoch_notes(now, phase, self.setup.recipe, self._limit, self.setup.plan.total_steps), self._at_end
        if self._lowered() < lowered:
            rate = f"the score stands still: the rate is now {self._lowered():.3g} times the schedule's"
            notes.insert(0, rate)

        def told(saved: bool) -> None:
            if gain and not saved:
                now.best, now.history[-1]["best"] = before, False  # weights that are not on the disk cannot be kept
            now.closing_seconds = closing + self._saver.seconds
            self._records.epoch(now.history)
            self._say_epoch(now.history[-1], saved)
            for text in notes:
                self.screen.note(text)
            for error in unwritten:  # told after the checkpoint is safe
                self._saver.warn_or_raise(error, last=last)

        self._save(told)

    def _say_epoch(self, row: Mapping[str, Any], saved: bool) -> None:
        left = self.progress.left_s(self.setup.plan.total_steps)
        left = None if left is None else min(left, max(0.0, self._left_s()))
        line = saved_line(row["epoch"]) if saved else ""
        self.screen.epoch(row, monitor=self.setup.recipe.monitor, left_s=left, saved=line)

    def _evaluate(self, phase: PhasePlan, unwritten: Callable[[DiskError], None]) -> dict[str, Any]:
        """The metrics of validation; `unwritten` takes the error where their folder cannot be written."""
        setup, step = self.setup, self.progress.step
        scores = self._validation.scores(self.trainer.scored_model, phase)
        return store(
            self.folder.path / "evaluations" / f"val@{step}",
            scores,
            setup.index,
            split="val",
            step=step,
            seed=setup.recipe.seed,
            fit_loss=setup.fits_loss,
            unwritten=unwritten,
        )

    def _save(self, then: Then = lambda saved: None, *, last: bool = False) -> None:
        """Have a checkpoint of this step written; `then` and `last` as in `Saver.begin`, where one at the end is last.

        Raises:
            DeviceError: if memory runs out.
        """
        self._saver.settle()  # one at a time; and where it is not on the disk, another epoch is the best
        asked, self._request.save = self._request.save, False  # one that comes from here on asks for the next
        self.progress.seconds = self._elapsed_s()
        self._saver.begin(self.progress, then, last=last or self._at_end)
        if asked:
            self._saver.settle()  # who asks for a save may end the run next
        self._last_save_s = time.monotonic()

    @property
    def _at_end(self) -> bool:
        """Whether no update follows."""
        return self.progress.step == self.setup.plan.total_steps or self.progress.over

    def _elapsed_s(self) -> float:
        return self._seconds_before + time.monotonic() - self._began_s

    def _left_s(self) -> float:
        return self._limit.left_s(self._elapsed_s(), self.progress.closing_seconds)

    def _set_status(self, state: State, *, reason: str = "", **more: object) -> None:
        step, total = self.progress.step, self.setup.plan.total_steps
        self.folder.set_status(state, step=step, total_steps=total, reason=reason, seconds=self._elapsed_s(), **more)

    def _say_why(self, error: BaseException) -> None:
        """Leave the reason in status.json, if the disk lets us."""
        reason = error.message if isinstance(error, ImgkitError) else f"{type(error).__name__}: {error}"
        state: State = "stopped" if isinstance(error, Interrupted) else "failed"
        with suppress(DiskError):
            self._set_status(state, reason=reason)
        self._tracking.finish(state)
