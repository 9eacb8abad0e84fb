"""Metrics of sets of labels, against scikit-learn and against slow ones written anew."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
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


def slow_bootstrap(probs: Floats, targets: Bools, draws: int, seed: int) -> dict[str, list[float]]:
    """Every draw measured by itself."""
    rng, found = np.random.default_rng(seed), {"f1_macro": [], "map": []}
    for _ in range(draws):
        rows = rng.integers(0, len(targets), size=len(targets))
        drawn = summarise_multilabel(probs[rows], targets[rows], names(probs.shape[1]), draws=0)
        if drawn["classes_with_support"]:
            for name, values in found.items():
                values.append(drawn[name])
    return found


@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_intervals_are_those_of_images_drawn_again(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    probs, targets = draw_split(4, 40, 3, rate=rate, ties=True)
    assert targets.any()
    slow = slow_bootstrap(probs, targets, 60, seed=7)
    found = bootstrap_sets(score_sets(probs, targets), draws=60, seed=7)
    value = summarise_multilabel(probs, targets, names(3), draws=0)
    for name, values in slow.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[name] == pytest.approx([min(low, value[name]), max(high, value[name])])
    monkeypatch.setattr(multilabel, "_BLOCK", 100)
    assert bootstrap_sets(score_sets(probs, targets), draws=60, seed=7) == found
    monkeypatch.setattr(multilabel, "_CELLS", 1)
    monkeypatch.setattr(multilabel, "_FEWEST_DRAWS", 30)
    fewer = bootstrap_sets(score_sets(probs, targets), draws=60, seed=7)
    assert fewer["f1_macro"] == found["f1_macro"]
    assert fewer["map"] == pytest.approx(bootstrap_sets(score_sets(probs, targets), draws=30, seed=7)["map"]), (
        "the first draws"
    )


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
