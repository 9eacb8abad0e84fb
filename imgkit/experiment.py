"""One training from the first step, or from the last checkpoint, to a scored model: where everything meets.

    prepare  ->  [ solve | update ]  ->  at the end of an epoch: evaluate, choose, save  ->  export, score test once

The loop's only position is `step`. What has to be remembered besides weights is `Progress`, and it is JSON.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.data.batches import eval_batches, train_batches
from imgkit.data.transforms import TrainTransform
from imgkit.duration import format_seconds
from imgkit.errors import DeviceError, DiskError, ImgkitError, Interrupted
from imgkit.evaluate import score, store
from imgkit.features import extract, solve_head
from imgkit.finish import finish
from imgkit.metrics import METRICS
from imgkit.prepare import Setup
from imgkit.recipe.plan import PhasePlan
from imgkit.run import RunFolder, State
from imgkit.screen import Screen
from imgkit.signals import StopRequest, stop_on_signals
from imgkit.trainer import Trainer, Update

_LOG_EVERY = 10  # updates between rows of steps.jsonl
_TIME_AFTER = 10  # updates before the time left is estimated


@dataclass
class Progress:
    """What a run remembers besides weights. `loss_sum` and `images` belong to the epoch under way."""

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    epochs_without_gain: int = 0
    lr: float = 0.0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


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
        self.trainer = Trainer(
            setup.model,
            preprocessing=setup.preprocessing,
            device=setup.device,
            autocast=setup.autocast,
            seed=setup.recipe.seed,
        )
        self._checkpoints = folder.path / "checkpoints"
        self._began_s = self._last_save_s = time.monotonic()
        self._seconds_before = 0.0
        self._train_s = self._row_s = 0.0  # of the epoch under way: in updates alone; and when it began

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end; export and score.

        Raises:
            Interrupted: if a signal came; the run is saved and `imgkit resume` goes on.
            ImgkitError: what stopped it; status.json says so too.
        """
        total = self.setup.plan.total_steps
        try:
            with stop_on_signals() as request:
                self._restore()
                self.folder.set_status("running", step=self.progress.step, total_steps=total)
                self._train(request)
                finish(self.folder, self.setup, self.progress.history, self._elapsed_s(), self.screen)
                self.folder.set_status("finished", step=self.progress.step, total_steps=total, best=self.progress.best)
        except BaseException as error:
            self._say_why(error)
            if isinstance(error, torch.OutOfMemoryError):
                raise self._out_of_memory() from error
            raise

    def _restore(self) -> None:
        self.folder.clean()
        found = checkpoint.load(self._checkpoints, self.screen.warn)
        if found is None:
            return
        self.progress = Progress(**found.state["progress"])
        phase = self.setup.plan.phase_at(max(0, found.step - 1))
        self.trainer.restore(found.model, found.train, found.state["optimizer"], phase)
        self._seconds_before = self.progress.seconds
        self.folder.write_rows("history.jsonl", self.progress.history)
        steps = self.folder.rows("steps.jsonl")
        self.folder.write_rows("steps.jsonl", [row for row in steps if row["step"] <= found.step])
        self.screen.note(f"going on from step {found.step} of {self.setup.plan.total_steps}")

    def _train(self, request: StopRequest) -> None:
        """Phase after phase; an evaluation that was due when the run was saved comes first."""
        plan = self.setup.plan
        if self.progress.step > 0:
            self._close_epoch_if_due(plan.phase_at(self.progress.step - 1))
        for phase in plan.phases:
            if phase.stop <= self.progress.step or self.progress.stopped_early:
                continue
            self.screen.phase(phase.name)
            self.trainer.begin(phase)
            for update in self._solve(phase) if phase.solver == "logistic" else self._updates(phase):
                self._count(update, phase)
                self._poll(request, phase)
                self._close_epoch_if_due(phase)
                if self.progress.stopped_early:
                    break

    def _solve(self, phase: PhasePlan) -> Iterator[Update]:
        """Solve the head on features computed once; one step."""
        setup, rows = self.setup, self.setup.index.rows("train")
        batches = eval_batches(
            setup.index,
            rows,
            preprocessing=setup.preprocessing,
            batch_size=32,
            workers=setup.workers,
            max_pixels=setup.recipe.data.max_pixels,
        )
        with self.screen.progress("features") as progress:
            features = extract(
                setup.model,
                batches,
                preprocessing=setup.preprocessing,
                device=setup.device,
                progress=progress,
                total=len(rows),
            )
        groups = None if setup.index.groups is None else setup.index.groups[rows]
        solution = solve_head(
            features.values, features.targets, classes=len(setup.index.classes), groups=groups, seed=setup.recipe.seed
        )
        self.trainer.solve(solution)
        self.screen.note(
            f"head solved on {len(rows):,} images × {features.values.shape[1]:,} features, C = {solution.c:g}"
        )
        others = {other.loss.name for other in setup.plan.phases if other.lr is not None} - {"cross_entropy"}
        if others:
            self.screen.note(
                f"the solve minimises cross-entropy, whatever the loss of other phases ({', '.join(others)})"
            )
        yield Update(phase.stop, solution.cv_loss[solution.c], 0.0, 0.0, len(rows))

    def _updates(self, phase: PhasePlan) -> Iterator[Update]:
        """Gradient updates of a phase from the current step on."""
        setup, start = self.setup, self.progress.step
        batches = train_batches(
            setup.index,
            setup.index.rows("train"),
            transform=TrainTransform(setup.preprocessing, phase.augment),
            seed=setup.recipe.seed,
            first_epoch=phase.first_epoch,
            batch_size=phase.settings.batch_size,
            steps_per_epoch=phase.steps_per_epoch,
            start=start - phase.first_step,
            stop=phase.stop - phase.first_step,
            workers=setup.workers,
            max_pixels=setup.recipe.data.max_pixels,
        )
        with closing(batches):
            began = asked = time.monotonic()
            for update in self.trainer.train(phase, batches, start):
                self._train_s += time.monotonic() - asked
                pace = (time.monotonic() - began) / (update.step - start)
                if update.step - start == _TIME_AFTER and phase.steps_per_epoch > _TIME_AFTER:
                    left = format_seconds(pace * (phase.stop - update.step))
                    self.screen.fact("Time", f"about {left} for the rest of phase {phase.name}, besides evaluation")
                self.screen.update(update.step, self.setup.plan.total_steps, pace * (phase.stop - update.step))
                yield update
                asked = time.monotonic()

    def _count(self, update: Update, phase: PhasePlan) -> None:
        now = self.progress
        now.step, now.lr = update.step, update.lr
        now.loss_sum += update.loss * update.images
        now.images += update.images
        if update.step % _LOG_EVERY == 0 or phase.ends_epoch(update.step):
            row = {
                "step": update.step,
                "phase": phase.name,
                "loss": update.loss,
                "lr": update.lr,
                "grad_norm": update.grad_norm,
            }
            self.folder.append_row("steps.jsonl", row)
        self.folder.beat(step=update.step, total_steps=self.setup.plan.total_steps)

    def _poll(self, request: StopRequest, phase: PhasePlan) -> None:
        """Save when it is time; stop when somebody asked."""
        save = self.setup.recipe.save
        due = time.monotonic() - self._last_save_s > 60 * save.every_minutes
        due = due or (save.every_steps is not None and self.progress.step % save.every_steps == 0)
        if request.signal is not None:
            self._save()
            raise Interrupted(
                f"Stopped at step {self.progress.step} of {self.setup.plan.total_steps}; everything is saved.",
                f"Go on: imgkit resume {self.folder.name}",
                signal=request.signal,
            )
        if due and not phase.ends_epoch(self.progress.step):
            self._save_or_warn()

    def _close_epoch_if_due(self, phase: PhasePlan) -> None:
        """Evaluate on validation, choose the best, write history and checkpoint."""
        now = self.progress
        if not phase.ends_epoch(now.step) or (now.history and now.history[-1]["step"] == now.step):
            return
        metrics = self._evaluate("val")
        name = self.setup.recipe.monitor.removeprefix("val/")
        value = metrics[name]
        gain = now.best is None or (value > now.best["value"] if METRICS[name] == "max" else value < now.best["value"])
        if gain:
            now.best = {"step": now.step, "metric": self.setup.recipe.monitor, "value": value}
        now.epochs_without_gain = 0 if gain else now.epochs_without_gain + 1
        patience = self.setup.recipe.early_stop
        now.stopped_early = patience is not None and now.epochs_without_gain >= patience
        now.history.append(self._row(phase, metrics, best=gain))
        now.loss_sum, now.images = 0.0, 0
        self._save_or_warn()
        self.folder.write_rows("history.jsonl", now.history)
        self.screen.epoch({**now.history[-1], "left_s": self._left_s()})
        if now.stopped_early and now.step < self.setup.plan.total_steps:
            self.screen.note(f"stopped early: {patience} epochs without a better {self.setup.recipe.monitor}")

    def _row(self, phase: PhasePlan, metrics: dict[str, Any], *, best: bool) -> dict[str, Any]:
        now, solved = self.progress, phase.solver == "logistic"
        epochs = 0 if solved else math.ceil((now.step - phase.first_step) / phase.steps_per_epoch)
        return {
            "epoch": phase.first_epoch + epochs,
            "step": now.step,
            "phase": phase.name,
            "solved": solved,
            "lr": now.lr,
            "train_loss": now.loss_sum / now.images,
            **{f"val/{metric}": metrics[metric] for metric in METRICS},
            "best": best,
            "seconds": self._elapsed_s(),
            "images_per_second": now.images / self._train_s if self._train_s else None,
        }

    def _left_s(self) -> float | None:
        """Time to the end, at the pace of the epoch just closed, its evaluation included."""
        done = self.progress.step - (self.progress.history[-2]["step"] if len(self.progress.history) > 1 else 0)
        spent, self._row_s = self._elapsed_s() - self._row_s, self._elapsed_s()
        solved = self._train_s == 0.0
        self._train_s = 0.0
        return None if solved else spent / done * (self.setup.plan.total_steps - self.progress.step)

    def _evaluate(self, split: str) -> dict[str, Any]:
        setup = self.setup
        with self.screen.progress(f"scoring {split}") as progress:
            scores = score(
                self.trainer.scored_model,
                setup.index,
                setup.index.rows(split),
                preprocessing=setup.preprocessing,
                device=setup.device,
                workers=setup.workers,
                max_pixels=setup.recipe.data.max_pixels,
                progress=progress,
            )
        place = self.folder.path / "evaluations" / f"{split}@{self.progress.step}"
        return store(place, scores, setup.index, split=split, step=self.progress.step, seed=setup.recipe.seed)

    def _save(self) -> None:
        """Write a checkpoint of this step.

        Raises:
            DiskError: if it cannot be written.
        """
        now = self.progress
        now.seconds = self._elapsed_s()
        state = {
            "progress": asdict(now),
            "optimizer": self.trainer.numbers(),
            "fingerprint": self.setup.index.fingerprint,
        }
        checkpoint.save(
            self._checkpoints,
            Checkpoint(now.step, self.trainer.model.state_dict(), self.trainer.tensors(), state),
            keep=self.setup.recipe.save.keep,
            best=None if now.best is None else now.best["step"],
        )
        self._last_save_s = time.monotonic()

    def _save_or_warn(self) -> None:
        """A full disk does not stop training before the end: the next save may succeed; the last one has to."""
        try:
            self._save()
        except DiskError as error:
            if self.progress.step == self.setup.plan.total_steps or self.progress.stopped_early:
                raise
            self.screen.warn(f"{error.message} Training goes on.")
            self._last_save_s = time.monotonic()

    def _elapsed_s(self) -> float:
        return self._seconds_before + time.monotonic() - self._began_s

    def _say_why(self, error: BaseException) -> None:
        """Leave the reason in status.json, if the disk lets us."""
        reason = error.message if isinstance(error, ImgkitError) else f"{type(error).__name__}: {error}"
        state: State = "stopped" if isinstance(error, Interrupted) else "failed"
        with suppress(DiskError):
            total = self.setup.plan.total_steps
            self.folder.set_status(state, step=self.progress.step, total_steps=total, reason=reason)

    def _out_of_memory(self) -> DeviceError:
        phase = self.setup.plan.phase_at(min(self.progress.step, self.setup.plan.total_steps - 1))
        batch = phase.settings.micro_batch or phase.settings.batch_size
        return DeviceError(
            f"Out of memory on {self.setup.device} with {batch} images of {self.setup.preprocessing.size} at once.",
            f"Add --micro-batch {max(1, batch // 2)}: the same batch of {phase.settings.batch_size} in smaller parts."
            if batch > 1
            else "Try a smaller --image-size or a smaller model: imgkit models",
        )
