"""Intervals and effects against numbers computed by hand and by numpy."""

import numpy as np
import pytest

from imgkit.studies.estimates import Estimate, FoldDifference, difference, effects, verdict

RATE = {"rate": ("fast", "slow"), "loss": ("ce", "focal")}


def of(*values: float) -> Estimate:
    return Estimate(dict(enumerate(values)))


def test_the_interval_is_students() -> None:
    # s = 0.04, t(0.975, 2) = 4.302653: 4.302653 * 0.04 / sqrt(3) = 0.099366
    found = of(0.80, 0.84, 0.88)
    assert found.mean == pytest.approx(0.84)
    assert found.half == pytest.approx(0.099366, abs=1e-6)
    assert found.ends == pytest.approx((0.740634, 0.939366), abs=1e-6)


@pytest.mark.parametrize("values", [(0.7,), (0.7, 0.7, 0.7), (0.9 - 0.8, 0.5 - 0.4, 0.3 - 0.2)])
def test_one_seed_and_seeds_that_agree_have_no_interval(values: tuple[float, ...]) -> None:
    assert (of(*values).half, of(*values).ends) == (None, None)


def test_differences_are_taken_in_pairs_of_one_seed() -> None:
    found = difference({0: 0.9, 2: 0.6, 5: 0.5}, {0: 0.8, 1: 0.1, 2: 0.3})
    assert found is not None
    assert found.values == pytest.approx({0: 0.1, 2: 0.3})
    assert difference({0: 0.9}, {1: 0.9}) is None
    # In pairs an effect is seen that is far smaller than how seeds differ.
    seeds = np.array([0.1, 0.5, 0.9])
    paired = difference(dict(enumerate(seeds + np.array([0.010, 0.012, 0.011]))), dict(enumerate(seeds)))
    assert paired is not None
    assert verdict(paired) == "higher"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.1,), "one seed: no interval"),
        ((0.1, 0.1), "the same on every seed: no interval"),
        ((0.1, -0.1, 0.05), "cannot be told apart"),
        ((0.10, 0.11, 0.12), "higher"),
        ((-0.10, -0.11, -0.12), "lower"),
    ],
)
def test_what_a_difference_allows_to_say(values: tuple[float, ...], words: str) -> None:
    assert verdict(of(*values)) == words


def test_effects_of_two_by_two_by_hand() -> None:
    # Of one seed: fast+ce 1, fast+focal 3, slow+ce 6, slow+focal 12.
    values = {("fast", "ce"): 1.0, ("fast", "focal"): 3.0, ("slow", "ce"): 6.0, ("slow", "focal"): 12.0}
    found = {one.name: one.of({cell: {7: value} for cell, value in values.items()}) for one in effects(RATE)}
    means = {name: estimate.mean for name, estimate in found.items() if estimate is not None}
    assert means == {
        "rate: slow − fast": (6 - 1 + 12 - 3) / 2,
        "loss: focal − ce": (3 - 1 + 12 - 6) / 2,
        "rate: slow − fast × loss: focal − ce": (12 - 6) - (3 - 1),
    }


def test_effects_over_seeds_are_those_of_least_squares() -> None:
    """With dummy variables centred on 0 the coefficients of a full factorial are these effects."""
    draw = np.random.default_rng(0)
    seeds = range(5)
    cells = [(rate, loss) for rate in RATE["rate"] for loss in RATE["loss"]]
    scores = {cell: {seed: float(draw.normal()) for seed in seeds} for cell in cells}
    rows = [(cell, seed) for cell in cells for seed in seeds]
    a, b = (np.array([cell[at] == RATE[axis][1] for cell, _ in rows]) - 0.5 for at, axis in enumerate(RATE))
    design = np.stack([np.ones(len(rows)), a, b, a * b], axis=1)
    solved = np.linalg.lstsq(design, np.array([scores[cell][seed] for cell, seed in rows]), rcond=None)[0]
    found = [one.of(scores) for one in effects(RATE)]
    assert [one.mean for one in found if one is not None] == pytest.approx(solved[1:].tolist())
    per_seed = [
        (scores[cells[3]][s] - scores[cells[2]][s]) - (scores[cells[1]][s] - scores[cells[0]][s]) for s in seeds
    ]
    assert found[2] is not None
    assert found[2].half == pytest.approx(2.776445 * np.std(per_seed, ddof=1) / np.sqrt(5), rel=1e-6)


