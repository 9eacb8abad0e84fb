import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import f1_score

from imgkit.multilabel import redraws
from imgkit.report.compare import FEW_DISCORDANT, compare, holm, macro_f1, mcnemar

Ints = npt.NDArray[np.int64]
Cells = npt.NDArray[np.float64]


def labels(seed: int, n: int = 120, classes: int = 5) -> tuple[Ints, Ints, Ints]:
    """What is true, and two answers that are right on most images; the last class has no image."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes - 1, n)
    base, other = (np.where(rng.random(n) < share, targets, rng.integers(0, classes, n)) for share in (0.7, 0.8))
    return targets, base, other


def sets(seed: int, n: int = 80, classes: int = 6) -> tuple[npt.NDArray[np.bool_], ...]:
    rng = np.random.default_rng(seed)
    targets = rng.random((n, classes)) < np.linspace(0.05, 0.6, classes)
    targets[:, 2] = False  # a label without support
    return targets, targets ^ (rng.random((n, classes)) < 0.15), targets ^ (rng.random((n, classes)) < 0.1)


def sklearn_f1(targets: npt.NDArray[np.generic], answers: npt.NDArray[np.generic], weights: object = None) -> float:
    if targets.ndim == 1:
        kept = np.unique(targets)
    else:
        seen = targets if weights is None else targets[np.asarray(weights) > 0]
        kept = np.flatnonzero(seen.any(axis=0))
    given = {"labels": kept, "average": "macro", "zero_division": 0, "sample_weight": weights}
    return float(f1_score(targets, answers, **given))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [labels, sets])
def test_scores_and_their_differences_are_scikit_learns(make, seed: int) -> None:  # noqa: ANN001
    targets, base, other = make(seed)
    found = compare(targets, base, other, draws=20)
    assert macro_f1(targets, base) == pytest.approx(sklearn_f1(targets, base), abs=1e-12)
    assert found.f1.value == pytest.approx(sklearn_f1(targets, other) - sklearn_f1(targets, base), abs=1e-12)
    hits = [(part == targets) if part.ndim == 1 else (part == targets).all(axis=1) for part in (base, other)]
    assert found.right.value == pytest.approx(hits[1].mean() - hits[0].mean(), abs=1e-12)
    assert (found.test.gained, found.test.lost) == ((hits[1] > hits[0]).sum(), (hits[0] > hits[1]).sum())
    assert found.n == len(targets)


def test_the_interval_is_that_of_runs_scored_on_redrawn_images_of_each_class() -> None:
    targets, base, other = labels(3)
    rng, support, draws = np.random.default_rng(7), np.bincount(targets), 60
    weights = np.zeros((draws, len(targets)))  # of each image in each draw
    for label in np.unique(targets):
        pairs = sorted({(base[i], other[i]) for i in np.flatnonzero(targets == label)})
        of = [np.flatnonzero((targets == label) & (base == one) & (other == two)) for one, two in pairs]
        drawn = rng.multinomial(support[label] - 1, [len(i) / support[label] for i in of], size=draws)
        for images, times in zip(of, drawn.T, strict=True):
            weights[:, images[0]] = times * support[label] / (support[label] - 1)  # one image for all that are alike
    f1 = [sklearn_f1(targets, other, w) - sklearn_f1(targets, base, w) for w in weights]
    right = [w @ (other == targets) / w.sum() - w @ (base == targets) / w.sum() for w in weights]
    found = compare(targets, base, other, draws=draws, seed=7)
    for gap, drawn in ((found.f1, f1), (found.right, right)):
        assert gap.interval == pytest.approx(2 * gap.value - np.percentile(drawn, [97.5, 2.5]), abs=1e-12)


def test_the_interval_of_sets_is_that_of_runs_scored_on_redrawn_images() -> None:
    targets, base, other = sets(1)
    (_, times), *_ = redraws(len(targets), 60, 7)
    f1 = [sklearn_f1(targets, other, w) - sklearn_f1(targets, base, w) for w in times]
    exact = [(part == targets).all(axis=1) for part in (base, other)]
    right = [w @ exact[1] / w.sum() - w @ exact[0] / w.sum() for w in times]
    found = compare(targets, base, other, draws=60, seed=7)
    for gap, drawn in ((found.f1, f1), (found.right, right)):
        assert gap.interval == pytest.approx(2 * gap.value - np.percentile(drawn, [97.5, 2.5]), abs=1e-12)


@given(seed=st.integers(0, 1000), make=st.sampled_from([labels, sets]))
@settings(max_examples=15, deadline=None)
def test_a_run_against_itself_and_turned_round(seed: int, make) -> None:  # noqa: ANN001
    targets, base, other = make(seed)
    same = compare(targets, base, base.copy(), draws=50)
    assert (same.f1, same.right, same.test.p, same.same_answers) == ((0.0, None), (0.0, None), 1.0, True)
    there, back = compare(targets, base, other, draws=20), compare(targets, other, base, draws=20)
    assert there.f1.value == pytest.approx(-back.f1.value)
    assert (there.test.gained, there.test.lost, there.test.p) == (back.test.lost, back.test.gained, back.test.p)
    assert not there.same_answers


def test_the_order_of_images_is_no_matter_and_the_same_seed_gives_the_same() -> None:
    targets, base, other = labels(0)
    order = np.random.default_rng(0).permutation(len(targets))
    found = compare(targets, base, other)
    assert compare(targets[order], base[order], other[order]) == found
    assert compare(targets, base, other, seed=1) != found
    assert found.f1.interval is not None
    assert found.f1.interval[0] < found.f1.value < found.f1.interval[1]


@pytest.mark.parametrize("make", [labels, sets])
def test_a_handful_of_images_has_no_interval(make) -> None:  # noqa: ANN001
    few, enough = compare(*make(2, n=29)), compare(*make(2, n=30))
    assert few.f1.interval is None
    assert not few.f1.told_apart
    assert enough.f1.interval is not None


def test_what_a_zero_in_the_interval_means() -> None:
    targets = np.repeat([0, 1], 100)
    base, other = targets.copy(), targets.copy()
    base[:40] = 1
    found = compare(targets, base, other)
    assert found.f1.told_apart
    assert found.f1.value > 0.1
    other[160:195] = 0
    assert not compare(targets, base, other).f1.told_apart


def test_mcnemar_of_few_images_is_the_binomial_distribution() -> None:
    for gained, lost in ((0, 0), (1, 0), (3, 9), (12, 12), (0, 24)):
        tail = binom.cdf(min(gained, lost), gained + lost, 0.5)
        found = mcnemar(gained, lost)
        assert found.exact
        assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(3, 9).p == pytest.approx(2 * (1 + 12 + 66 + 220) / 2**12)


def test_mcnemar_of_many_images_is_chi_squared() -> None:
    # Agresti, Categorical Data Analysis: 86 and 150 changed their opinion; (|86 - 150| - 1)^2 / 236 = 16.818
    found = mcnemar(86, 150)
    assert not found.exact
    assert found.p == pytest.approx(4.115e-05, rel=1e-3)
    assert mcnemar(13, 12).exact is (FEW_DISCORDANT > 25)
    assert mcnemar(12, 13).p == 1.0
    assert mcnemar(20, 20).p == 1.0


def test_holm() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_stepwise_rule_rejects(values: list[float], level: float) -> None:
    rejected = set()
    for rank, at in enumerate(sorted(range(len(values)), key=lambda at: values[at])):
        if (len(values) - rank) * values[at] > level:
            break
        rejected.add(at)
    assert {at for at, value in enumerate(holm(values)) if value <= level} == rejected


def population(classes: int, shares: tuple[float, float]) -> Cells:
    """How often the images of each class get each pair of answers, (K, K, K); the two answers hang together."""
    rng = np.random.default_rng(classes)
    cells = np.zeros((classes, classes, classes))
    for label in range(classes):
        spread = rng.dirichlet(np.ones(classes))
        one, two = (share * np.eye(classes)[label] + (1 - share) * spread for share in shares)
        cells[label] = 0.4 * np.outer(one, two) + 0.6 * np.diag((one + two) / 2)
    return cells


def coverage(support: list[int], shares: tuple[float, float], times: int) -> float:
    """How often the interval of F1 holds the difference that the population has."""
    classes = len(support)
    cells = population(classes, shares)
    scores = []
    for axis in (2, 1):  # of the base's answers, then of the other's
        counts = cells.sum(axis=axis) * np.array(support)[:, None]  # (K, K): expected confusion
        scores.append((2 * np.diag(counts) / (support + counts.sum(axis=0))).mean())
    truth, rng, held = scores[1] - scores[0], np.random.default_rng(0), []
    targets = np.repeat(np.arange(classes), support)
    for _ in range(times):
        counts = [rng.multinomial(n, part.ravel()) for n, part in zip(support, cells, strict=True)]
        base, other = np.divmod(np.concatenate([np.repeat(np.arange(classes**2), part) for part in counts]), classes)
        interval = compare(targets, base, other, draws=400).f1.interval
        held += [] if interval is None else [interval[0] <= truth <= interval[1]]
    assert len(held) > 0.95 * times
    return float(np.mean(held))


POPULATIONS = [
    ([100, 100, 100], (0.8, 0.86)),
    ([10] * 10, (0.8, 0.86)),
    ([36] * 10, (0.96, 0.96)),
    ([5, 20, 60, 200], (0.8, 0.86)),
    ([10] * 4, (0.5, 0.7)),
]


@pytest.mark.parametrize(("support", "shares"), POPULATIONS[:4])
def test_ninety_five_of_a_hundred_intervals_hold_the_difference(support, shares) -> None:  # noqa: ANN001
    assert coverage(support, shares, times=400) == pytest.approx(0.95, abs=0.03)  # 0.01 is chance


@pytest.mark.slow
@pytest.mark.parametrize(("support", "shares"), POPULATIONS)
def test_ninety_five_of_a_hundred_intervals_hold_the_difference_more_often(support, shares) -> None:  # noqa: ANN001
    assert coverage(support, shares, times=2500) == pytest.approx(0.95, abs=0.02)


def coverage_of_sets(times: int) -> float:
    rng = np.random.default_rng(0)
    share = np.array([0.1, 0.3, 0.5])
    wrong = [(0.2, 0.1), (0.15, 0.12)]  # of labels that are there, of those that are not: base, other

    def f1(miss: float, add: float) -> float:
        hits = share * (1 - miss)
        return float((2 * hits / (share + hits + (1 - share) * add)).mean())

    truth, held = f1(*wrong[1]) - f1(*wrong[0]), 0
    for _ in range(times):
        targets = rng.random((200, 3)) < share
        luck = rng.random((2, 200, 3))
        luck[1] = np.where(
            rng.random((200, 3)) < 0.5, *luck
        )  # an image that is hard for one is often hard for the other
        base, other = (
            np.where(targets, one > miss, one > 1 - add) for one, (miss, add) in zip(luck, wrong, strict=True)
        )
        interval = compare(targets, base, other, draws=400).f1.interval
        held += interval is not None and interval[0] <= truth <= interval[1]
    return held / times


def test_ninety_five_of_a_hundred_intervals_hold_the_difference_of_sets() -> None:
    assert coverage_of_sets(200) == pytest.approx(0.95, abs=0.04)


@pytest.mark.slow
def test_ninety_five_of_a_hundred_intervals_hold_the_difference_of_sets_more_often() -> None:
    assert coverage_of_sets(2000) == pytest.approx(0.95, abs=0.02)
