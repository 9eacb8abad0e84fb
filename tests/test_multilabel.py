"""Metrics of sets of labels, against scikit-learn and against slow ones written anew."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    hamming_loss,
    log_loss,
    precision_recall_fscore_support,
)

from imgkit import multilabel
from imgkit.errors import DataError, DivergedError
from imgkit.metrics import wilson
from imgkit.multilabel import (
    Bools,
    average_precision,
    bootstrap_sets,
    chance_of,
    per_label,
    score_sets,
    summarise_multilabel,
)
from imgkit.probabilities import Floats, sigmoid
from imgkit.recipe.monitors import MONITORS

Split = tuple[Floats, Bools]


def names(count: int) -> list[str]:
    return [f"label {number}" for number in range(count)]


def draw_split(seed: int, n: int, labels: int, rate: float = 0.3, absent: int = 0, ties: bool = False) -> Split:
    """Probabilities and sets; `absent` labels have no image, `ties` makes equal scores common."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, labels)) < rate
    targets[:, rng.permutation(labels)[:absent]] = False
    logits = rng.normal(size=targets.shape) + 2.0 * targets - 1.0
    return sigmoid(logits.round() if ties else logits), targets


splits = st.builds(
    draw_split,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 60),
    labels=st.integers(1, 8),
    rate=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    absent=st.integers(0, 8),
    ties=st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(split=splits)
def test_summary_equals_scikit_learns(split: Split) -> None:
    probs, targets = split
    found = summarise_multilabel(probs, targets, names(probs.shape[1]), draws=1)
    answers, present = probs >= 0.5, np.flatnonzero(targets.any(axis=0))
    assert json.loads(json.dumps(found)) == found
    assert (found["n"], found["classes"], found["classes_with_support"]) == (*targets.shape, len(present))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(targets, answers))
    assert found["hamming"] == pytest.approx(hamming_loss(targets, answers))
    flat = targets.ravel().astype(int)
    assert found["loss"] == pytest.approx(log_loss(flat, probs.ravel(), labels=[0, 1]), rel=1e-9)
    assert found["brier"] == pytest.approx(brier_score_loss(flat, probs.ravel()), rel=1e-9)
    assert found["cardinality"] == pytest.approx(targets.sum() / len(targets))
    assert set(MONITORS["multilabel"]) - set(found) == {"loss_calibrated"}, "which needs the logits"
    for mean in ("macro", "micro", "weighted", "samples"):
        ours = [found[f"{name}_{mean}"] for name in ("precision", "recall", "f1")]
        if len(present):
            want = (
                precision_recall_fscore_support(
                    targets[:, present].astype(int), answers[:, present].astype(int), average=mean, zero_division=0
                )
                if len(present) > 1
                else _of_one(targets[:, present[0]], answers[:, present[0]], mean)
            )
            assert ours == pytest.approx(want[:3], abs=1e-9)
        else:
            assert ours == [0.0, 0.0, 0.0]
    each = [average_precision_score(targets[:, k], probs[:, k]) for k in present]
    assert found["map"] == pytest.approx(np.mean(each) if each else 0.0, abs=1e-9)


def _of_one(targets: Bools, answers: Bools, mean: str) -> list[float]:
    """scikit-learn takes a table of one label for two classes: all averages but that of images are the label's own."""
    if mean == "samples":
        return [float((targets & answers).mean())] * 3
    found = precision_recall_fscore_support(targets, answers, labels=[True], average="macro", zero_division=0)
    return [float(value) for value in found[:3]]


@settings(max_examples=60, deadline=None)
@given(split=splits, seed=st.integers(0, 99))
def test_a_row_for_each_label(split: Split, seed: int) -> None:
    probs, targets = split
    classes = names(probs.shape[1])
    least = dict(zip(classes, np.random.default_rng(seed).uniform(0.1, 0.9, len(classes)).tolist(), strict=True))
    rows = per_label(score_sets(probs, targets, np.array(list(least.values()))), classes, least)
    assert [row["class"] for row in rows] == classes
    for k, row in enumerate(rows):
        answers = probs[:, k] >= least[classes[k]]
        want = precision_recall_fscore_support(targets[:, k], answers, labels=[True], average="macro", zero_division=0)
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(want[:3], abs=1e-9)
        assert (row["support"], row["predicted"]) == (targets[:, k].sum(), answers.sum())
        assert row["threshold"] == least[classes[k]]
        if targets[:, k].any():
            assert row["ap"] == pytest.approx(average_precision_score(targets[:, k], probs[:, k]))
        else:
            assert row["ap"] == 0.0


