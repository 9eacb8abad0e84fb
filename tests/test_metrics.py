import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import (
    confusion_matrix as sklearn_confusion,
)

from imgkit import metrics
from imgkit.errors import DataError, DivergedError
from imgkit.metrics import (
    Floats,
    Ints,
    bootstrap_f1,
    confusion_matrix,
    per_class,
    score,
    summarise,
    wilson,
)
from imgkit.probabilities import softmax
from imgkit.recipe.monitors import MONITORS

Split = tuple[Floats, Ints]


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def draw_split(seed: int, n: int, classes: int, absent: int = 0, ties: bool = False) -> Split:
    """Scores and labels; `absent` classes have no image, `ties` makes equal scores common."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(rng.permutation(classes)[: max(1, classes - absent)], size=n)
    logits = rng.normal(size=(n, classes)) + 1.5 * (np.arange(classes) == targets[:, None])
    probs = softmax((logits.round() if ties else logits).astype(np.float32))
    return probs, targets.astype(np.int64)


splits = st.builds(
    draw_split,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 80),
    classes=st.integers(2, 30),
    absent=st.integers(0, 29),
    ties=st.booleans(),
)


@settings(max_examples=80, deadline=None)
@given(split=splits)
def test_summary_equals_scikit_learns(split: Split) -> None:
    probs, targets = split
    found = summarise(probs, targets, names(probs.shape[1]), draws=1)
    guesses, present = probs.argmax(axis=1), sorted(set(targets.tolist()))
    assert found["n"] == len(targets)
    assert found["classes"] == probs.shape[1]
    assert found["classes_with_support"] == len(present)
    assert found["classes_without_support"] == [
        name for number, name in enumerate(names(probs.shape[1])) if number not in present
    ]
    assert found["top1"] == pytest.approx(accuracy_score(targets, guesses), abs=1e-9)
    for mean in ("macro", "micro", "weighted"):
        want = precision_recall_fscore_support(targets, guesses, labels=present, average=mean, zero_division=0)
        ours = [found[f"{name}_{mean}"] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(want[:3], abs=1e-9)
    assert found["loss"] == pytest.approx(np.mean([-math.log(probs[i, t]) for i, t in enumerate(targets)]), abs=1e-9)
    assert probs.min() > np.finfo(np.float64).eps, "scikit-learn takes less for that"
    assert found["loss"] == pytest.approx(log_loss(targets, probs, labels=range(probs.shape[1])), rel=1e-9)
    shares = np.bincount(targets, minlength=probs.shape[1]) / len(targets)
    assert found["chance"]["uniform"] == 1 / probs.shape[1]
    assert found["chance"]["majority"] == pytest.approx(shares.max())
    assert found["chance"]["majority_class"] == f"class {shares.argmax()}"
    assert set(MONITORS["single"]) - set(found) == {"loss_calibrated"}, "which needs the logits"


def test_a_sure_mistake_costs_more_than_in_scikit_learn() -> None:
    probs = softmax(np.array([[0.0, 60.0], [0.0, 60.0], [0.0, 60.0]]))
    targets = np.array([0, 1, 1])
    assert summarise(probs, targets, names(2), draws=1)["loss"] == pytest.approx(20.0)
    assert log_loss(targets, probs) == pytest.approx(-math.log(np.finfo(np.float64).eps) / 3)


@settings(max_examples=40, deadline=None)
@given(split=splits)
def test_ranks_follow_the_rule(split: Split) -> None:
    probs, targets = split
    scored = score(probs, targets)
    for row, target in enumerate(targets):
        by_rank = sorted(range(probs.shape[1]), key=lambda c: (-probs[row, c], c))
        assert scored.label_rank[row] == by_rank.index(target) + 1
        assert scored.predicted[row] == by_rank[0]
        assert scored.label_prob[row] == probs[row, target]


def test_ranks_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, targets = draw_split(1, 50, 7, ties=True)
    whole = score(probs, targets)
    monkeypatch.setattr(metrics, "_BLOCK", 20)
    for one, other in zip(score(probs, targets), whole, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("classes", [6, 12])
def test_top5_equals_scikit_learns_without_ties(classes: int) -> None:
    probs, targets = draw_split(2, 200, classes)
    found = summarise(probs, targets, names(classes), draws=1)
    assert found["k"] == 5
    assert found["topk"] == pytest.approx(top_k_accuracy_score(targets, probs, k=5, labels=range(classes)))
    assert found["top1"] < found["topk"] < 1.0


def test_k_is_clipped_to_the_classes() -> None:
    probs, targets = draw_split(3, 20, 3)
    found = summarise(probs, targets, names(3), draws=1)
    assert (found["k"], found["topk"]) == (3, 1.0)


def test_equal_scores_go_to_the_class_that_comes_first() -> None:
    scored = score(np.full((3, 3), 1 / 3), np.array([0, 1, 2]))
    assert scored.predicted.tolist() == [0, 0, 0]
    assert scored.label_rank.tolist() == [1, 2, 3]


def test_a_label_of_probability_0_costs_a_finite_loss() -> None:
    found = summarise(np.array([[1.0, 0.0]]), np.array([1]), names(2), draws=1)
    assert found["loss"] == pytest.approx(-math.log(np.finfo(np.float64).tiny))


@settings(max_examples=30, deadline=None)
@given(split=splits)
def test_confusion_and_classes_equal_scikit_learns(split: Split) -> None:
    probs, targets = split
    classes = names(probs.shape[1])
    confusion = confusion_matrix(score(probs, targets), len(classes))
    guesses, labels = probs.argmax(axis=1), range(len(classes))
    assert confusion.dtype == np.int64
    assert (confusion == sklearn_confusion(targets, guesses, labels=labels)).all()
    want = precision_recall_fscore_support(targets, guesses, labels=labels, average=None, zero_division=0)
    rows = per_class(confusion, classes)
    for key, values in zip(("precision", "recall", "f1", "support"), want, strict=True):
        assert [row[key] for row in rows] == pytest.approx(values.tolist(), abs=1e-9)
    for number, row in enumerate(rows):
        assert row["class"] == classes[number]
        assert row["predicted"] == (guesses == number).sum()
        taken = [(-((targets == number) & (guesses == other)).sum(), other) for other in labels if other != number]
        count, other = min(taken)
        assert row["confused"] == -count
        assert row["most_confused_with"] == (classes[other] if count else "")


@settings(max_examples=25, deadline=None)
@given(split=splits, seed=st.integers(0, 5))
def test_intervals_contain_the_value(split: Split, seed: int) -> None:
    probs, targets = split
    found = summarise(probs, targets, names(probs.shape[1]), draws=50, seed=seed)
    for name, interval in found["intervals"].items():
        low, high = interval or (0.0, 1.0)
        assert 0.0 <= low <= found[name] <= high <= 1.0
    assert found["bootstrap"] == {"draws": 50, "seed": seed}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("n", [1, 2, 10, 263, 50_000])
def test_wilson_solves_its_equation(n: int) -> None:
    """The ends are the shares p at which (k/n - p)**2 = z**2 * p * (1 - p) / n."""
    for k in {0, 1, n // 3, n - 1, n}:
        for end in wilson(k, n):
            assert (k / n - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-12)
    assert wilson(0, n)[0] == 0.0
    assert wilson(n, n)[1] == 1.0
    assert wilson(0, n)[1] > 0.0


def naive_bootstrap(targets: Ints, guesses: Ints, draws: int, seed: int) -> Floats:
    """Resample images within each class, one draw after another."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        rows = np.concatenate(
            [rng.choice(part, len(part)) for c in set(targets) if len(part := np.where(targets == c)[0])]
        )
        t, g = targets[rows], guesses[rows]
        found.append(
            np.mean([2 * ((t == c) & (g == c)).sum() / ((t == c).sum() + (g == c).sum()) for c in set(targets)])
        )
    return np.percentile(found, [2.5, 97.5])


