"""The values that a sweep draws lie in its domains, and are what the recipe gets."""

from collections.abc import Mapping

import optuna
import pytest

from imgkit.sweeps.schema import Choices, Domain, Range
from imgkit.sweeps.space import corners, distributions, suggest, values_of

SPACE: Mapping[str, Domain] = {
    "a": Range(1e-4, 1.0, log=True),
    "b": Range(2, 9, whole=True),
    "c": Choices((True, 1, 1.0, "x", (0.5, 1.0))),
    "d": Range(0.0, 1.0, step=0.25),
}


def is_in(value: object, domain: Domain) -> bool:
    """Written anew from the definition of a domain."""
    if isinstance(domain, Choices):
        return any(type(one) is type(value) and one == value for one in domain.values)
    assert isinstance(value, int | float)
    assert isinstance(value, int) == domain.whole
    return domain.low <= value <= domain.high and (domain.step is None or (value - domain.low) % domain.step == 0)


def test_draws_lie_in_their_domains_and_are_given_again() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        values = suggest(trial, SPACE)
        assert [*values] == [*SPACE]
        assert all(is_in(values[key], domain) for key, domain in SPACE.items())
        assert suggest(trial, SPACE) == values == values_of(trial.params, SPACE)
        seen.add((type(values["c"]), values["c"]))
        study.tell(trial, 0.0)
    assert len(seen) == 5, "1, 1.0 and true are three choices"


def test_corners_hold_every_end_and_every_combination_of_choices() -> None:
    space = {**SPACE, "e": Choices(("p", "q"))}
    points = corners(space)
    assert all(is_in(point[key], domain) for point in points for key, domain in space.items())
    assert {(type(point["c"]), point["c"], point["e"]) for point in points} >= {
        (type(one), one, other)
        for one in SPACE["c"].values
        for other in ("p", "q")  # type: ignore[union-attr]
    }
    for key in ("a", "b", "d"):
        domain = space[key]
        assert isinstance(domain, Range)
        assert {domain.low, domain.high} <= {point[key] for point in points}
    many = {str(number): Choices(tuple(range(5))) for number in range(4)}
    assert len(corners(many)) == 1 + 4 * 4, "of 625 combinations each choice by itself"


@pytest.mark.parametrize("key", sorted(SPACE))
def test_distributions_are_optunas(key: str) -> None:
    (found,) = distributions({key: SPACE[key]}).values()
    assert optuna.distributions.json_to_distribution(optuna.distributions.distribution_to_json(found)) == found