def test_a_label_is_answered_from_its_threshold_on() -> None:
    scored = score_sets(np.array([[0.5, 0.49]]), np.array([[1.0, 0.0]]))
    assert scored.predicted.tolist() == [[True, False]]
    assert score_sets(scored.probs, scored.targets, np.array([0.6, 0.49])).predicted.tolist() == [[False, True]]


def slow_interval(probs: Floats, targets: Bools, name: str, draws: int, seed: int) -> list[float]:
    """Every label of every draw measured by itself, by scikit-learn."""
    kept = np.flatnonzero(targets.any(axis=0))

    def measure(rows: np.ndarray, k: int) -> float:
        y, p = targets[rows, k], probs[rows, k]
        return float(f1_score(y, p >= 0.5, zero_division=0) if name == "f1_macro" else average_precision_score(y, p))

    rng, n = np.random.default_rng(seed), len(targets)
    values, means = [measure(np.arange(n), k) for k in kept], []
    for _ in range(draws):
        rows = rng.integers(0, n, size=n)
        means.append(
            np.mean([measure(rows, k) if targets[rows, k].any() else v for k, v in zip(kept, values, strict=True)])
        )
    moved = [
        2 / (targets[:, k].sum() + (probs[:, k] >= 0.5).sum()) if name == "f1_macro" else 1 / targets[:, k].sum()
        for k in kept
    ]
    likely, value = (sum(values) + 0.5) / (len(kept) + 1), np.mean(values)
    unseen = likely * (1 - likely) * np.mean(np.square(moved)) / len(kept)
    size = value * (1 - value) / (np.var(means) + unseen)
    low, high = wilson(min(1.0, 2 * value - np.mean(means)) * size, size)
    return [min(low, value), max(high, value)]


@pytest.mark.parametrize("rate", [0.3, 0.05])
def test_intervals_are_those_of_images_drawn_again(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    probs, targets = draw_split(4, 40, 3, rate=rate, ties=True)
    found = bootstrap_sets(score_sets(probs, targets), draws=24, seed=7)
    for name, ends in found.items():
        assert ends == pytest.approx(slow_interval(probs, targets, name, 24, seed=7))
    monkeypatch.setattr(multilabel, "_BLOCK", 100)
    assert bootstrap_sets(score_sets(probs, targets), draws=24, seed=7) == found
    monkeypatch.setattr(multilabel, "_CELLS", 1)
    monkeypatch.setattr(multilabel, "_FEWEST_DRAWS", 12)
    fewer = bootstrap_sets(score_sets(probs, targets), draws=24, seed=7)
    assert fewer["f1_macro"] == found["f1_macro"]
    assert fewer["map"] == pytest.approx(bootstrap_sets(score_sets(probs, targets), draws=12, seed=7)["map"]), (
        "the first draws"
    )


def coverage(n: int, rates: list[float], apart: float, *, times: int, draws: int = 80) -> tuple[float, float]:
    """Of `times` drawn test sets of n images, how many intervals of macro F1 and of mAP hold what the population has.

    A label is in `rates` of all images; scores of those with it are `apart` deviations above the others, and labels
    and scores of an image have a part in common. Probabilities are honest.
    """
    share = np.array(rates)
    bar, cut = norm.isf(share), (apart**2 / 2 - np.log(share / (1 - share))) / apart
    right, wrong = share * norm.sf(cut - apart), (1 - share) * norm.sf(cut)
    recalls = (np.arange(20_000)[:, None] + 0.5) / 20_000
    precisions = share * recalls / (share * recalls + (1 - share) * norm.sf(norm.isf(recalls) + apart))
    truth = {"f1_macro": np.mean(2 * right / (share + right + wrong)), "map": precisions.mean()}
    rng, inside = np.random.default_rng(3), dict.fromkeys(truth, 0.0)
    told = dict.fromkeys(truth, 0)
    for seed in range(times):
        common, own = rng.normal(size=(2, n, 1)), rng.normal(size=(2, n, len(share)))
        has, score = np.sqrt(0.2) * common + np.sqrt(0.8) * own
        targets = has > bar
        probs = sigmoid(apart * (score + apart * targets) - apart**2 / 2 + np.log(share / (1 - share)))
        for name, ends in bootstrap_sets(score_sets(probs, targets), draws=draws, seed=seed).items():
            if ends is not None:
                told[name] += 1
                inside[name] += ends[0] <= truth[name] <= ends[1]
    assert min(told.values()) >= 0.95 * times
    return inside["f1_macro"] / told["f1_macro"], inside["map"] / told["map"]


def test_ninety_five_of_a_hundred_intervals_hold_the_true_value() -> None:
    f1, ap = coverage(100, [0.1] * 8, 2.5, times=200, draws=60)
    assert (f1, ap) == (pytest.approx(0.95, abs=0.03), pytest.approx(0.95, abs=0.03)), "by 200 sets"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "rates", "apart", "ap"),
    [
        (60, [0.3] * 3, 2.0, (0.91, 0.97)),
        (200, [0.1] * 10, 3.0, (0.92, 0.97)),
        (100, [0.05] * 20, 3.0, (0.93, 0.99)),
        (100, [0.5, 0.05], 2.5, (0.92, 0.97)),
        (200, [0.3] * 3, 4.5, (0.97, 1.0)),
        (200, [0.3] * 5, 1.0, (0.89, 0.95)),
    ],
)
def test_ninety_five_of_a_hundred_intervals_hold_the_true_value_more_often(
    n: int, rates: list[float], apart: float, ap: tuple[float, float]
) -> None:
    """That of mAP nearly so, as docs/metrics.md says: its draws flatter a network that knows little."""
    found = coverage(n, rates, apart, times=500, draws=60)
    assert found[0] == pytest.approx(0.95, abs=0.035), "by 500 sets"
    assert ap[0] <= found[1] <= ap[1]