def test_bootstrap_agrees_with_resampling_images() -> None:
    probs, targets = draw_split(7, 150, 5, absent=1)
    scored = score(probs, targets)
    ours = bootstrap_f1(confusion_matrix(scored, 5), draws=2000, seed=1)
    assert ours is not None
    assert ours == pytest.approx(tuple(naive_bootstrap(targets, scored.predicted, 1000, seed=2)), abs=0.015)
    assert ours[1] - ours[0] > 0.05


def answered(classes: int, right: float) -> np.ndarray:
    """How often each class is given each answer, (K, K); later classes are worse, and mistakes are uneven."""
    shares = np.empty((classes, classes))
    for code in range(classes):
        hits = right - 0.2 * code / classes
        others = np.roll(np.linspace(1, 2, classes), code) * (np.arange(classes) != code)
        shares[code] = (1 - hits) * others / others.sum()
        shares[code, code] = hits
    return shares


def coverage(support: list[int], right: float, *, times: int, draws: int = 500) -> tuple[float, float]:
    """Of `times` drawn test sets, how many intervals of macro F1 and of top-1 hold what the population has."""
    shares, sizes = answered(len(support), right), np.array(support)
    expected = shares * sizes[:, None]
    f1 = np.mean(2 * np.diag(expected) / (sizes + expected.sum(axis=0)))
    top1 = np.trace(expected) / sizes.sum()
    sets = np.stack([np.random.default_rng([7, row]).multinomial(n, shares[row], times) for row, n in enumerate(sizes)])
    inside, told = np.zeros(2), np.zeros(2)
    for seed, counts in enumerate(sets.transpose(1, 0, 2)):  # (K, times, K) -> times x (K, K)
        for at, (truth, ends) in enumerate(
            [(f1, bootstrap_f1(counts, draws=draws, seed=seed)), (top1, wilson(int(np.trace(counts)), sizes.sum()))]
        ):
            if ends is not None:
                told[at] += 1
                inside[at] += ends[0] <= truth <= ends[1]
    assert told.min() >= 0.99 * times
    held = inside / told
    return float(held[0]), float(held[1])


