"""Runs of a ladder that differ in their seed alone, as one configuration; configurations in pairs of one seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgkit.report.seeds import t_interval
from imgkit.report.trials import Ladder, Trial
from imgkit.studies.estimates import Estimate, difference, verdict


@dataclass(frozen=True)
class Configuration:
    """Finished runs that are alike but for their seed.

    Args:
        trials: one a seed, the newest, by seed.
        against: macro F1 minus that of the baseline's configuration, in pairs of one seed; None for that itself, and
            without a seed in common.
    """

    trials: Sequence[Trial]
    against: Estimate | None

    @property
    def scores(self) -> Estimate:
        """Macro F1 by seed."""
        return Estimate({trial.run.seeds[0]: trial.score.merit for trial in self.trials})

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean; None for one seed and for seeds that agree."""
        return None if self.scores.half is None else t_interval([*self.scores.values.values()])

    @property
    def verdict(self) -> str:
        """What the pairs allow to say."""
        if self.against is None:
            return ""
        return verdict(self.against).replace("cannot be told apart", "not distinguishable")


def configurations(ladder: Ladder, baseline: Trial) -> list[Configuration]:
    """The configurations of a ladder, best mean first; none where each has one seed.

    Those that `seeds.with_means` takes together: finished, with a recipe; of several runs of a seed the newest.
    """
    alike: dict[str, dict[int, Trial]] = {}
    for trial in sorted(ladder.trials, key=lambda trial: (trial.run.created, trial.run.name)):
        if trial.run.likeness and trial.run.status == "finished":
            alike.setdefault(trial.run.likeness, {})[trial.run.seeds[0]] = trial
    if all(len(seeds) == 1 for seeds in alike.values()):
        return []
    base = {seed: trial.score.merit for seed, trial in alike.get(baseline.run.likeness, {}).items()}
    found = []
    for likeness, seeds in alike.items():
        own = {seed: trial.score.merit for seed, trial in seeds.items()}
        gap = None if likeness == baseline.run.likeness or not base else difference(own, base)
        found.append(Configuration([seeds[seed] for seed in sorted(seeds)], gap))
    return sorted(found, key=lambda one: (-one.scores.mean, one.trials[0].run.name))
