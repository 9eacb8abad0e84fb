"""Checkpoints are written beside the training, which goes on as soon as what is saved has been copied.

A thread writes one checkpoint, by the protocol of `checkpoint.save`; the next one waits for it. The thread tells nobody
anything: what became of its checkpoint is told by the training, between two updates, so that nothing is called saved
before it is on the disk, and no line and no choice of a best epoch comes out of turn.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Thread

from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.epoch_log import saved_within_line
from imgkit.errors import DeviceError, DiskError, memory_told
from imgkit.progress import Progress, best_first
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.trainer import Trainer

Then = Callable[[bool], None]
"""Told, between two updates, whether a checkpoint is on the disk."""


class Saver:
    """Has the checkpoints of a run written, one at a time.

    Args:
        folder: of the checkpoints.
        setup: of the run.
        trainer: its weights, moments and averages are saved.
        screen: told what was saved, and what was not.

    Attributes:
        saved_step: of the newest checkpoint; one that is being written does not count.
        seconds: that the last one took, from its copy on.
    """

    def __init__(self, folder: Path, setup: Setup, trainer: Trainer, screen: Screen) -> None:
        self.saved_step = 0
        self.seconds = 0.0
        self._folder = folder
        self._setup = setup
        self._trainer = trainer
        self._screen = screen
        self._write: _Write | None = None

    def begin(self, now: Progress, then: Then, *, last: bool) -> None:
        """Copy the state between two updates and have it written; the checkpoint before is settled.

        Args:
            now: the position; may change from here on.
            then: told by `settle`.
            last: whether it has to be on the disk, so that a DiskError is raised by `settle`.

        Raises:
            DeviceError: if memory runs out.
        """
        assert self._write is None, "the one before is settled"
        began = time.monotonic()
        numbers, data = self._trainer.numbers(), self._setup.index.fingerprint
        state = {"progress": asdict(now), "optimizer": numbers, "fingerprint": data}
        no_memory = self._setup.no_memory_to_save(now.step)
        with memory_told(no_memory):
            found = Checkpoint(now.step, self._trainer.model.state_dict(), self._trainer.tensors(), state).copied()
        keep, best, good = self._setup.recipe.save.keep, None if now.best is None else now.best["step"], self._good(now)

        def save(warn: Callable[[str], object]) -> None:
            checkpoint.save(self._folder, found, keep=keep, best=best, good=good, warn=warn)

        within = not now.history or now.history[-1]["step"] != now.step  # else the epoch's lines say so
        write = _Write(save, now.step, began, no_memory, within=within, last=last, then=then)
        write.start()
        self._write = write

    def settle(self, *, wait: bool = True) -> None:
        """Tell what became of the checkpoint that was begun, if there is one.

        Args:
            wait: until it is written; otherwise one that still is stays for later.

        Raises:
            DiskError: if it was the last one and could not be written.
            DivergedError, DeviceError: if its numbers are not finite, or memory ran out.
        """
        write = self._write
        if write is None or (write.is_alive() and not wait):
            return
        write.join()
        self._write, self.seconds = None, write.seconds
        for text in write.warnings:
            self._screen.warn(text)
        if isinstance(write.error, DiskError):
            self.warn_or_raise(write.error, last=write.last)
        elif write.error is not None:
            with memory_told(write.no_memory):
                raise write.error
        else:
            self.saved_step = write.step
            if write.within:
                self._screen.event(saved_within_line(write.step))
        write.then(write.error is None)

    def settle_before(self, step: int) -> None:
        """Before the update that follows `step`: wait where a kill could cost more than `save.every_steps` updates."""
        every = self._setup.recipe.save.every_steps
        self.settle(wait=every is not None and step - self.saved_step >= every)

    def warn_or_raise(self, error: DiskError, *, last: bool) -> None:
        """A full disk does not stop training before the end: the next write may succeed; the last one has to."""
        if last:
            raise error
        self._screen.warn(f"{error.message} Training goes on.")

    def _good(self, now: Progress) -> list[int]:
        """The epochs whose checkpoints are kept for being among the best; one that could not be saved is not."""
        save, there = self._setup.recipe.save, {now.step, *checkpoint.steps(self._folder)}
        ranked = best_first(now.history, self._setup.recipe.monitor, self._setup.index.task)
        return [step for step in ranked if step in there][: max(save.keep_best, save.average_best or 1)]


class _Write(Thread):
    """The thread of one checkpoint; `error` is why it is not on the disk."""

    def __init__(
        self,
        save: Callable[[Callable[[str], object]], None],
        step: int,
        began: float,
        no_memory: DeviceError,
        *,
        within: bool,
        last: bool,
        then: Then,
    ) -> None:
        super().__init__(name=f"checkpoint of step {step}")
        self.step, self.no_memory, self.within, self.last, self.then = step, no_memory, within, last, then
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0
        self._save, self._began = save, began

    def run(self) -> None:
        try:
            self._save(self.warnings.append)
        except BaseException as error:  # raised by `settle`
            self.error = error
        self.seconds = time.monotonic() - self._began
        del self._save  # and the copy with it
