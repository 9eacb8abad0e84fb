"""A limit on the time of training, so that closing the run still fits; and what is said where a run ends early."""

import math

from imgkit.data.rows import count
from imgkit.duration import parse_seconds
from imgkit.progress import Progress
from imgkit.recipe.plan import PhasePlan
from imgkit.recipe.schema import Recipe


class TimeLimit:
    """How long a run may train.

    Args:
        text: such as "10m"; None: no limit.
        closings: evaluations, as multiples of one of validation, that follow the last update.
    """

    def __init__(self, text: str | None, *, closings: float) -> None:
        self._text = text
        self._seconds = math.inf if text is None else parse_seconds(text)
        self._closings = closings

    def left_s(self, elapsed_s: float, closing_s: float) -> float:
        """What is left for updates, if each evaluation takes as long as the last one.

        Args:
            elapsed_s: of all lives of the run.
            closing_s: what the last evaluation of validation took with its checkpoint; 0 before the first one.
        """
        return self._seconds - elapsed_s - self._closings * closing_s

    def reached(self, step: int, total: int) -> str:
        """What is said, and written into status.json, of a run that it stopped."""
        return f"time limit of {self._text}: stopped at step {step:,} of {total:,}"

    def unfinished(self, phase: PhasePlan, lr: float) -> str:
        """What the stop means for the schedule of the phase that was under way, at a rate of `lr`."""
        if phase.lr is None:
            return "the phases that follow are left out"
        return f"the schedule is not at its end: the rate is {lr:.3g}, its top {phase.lr:.3g}"


def epoch_notes(now: Progress, phase: PhasePlan, recipe: Recipe, limit: TimeLimit, total_steps: int) -> list[str]:
    """What is said after an epoch: updates that overflowed, and why the run ends before its plan."""
    notes = []
    if now.history[-1]["skipped"]:
        updates = count(now.history[-1]["skipped"], "update")
        notes.append(f"{updates} of this epoch overflowed in float16 and changed nothing but the loss scale")
    if now.time_up:
        notes.append(f"{limit.reached(now.step, total_steps)}; {limit.unfinished(phase, now.lr)}")
    elif now.stopped_early and now.step < total_steps:
        notes.append(f"stopped early: {recipe.early_stop} epochs without a better {recipe.monitor}")
    return notes
