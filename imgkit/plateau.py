"""The plateau schedule: what lowers the rate where a score of validation stands still.

All other schedules are functions of progress alone. This one also depends on scores, so its counters are state: they
lie in `Progress`, and so in every checkpoint, and change only after an evaluation at the end of an epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from imgkit.duration import Duration
from imgkit.recipe.monitors import way
from imgkit.recipe.plan import PhasePlan
from imgkit.recipe.schedules import Plateau


@dataclass(frozen=True)
class Standstill:
    """What a plateau remembers within a phase.

    Attributes:
        best: best score since the warm-up; None before the first.
        waited: evaluations in a row without a gain.
        factor: what the rate is multiplied by, in (0, 1].
    """

    best: float | None = None
    waited: int = 0
    factor: float = 1.0

    def after(self, score: float, better: Literal["max", "min"], settings: Plateau) -> "Standstill":
        """What is remembered after one more evaluation, as torch's ReduceLROnPlateau does it.

        A gain is more than the share `threshold` of the best score; a score that is not a number is none. After more
        than `patience` evaluations in a row without a gain the factor falls, and the count starts again.
        """
        sign = 1.0 if better == "max" else -1.0
        first = self.best is None and not math.isnan(score)
        if first or (self.best is not None and sign * (score - self.best) > settings.threshold * abs(self.best)):
            return replace(self, best=score, waited=0)
        if self.waited < settings.patience:
            return replace(self, waited=self.waited + 1)
        return replace(self, waited=0, factor=max(settings.end, self.factor * settings.factor))


def watched_score(settings: Plateau, monitor: str) -> str:
    """The score that a plateau watches, as "val/loss"; `monitor` is the recipe's."""
    return monitor if settings.watch == "monitor" else settings.watch


def remembered(
    before: Mapping[str, Any], phase: PhasePlan, step: int, metrics: Mapping[str, Any], monitor: str
) -> dict[str, Any]:
    """What goes into `Progress.plateau` after the evaluation at `step`.

    Nothing counts within the warm-up, and the next phase begins anew.

    Args:
        before: what it was; empty at the start of a phase.
        phase: the one that made update `step`.
        step: updates of the run done.
        metrics: of validation, by name, with its task.
        monitor: the recipe's.
    """
    settings = phase.schedule
    if phase.lr is None or not isinstance(settings, Plateau) or step == phase.stop:
        return {}
    warmup = Duration.parse(settings.warmup).steps(phase.steps, phase.steps_per_epoch)
    if step - phase.first_step < warmup:
        return {}
    watched = watched_score(settings, monitor)
    score = metrics[watched.removeprefix("val/")]
    return asdict(Standstill(**before).after(score, way(watched, metrics["task"]), settings))