def test_ninety_five_of_a_hundred_intervals_hold_the_true_value() -> None:
    assert coverage([120, 80, 60], 0.85, times=1500) == pytest.approx((0.95, 0.95), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("support", "right"),
    [
        ([100, 100], 0.95),
        ([80, 80, 80], 0.95),
        ([200, 100, 50], 0.9),
        ([20, 30, 60, 90, 100], 0.8),
        ([50] * 10, 0.97),
        ([30, 60, 120, 240] * 2, 0.9),
        ([50] * 15, 0.85),
    ],
)
def test_ninety_five_of_a_hundred_intervals_hold_the_true_value_more_often(support: list[int], right: float) -> None:
    assert coverage(support, right, times=1500) == pytest.approx((0.95, 0.95), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("each", "least", "most"), [(10, 0.90, 0.935), (5, 0.78, 0.87)])
def test_with_few_images_in_each_of_many_classes_that_of_f1_is_too_narrow(each: int, least: float, most: float) -> None:
    f1, top1 = coverage([each] * 100, 0.75, times=250)
    assert least <= f1 <= most, "as docs/metrics.md says, and a page warns"
    assert top1 == pytest.approx(0.95, abs=0.03)


def test_the_seed_draws_the_bootstrap() -> None:
    confusion = np.array([[9, 6], [5, 10]])
    assert bootstrap_f1(confusion, seed=1) == bootstrap_f1(confusion, seed=1) != bootstrap_f1(confusion, seed=2)


@pytest.mark.parametrize(
    ("confusion", "there"),
    [
        ([[20, 0], [0, 20]], False),  # nothing was confused: every draw is the same
        (np.eye(40, k=1)[:, :40], False),  # one image a class
        ([[9, 5], [5, 10]], False),  # 29 images
        ([[10, 5], [5, 10]], True),
    ],
)
def test_there_is_no_interval_where_the_bootstrap_says_nothing(confusion: object, there: bool) -> None:
    counts = np.array(confusion, dtype=np.int64)
    interval = bootstrap_f1(counts, draws=200)
    assert (interval is not None) == there
    assert interval is None or interval[1] - interval[0] > 0.1


def test_a_handful_of_images_has_an_interval_of_top1_alone() -> None:
    intervals = summarise(np.eye(3), np.arange(3), names(3))["intervals"]
    assert intervals["f1_macro"] is None
    assert intervals["top1"][1] - intervals["top1"][0] > 0.5


def test_softmax_sums_to_1_and_stands_any_finite_logit() -> None:
    probs = softmax(np.array([[1e4, -1e4, 1e4], [0.0, 1.0, 2.0], [3e38, -3e38, 0]], dtype=np.float32))
    assert probs.dtype == np.float64
    assert probs.sum(axis=1) == pytest.approx(1.0)
    assert probs[0].tolist() == [0.5, 0.0, 0.5]
    assert probs[1] == pytest.approx(np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum())


def test_no_image_is_an_error() -> None:
    with pytest.raises(DataError, match="There is no image to score"):
        summarise(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), names(3))


def test_an_unlabelled_image_is_an_error() -> None:
    with pytest.raises(DataError, match="1 of 2 images to score have no label"):
        summarise(np.full((2, 2), 0.5), np.array([0, -1]), names(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_never_ranks_first(bad: float) -> None:
    logits = np.array([[0.0, 1.0], [bad, 0.0]], dtype=np.float32)
    with pytest.raises(DivergedError, match="not finite"):
        summarise(softmax(logits), np.array([1, 0]), names(2))


def test_of_what_may_be_monitored_only_losses_are_better_where_smaller() -> None:
    for ways in MONITORS.values():
        assert {name for name, way in ways.items() if way == "min"} == {"loss", "loss_calibrated"}
