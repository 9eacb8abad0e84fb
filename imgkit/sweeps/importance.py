"""Which keys of a space a score hung on, from the finished trials of a sweep alone."""

from collections.abc import Mapping

from imgkit.errors import UsageError
from imgkit.sweeps.library import direction_of, quiet, require_optuna
from imgkit.sweeps.record import Record
from imgkit.sweeps.space import distributions

FEWEST = 4
"""Finished trials below which nothing is said."""
ROUGH = 30
"""Finished trials below which it is called rough."""


def importances(record: Record) -> Mapping[str, float]:
    """The share of the variance of the score that each key explains by itself, the greatest first; they sum to 1.

    Functional ANOVA of a random forest over the finished trials (Hutter, Hoos and Leyton-Brown 2014); the same for the
    same trials.

    Raises:
        UsageError: if they cannot be told; the message says why.
    """
    rows = record.finished
    if len(rows) < FEWEST or len({row.value for row in rows}) < 2:
        raise UsageError(
            f"With {len(rows)} finished trials of {len({row.value for row in rows})} scores none can be told.",
            f"It takes {FEWEST} finished trials that differ: let the sweep go on, or ask for more with --trials.",
        )
    require_optuna()
    import optuna

    with quiet():
        study = optuna.create_study(direction=direction_of(record.way))
        kinds = distributions(record.space)
        for row in rows:
            study.add_trial(optuna.create_trial(params=dict(row.params), distributions=kinds, value=row.value))
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
