"""The temperature and the thresholds, against slow searches."""

import json
import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from imgkit.calibration import (
    BOUNDS,
    Calibration,
    calibrate,
    calibrated_loss,
    f1_error,
    fitted_temperature,
    fitted_threshold,
)
from imgkit.metrics import summarise
from imgkit.probabilities import BINS, Floats, calibration_error, sigmoid, softmax

Logits = npt.NDArray[np.float32]


def single(seed: int, n: int = 200, classes: int = 4, sharpness: float = 3.0) -> tuple[Logits, npt.NDArray[np.int64]]:
    """Logits that are `sharpness` times too sure, and labels drawn from what they should have said."""
    rng = np.random.default_rng(seed)
    honest = 1.5 * rng.normal(size=(n, classes))
    targets = np.array([rng.choice(classes, p=row) for row in softmax(honest)])
    return (sharpness * honest).astype(np.float32), targets


def many(seed: int, n: int = 200, labels: int = 3, sharpness: float = 3.0) -> tuple[Logits, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    honest = 1.5 * rng.normal(size=(n, labels)) - 1
    targets = rng.random((n, labels)) < sigmoid(honest)
    return (sharpness * honest).astype(np.float32), targets.astype(np.float32)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_the_temperature_is_the_best_one(task: str, sharpness: float) -> None:
    grid = np.geomspace(*BOUNDS, 400)
    if task == "single":
        logits, targets = single(0, sharpness=sharpness)
        losses = [log_loss(targets, softmax(logits / t), labels=range(4)) for t in grid]
    else:
        logits, targets = many(0, sharpness=sharpness)
        losses = [log_loss(targets.ravel(), sigmoid(logits / t).ravel()) for t in grid]
    found = fitted_temperature(logits, targets)
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)
    assert found == pytest.approx(sharpness, rel=0.35), "it finds how much too sure they are"


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_calibration_lowers_loss_and_error_and_ranks_the_same(task: str) -> None:
    logits, targets = single(1, n=600) if task == "single" else many(1, n=600)
    new, truth = single(2, n=600) if task == "single" else many(2, n=600)
    made = calibrate(logits, targets, list("abcd")[: logits.shape[1]])
    plain = softmax(new) if task == "single" else sigmoid(new)
    probs = made.probabilities(new)
    assert (probs.argsort(axis=0 if task == "multilabel" else 1) == plain.argsort(axis=int(task == "single"))).all()
    errors = []
    for one in (plain, probs):
        right = one.argmax(1) == truth if task == "single" else truth.ravel() > 0
        errors.append(calibration_error(one.max(1) if task == "single" else one.ravel(), right))
    assert errors[1] < 0.5 * errors[0]


def slow_f1_error(answered: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_]) -> float:
    """The root of the sum of squares of what each image adds to F1, after a hit, a miss and a false answer more."""
    given, there = np.append(answered, [True, False, True]), np.append(present, [True, True, False])
    f1 = f1_score(there, given)
    added = [2 * (one and other) - f1 * (int(one) + int(other)) for one, other in zip(given, there, strict=True)]
    return math.sqrt(sum(value**2 for value in added)) / (given.sum() + there.sum())