@pytest.mark.parametrize(("n", "rate"), [(29, 0.3), (60, 0.0), (60, 1.0)])
def test_no_interval_where_it_says_nothing(n: int, rate: float) -> None:
    probs, targets = draw_split(1, n, 2, rate=rate)
    probs = np.where(targets, 0.9, 0.1) if rate else probs  # right each time
    found = summarise_multilabel(probs, targets, names(2))
    assert (found["intervals"]["f1_macro"], found["intervals"]["map"]) == (None, None)
    assert found["intervals"]["subset_accuracy"] == list(wilson(round(found["subset_accuracy"] * n), n))


def test_chance_is_what_the_best_constant_answer_gets() -> None:
    _, targets = draw_split(2, 50, 3, rate=0.2)
    chance = chance_of(targets, names(3))
    sets = {tuple(row) for row in targets.tolist()}
    shares = {one: np.mean([tuple(row) == one for row in targets.tolist()]) for one in sets}
    assert chance["subset_accuracy"] == max(shares.values())
    assert chance["set"] == [] == [name for name, one in zip(names(3), max(shares, key=shares.get), strict=True) if one]
    always = summarise_multilabel(np.full(targets.shape, 0.7), targets, names(3), draws=0)
    assert chance["f1_macro"] == pytest.approx(always["f1_macro"])
    assert chance["map"] == pytest.approx(always["map"]), "equal scores rank nothing"
    never = summarise_multilabel(np.full(targets.shape, 0.2), targets, names(3), draws=0)
    assert chance["hamming"] == pytest.approx(never["hamming"])
    assert chance["subset_accuracy"] == pytest.approx(never["subset_accuracy"])


def test_equal_probabilities_count_together() -> None:
    present = np.array([True, False, True, False])
    assert average_precision(np.full(4, 0.3), present) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert average_precision(np.array([0.9, 0.1, 0.9, 0.0]), present) == 1.0


def test_probabilities_of_0_and_1_have_a_finite_loss() -> None:
    found = summarise_multilabel(np.array([[1.0, 0.0]]), np.array([[False, True]]), names(2), draws=0)
    assert found["loss"] == pytest.approx(27.631, abs=1e-3)


def test_what_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="There is no image to score"):
        summarise_multilabel(np.zeros((0, 3)), np.zeros((0, 3)), names(3))
    with pytest.raises(DivergedError, match="not finite"):
        summarise_multilabel(sigmoid(np.array([[np.inf, 0.0]])), np.zeros((1, 2)), names(2))