def test_three_factors_of_which_one_has_three_levels() -> None:
    axes = {"a": ("0", "1", "2"), "b": ("0", "1"), "c": ("0", "1")}
    draw = np.random.default_rng(1).normal(size=(3, 2, 2))
    values = {(str(i), str(j), str(k)): {0: float(draw[i, j, k])} for i in range(3) for j in range(2) for k in range(2)}
    found = {one.name: one.of(values) for one in effects(axes)}
    means = {name: one.mean for name, one in found.items() if one is not None}
    assert len(means) == 4 + 5
    assert means["a: 2 − 0"] == pytest.approx(draw[2].mean() - draw[0].mean())
    assert means["c: 1 − 0"] == pytest.approx(draw[:, :, 1].mean() - draw[:, :, 0].mean())
    inner = draw.mean(axis=2)  # over c
    assert means["a: 2 − 0 × b: 1 − 0"] == pytest.approx((inner[2, 1] - inner[2, 0]) - (inner[0, 1] - inner[0, 0]))


def test_an_effect_is_of_the_seeds_that_all_its_cells_have() -> None:
    values = {cell: {0: 1.0, 1: 2.0} for cell in effects(RATE)[0].weights}
    values["slow", "focal"] = {1: 4.0}
    found = effects(RATE)[0].of(values)
    assert found is not None
    assert list(found.values) == [1]
    values["slow", "focal"] = {}
    assert effects(RATE)[0].of(values) is None
    # An effect between levels of a factor of three needs no cell of the third.
    assert all(cell[0] != "2" for cell in effects({"a": ("0", "1", "2"), "b": ("0", "1")})[0].weights)


def test_a_difference_over_folds_counts_what_trainings_share() -> None:
    # s = 0.02, t(0.975, 2) = 4.302653, 1/3 + 0.5: 4.302653 * 0.02 * sqrt(0.833333) = 0.078555
    found = FoldDifference([0.08, 0.10, 0.12], ratio=0.5)
    assert (found.mean, found.half) == (pytest.approx(0.10), pytest.approx(0.078555, abs=1e-6))
    # t = 0.10 / (0.02 * sqrt(0.833333)) = 5.477226; of two degrees of freedom 1 - t / sqrt(t^2 + 2)
    assert found.p == pytest.approx(1 - 5.477226 / (5.477226**2 + 2) ** 0.5, abs=1e-6)
    assert found.verdict == "higher"
    assert FoldDifference([-value for value in found.values], ratio=0.5).verdict == "lower"
    assert FoldDifference([0.08, 0.10, 0.12], ratio=2.0).verdict == "cannot be told apart"


def test_folds_that_agree_have_no_interval() -> None:
    found = FoldDifference([0.1, 0.1, 0.1], ratio=0.25)
    assert (found.half, found.p, found.verdict) == (None, None, "the same on every fold: no interval")


def test_the_correction_keeps_to_5_percent_where_plain_students_does_not() -> None:
    # Differences of two equal networks, whose trainings share images: correlated by n_test / (n_test + n_train)
    rng, folds, shared = np.random.default_rng(0), 5, 0.2
    values = np.sqrt(shared) * rng.normal(size=(4000, 1)) + np.sqrt(1 - shared) * rng.normal(size=(4000, folds))
    half = [FoldDifference(row.tolist(), ratio=shared / (1 - shared)).half or 0.0 for row in values]
    outside = float((np.abs(values.mean(axis=1)) > half).mean())
    plain = [of(*row.tolist()).half or 0.0 for row in values]
    assert 0.035 < outside < 0.065
    assert float((np.abs(values.mean(axis=1)) > plain).mean()) > 0.1