def slow_threshold(probs: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> float:
    levels = sorted({0.0, *probs.tolist()})
    tried = [0.5, *((low + high) / 2 for low, high in pairwise(levels))]
    tried.sort(key=lambda one: (abs(one - 0.5), one))
    scores = [f1_score(present, probs >= one, zero_division=0) for one in tried]
    best = next(one for one, score in zip(tried, scores, strict=True) if score >= max(scores) - 1e-12)
    least = max(scores) - slow_f1_error(probs >= best, present) - 1e-12
    return next(one for one, score in zip(tried, scores, strict=True) if score >= least)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32), n=st.integers(1, 60), digits=st.sampled_from([1, 6]), rate=st.sampled_from([0.1, 0.5])
)
def test_thresholds_are_nearest_one_half_within_an_error_of_the_best_f1(
    seed: int, n: int, digits: int, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random(n) < rate
    present[0] = True
    probs = np.round(0.6 * rng.random(n) + 0.3 * present, digits)
    assert fitted_threshold(probs, present) == pytest.approx(slow_threshold(probs, present), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.sampled_from([0.05, 0.5]))
def test_with_more_images_of_the_same_kind_f1_nears_the_best(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random(40) < rate
    present[0] = True
    probs = 0.6 * rng.random(40) + 0.2 * present
    best = max(f1_score(present, probs >= one) for one in probs)
    last = 1.0
    for times in (1, 100, 10_000):
        many_probs, many_present = np.tile(probs, times), np.tile(present, times)
        gap = best - f1_score(present, probs >= fitted_threshold(many_probs, many_present))
        assert gap <= last + 1e-12
        assert gap <= 0.5 / math.sqrt(times)
        last = gap


def test_the_error_of_f1_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(1500) < 0.3
    answered = np.where(rng.random(1500) < 0.15, ~present, present)
    draws = rng.integers(0, 1500, (1000, 1500))
    spread = np.std([f1_score(present[rows], answered[rows]) for rows in draws])
    assert f1_error((present & answered).sum(), present.sum() + answered.sum()) == pytest.approx(spread, rel=0.08)


def honest(rng: np.random.Generator, n: int, rate: float, signal: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Probabilities that are right, of a label that `rate` of the images have, and whether each has it."""
    present = rng.random(n) < rate
    evidence = rng.normal(np.where(present, 1, -1) * signal**2 / 2, signal)
    return sigmoid(evidence + math.log(rate / (1 - rate))), present


@pytest.mark.parametrize(("rate", "signal", "gains"), [(0.3, 2.6, False), (0.05, 2.0, True)])
def test_on_other_images_a_common_label_loses_nothing_and_a_rare_one_gains(
    rate: float, signal: float, gains: bool
) -> None:
    rng = np.random.default_rng(7)
    probs, present = honest(rng, 50_000, rate, signal)
    plain = f1_score(present, probs >= 0.5)
    found = []
    for _ in range(30):
        least = fitted_threshold(*honest(rng, 420, rate, signal))
        found.append((f1_score(present, probs >= least) - plain, np.mean((probs >= least) == present)))
    gain, right = np.mean(found, axis=0)
    assert gain > (0.03 if gains else -0.002)
    assert right > np.mean((probs >= 0.5) == present) - 0.003


def test_a_gain_of_one_image_moves_no_threshold() -> None:
    probs = np.array([0.9] * 20 + [0.4] + [0.1] * 100)
    present = np.arange(121) < 21
    assert fitted_threshold(probs, present) == 0.5
    probs[15:20] = 0.4
    assert fitted_threshold(probs, present) == pytest.approx(0.25)


def test_ties_go_to_the_lower_threshold_and_one_half_comes_first() -> None:
    assert fitted_threshold(np.array([0.9, 0.2]), np.array([True, False])) == 0.5
    assert fitted_threshold(np.array([0.9] * 9 + [0.7] * 9), np.arange(18) < 9) == pytest.approx(0.8)
    assert fitted_threshold(np.array([0.3] * 9 + [0.1] * 9), np.arange(18) < 9) == pytest.approx(0.2)


def test_neighbouring_probabilities_are_told_apart() -> None:
    low = 0.7
    high = math.nextafter(low, 1.0)
    found = fitted_threshold(np.repeat([high, low], 9), np.arange(18) < 9)
    assert low < found <= high


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (lambda: single(0, n=29), "29 images are too few to fit it (fewer than 30)"),
        (lambda: (single(0)[0], np.zeros(200, np.int64)), "all images are of one class"),
        (lambda: (many(0)[0], np.zeros((200, 3), np.float32)), "no image has a label"),
        (lambda: (single(0)[0], single(0)[0].argmax(1)), "every answer is right"),
        (lambda: (many(0)[0], (many(0)[0] >= 0).astype(np.float32)), "every answer is right"),
        (lambda: many(0, n=29), "29 images are too few"),
    ],
)
def test_where_no_temperature_can_be_fitted_it_stays_1(case: object, said: str) -> None:
    assert callable(case)
    logits, targets = case()
    found = calibrate(logits, targets, list("abcd")[: logits.shape[1]])
    assert found.temperature == 1.0
    assert said in found.notes[0]
    assert found.n == len(targets)
    if len(targets) < 30 and targets.ndim == 2:
        assert set((found.thresholds or {}).values()) == {0.5}
        assert "the thresholds stay 0.5" in found.notes[1]


def test_a_label_of_few_images_keeps_one_half() -> None:
    logits, targets = many(3)
    targets[:, 0] = 0
    logits[:, 1] -= 12  # so low that 0.5 answers hardly ever
    targets[:, 1] = logits[:, 1] >= np.sort(logits[:, 1])[-4]
    found = calibrate(logits, targets, ["a", "b", "c"])
    assert found.thresholds is not None
    assert (found.thresholds["a"], found.thresholds["b"]) == (0.5, 0.5)
    probs = found.probabilities(logits)
    assert found.thresholds["c"] == fitted_threshold(probs[:, 2], targets[:, 2] > 0)
    assert found.notes == ("the threshold stays 0.5 for labels of fewer than 5 images: a, b",)
    targets[:, 1] = logits[:, 1] >= np.sort(logits[:, 1])[-5]
    found = calibrate(logits, targets, ["a", "b", "c"])
    assert found.thresholds is not None
    assert found.thresholds["b"] == fitted_threshold(found.probabilities(logits)[:, 1], targets[:, 1] > 0) < 0.5


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_it_reads_back(task: str) -> None:
    logits, targets = single(0) if task == "single" else many(0)
    made = calibrate(logits, targets, list("abcd")[: logits.shape[1]])
    assert Calibration.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    for broken in ({"temperature": 0}, {"schema": 2}, {"temperature": "hot"}, {"thresholds": [1]}):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            Calibration.from_dict(made.to_dict() | broken)


def slow_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    total = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if number == 0:
            inside |= confidence == 0
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 200))
def test_the_calibration_error_is_that_of_its_bins(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(n).round(3), rng.random(n) < 0.6
    assert calibration_error(confidence, right) == pytest.approx(slow_error(confidence, right), abs=1e-9)


def test_certain_and_impossible_answers_have_a_bin() -> None:
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0
    assert calibration_error(np.array([1.0, 0.0]), np.array([False, True])) == 1.0


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_brier_equals_scikit_learns(classes: int) -> None:
    logits, targets = single(5, classes=classes)
    probs = softmax(logits)
    found = summarise(probs, targets, [str(k) for k in range(classes)], draws=1)["brier"]
    if classes == 2:
        assert found == pytest.approx(brier_score_loss(targets, probs[:, 1]))
    hot = np.eye(classes)[targets]
    assert found == pytest.approx(np.square(probs - hot).sum(axis=1).mean() / (2 if classes == 2 else 1))


def test_sigmoid_of_large_logits() -> None:
    found = sigmoid(np.array([[1e30, -1e30, 0.0, -700.0]], dtype=np.float32))
    assert found[0, :3].tolist() == [1.0, 0.0, 0.5]
    assert found[0, 3] == pytest.approx(math.exp(-700), rel=1e-9)
    assert np.isnan(sigmoid(np.array([np.inf, np.nan]))).all()


@pytest.mark.parametrize("task", ["single", "multilabel"])
@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_the_calibrated_loss_is_the_loss_at_the_best_temperature_whatever_the_confidence(
    task: str, sharpness: float
) -> None:
    logits, targets = single(4) if task == "single" else many(4)
    told = calibrated_loss(logits, targets)
    probs = calibrate(logits, targets, list("abcd")[: logits.shape[1]]).probabilities(logits)
    loss = log_loss(targets, probs, labels=range(4)) if task == "single" else log_loss(targets.ravel(), probs.ravel())
    assert told == pytest.approx(loss, rel=1e-6)
    assert calibrated_loss((sharpness * logits).astype(np.float32), targets) == pytest.approx(told, rel=1e-5)


def test_all_answers_right_leave_a_small_calibrated_loss() -> None:
    logits = np.eye(2, dtype=np.float32)[[0, 1] * 20]
    assert 0 <= calibrated_loss(logits, np.array([0, 1] * 20)) < 1e-4
