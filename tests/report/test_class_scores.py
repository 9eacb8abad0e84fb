from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_runs import make_run
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from imgkit.metrics import wilson
from imgkit.report.class_scores import class_scores, f1_interval
from imgkit.report.stored import Answers, AnswersOfSets, stored_of


def test_rows_equal_scikit_learn(tmp_path: Path) -> None:
    stored = stored_of(make_run(tmp_path, classes=[f"c{number}" for number in range(7)], n=200, sure=1.5))
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, Answers)
    rows = class_scores(stored)
    wanted = precision_recall_fscore_support(answers.targets, answers.predicted, labels=range(7), zero_division=0)
    found = [[getattr(row, name) for row in rows] for name in ("precision", "recall", "f1", "support")]
    assert np.allclose(found, wanted)
    for code, row in enumerate(rows):
        mine = answers.targets == code
        wrong = np.bincount(answers.predicted[mine & (answers.predicted != code)], minlength=7)
        assert row.confused == wrong.max()
        assert wrong[stored.classes.index(row.confused_with)] == wrong.max()
        assert row.interval is not None
        assert row.interval[0] <= row.f1 <= row.interval[1]


def test_rows_of_labels_equal_scikit_learn(tmp_path: Path) -> None:
    stored = stored_of(make_run(tmp_path, classes=["a", "b", "c", "d"], n=150, sets=True, sure=1.0))
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, AnswersOfSets)
    assert answers.probs is not None
    rows = class_scores(stored)
    wanted = precision_recall_fscore_support(answers.targets, answers.predicted, zero_division=0)
    assert np.allclose(
        [[getattr(row, name) for row in rows] for name in ("precision", "recall", "f1", "support")], wanted
    )
    assert [row.ap for row in rows] == pytest.approx(
        average_precision_score(answers.targets, answers.probs, average=None)
    )
    assert [row.threshold for row in rows] == [stored.metrics["thresholds"][row.name] for row in rows]
    for code, row in enumerate(rows):
        missed = answers.targets[:, code] & ~answers.predicted[:, code]
        false = (answers.predicted & ~answers.targets)[missed].sum(axis=0)
        assert row.confused == false.max()
        assert row.confused == 0 or false[stored.classes.index(row.confused_with)] == false.max()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_interval_holds_f1_and_is_wilsons_where_no_answer_is_false(hits: int, missed: int, false: int) -> None:
    found = f1_interval(hits, hits + missed, hits + false)
    if not hits + missed + false:
        assert found is None
        return
    assert found is not None
    f1 = 2 * hits / (2 * hits + missed + false)
    assert 0 <= found[0] <= f1 <= found[1] <= 1
    assert found[1] - found[0] > 0, "a class without a mistake is not known for certain"
    j = [end / (2 - end) for end in found]
    assert j == pytest.approx(wilson(hits, hits + missed + false))


def rates(k: int, right: float, skew: float) -> np.ndarray:
    """The joint probabilities (k, k) of true class and answer: classes of falling size, the later ones worse."""
    sizes = skew ** -np.arange(k)
    answers = np.empty((k, k))
    for code in range(k):
        share = right - 0.05 * code
        others = np.roll(np.linspace(1, 2, k), code) * (np.arange(k) != code)
        answers[code] = (1 - share) * others / others.sum()
        answers[code, code] = share
    return (sizes / sizes.sum())[:, None] * answers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "right", "skew", "n"), [(3, 0.95, 1.0, 60), (5, 0.8, 1.5, 150), (10, 0.9, 1.2, 400), (10, 0.95, 1.4, 1000)]
)
def test_the_interval_covers_the_true_f1_in_95_of_100_draws(k: int, right: float, skew: float, n: int) -> None:
    joint = rates(k, right, skew)
    truth = 2 * np.diagonal(joint) / (joint.sum(axis=1) + joint.sum(axis=0))
    rng, inside, told = np.random.default_rng(0), np.zeros(k), np.zeros(k)
    for _ in range(3000):
        counts = rng.multinomial(n, joint.ravel()).reshape(k, k)
        for code in range(k):
            ends = f1_interval(int(counts[code, code]), int(counts[code].sum()), int(counts[:, code].sum()))
            if ends is not None:
                told[code] += 1
                inside[code] += ends[0] <= truth[code] <= ends[1]
    assert np.abs(inside / told - 0.95).max() <= 0.02
