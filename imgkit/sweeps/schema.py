"""A sweep as values: what its file asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

from imgkit.recipe.given import Flag
from imgkit.studies.schema import Verb


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both of them among the values.

    Args:
        low: the least.
        high: the greatest.
        log: equal ratios are equally likely at first, not equal differences.
        step: from one value to the next; None: any number.
        whole: whole numbers; their step is 1 where there is none.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Choices:
    """Values without an order: at least two, each once. A list in them is a tuple."""

    values: tuple[object, ...]


Domain = Range | Choices


@dataclass(frozen=True)
class Sweep:
    """A sweep's file.

    Args:
        source: the file, or the name of a shipped sweep.
        name: of the sweep.
        verb: what each trial does.
        recipe: a shipped recipe's name or a TOML file.
        trials: how many.
        seed: of every trial, and of the draws that choose their values.
        sampler: "tpe" or "random".
        pruner: "median" or "none".
        startup_trials: so many are drawn at random, and finished, before the sampler models and the pruner prunes.
        warmup_epochs: no trial is pruned before so many evaluations.
        storage: a URL of PostgreSQL; None: a journal in the sweep's folder.
        base: recipe values of every trial.
        space: recipe key -> what it may be.
        places: recipe key -> the line of the file where its domain stands.
        verb_place: where the verb is given.
        text: the file.
    """

    source: str
    name: str
    verb: Verb
    recipe: str
    trials: int
    seed: int
    sampler: str
    pruner: str
    startup_trials: int
    warmup_epochs: int
    storage: str | None
    base: Mapping[str, Flag]
    space: Mapping[str, Domain]
    places: Mapping[str, str]
    verb_place: str
    text: str
