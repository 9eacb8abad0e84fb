"""A limit on the time of training: when the last update has been made, so that closing the run still fits."""

import math

from imgkit.duration import parse_seconds
from imgkit.recipe.plan import PhasePlan


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
