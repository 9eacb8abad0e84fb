import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_runs import make_run
from sklearn.metrics import confusion_matrix

from imgkit.report.confusions import NO_ANSWER, NO_LABEL, confusions_of, similarity_order
from imgkit.report.stored import Answers, AnswersOfSets, stored_of


def test_counts_equal_scikit_learn_in_the_new_order(tmp_path: Path) -> None:
    stored = stored_of(make_run(tmp_path, classes=[f"c{number}" for number in range(8)], n=300, sure=1.5))
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, Answers)
    found = confusions_of(answers, stored.classes)
    order = [stored.classes.index(name) for name in found.rows]
    assert sorted(order) == list(range(8))
    assert found.rows == found.columns
    assert np.array_equal(found.counts, confusion_matrix(answers.targets, answers.predicted, labels=order))
    assert np.allclose(found.shares.sum(axis=1), 1)
    for (i, j), rows in found.images.items():
        assert i != j
        assert len(rows) == found.counts[i, j]
        assert set(answers.targets[rows]) == {order[i]}
        assert set(answers.predicted[rows]) == {order[j]}
        assert np.all(np.diff(answers.prob[rows]) <= 0), "the surest first"
    for (i, j), rows in found.right.items():
        assert i == j
        assert len(rows) == found.counts[i, i]
        assert np.all(np.diff(answers.prob[rows]) >= 0), "the least sure first"
        assert set(answers.targets[rows]) == set(answers.predicted[rows]) == {order[i]}
    assert [pair.count for pair in found.pairs] == sorted((len(rows) for rows in found.images.values()), reverse=True)
    top = found.pairs[0]
    assert top.share == top.count / found.support[top.cell[0]]
    assert (found.rows[top.cell[0]], found.columns[top.cell[1]]) == (top.true, top.answered)


def test_classes_that_are_confused_lie_side_by_side() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.permutation(12).reshape(4, 3)  # four groups of three that are taken for each other
    counts = np.eye(12, dtype=np.int64) * 50
    for group in hidden:
        counts[np.ix_(group, group)] += 20
    order = similarity_order(counts)
    assert {frozenset(order[start : start + 3]) for start in range(0, 12, 3)} == {
        frozenset(map(int, g)) for g in hidden
    }


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_order_is_a_permutation_and_repeats(k: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, (k, k))
    assert sorted(similarity_order(counts)) == list(range(k))
    assert similarity_order(counts) == similarity_order(counts)


def test_a_thousand_classes_are_ordered_quickly() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 1000, 10_000)
    answered = np.where(rng.random(10_000) < 0.7, true, (true + rng.integers(1, 5, 10_000)) % 1000)
    counts = np.bincount(true * 1000 + answered, minlength=1_000_000).reshape(1000, 1000)
    similarity_order(counts[:50, :50])  # scipy is imported
    began = time.perf_counter()
    order = np.array(similarity_order(counts))
    assert time.perf_counter() - began < 5
    steps = np.minimum(np.abs(np.diff(order)), 1000 - np.abs(np.diff(order)))
    assert np.median(steps) <= 5, "neighbours of the circle stay neighbours"


def test_labels_that_are_answered_together(tmp_path: Path) -> None:
    stored = stored_of(make_run(tmp_path, classes=["a", "b", "c", "d"], n=200, sets=True, sure=1.0))
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, AnswersOfSets)
    found = confusions_of(answers, stored.classes)
    assert (found.rows[-1], found.columns[-1]) == (NO_LABEL, NO_ANSWER)
    for i, row in enumerate(found.rows):
        has = ~answers.targets.any(axis=1) if row == NO_LABEL else answers.targets[:, stored.classes.index(row)]
        assert found.support[i] == has.sum()
        for j, column in enumerate(found.columns):
            none = column == NO_ANSWER
            code = 0 if none else stored.classes.index(column)
            given_it = ~answers.predicted.any(axis=1) if none else answers.predicted[:, code]
            right = ~answers.targets.any(axis=1) if none else answers.targets[:, code]
            assert found.counts[i, j] == (has & given_it).sum()
            wrong = np.flatnonzero(has & given_it & ~right)
            assert found.images.get((i, j), np.array([], dtype=int)).tolist() == wrong.tolist()
    assert [pair.count for pair in found.pairs] == sorted((len(rows) for rows in found.images.values()), reverse=True)


@pytest.mark.parametrize("k", [1, 2])
def test_one_and_two_classes(k: int) -> None:
    targets = np.zeros(5, dtype=np.int64)
    answers = Answers(["x"] * 5, targets, np.minimum(np.arange(5), k - 1), np.linspace(0.5, 1, 5), np.ones(5))
    found = confusions_of(answers, ["a", "b"][:k])
    assert found.counts.sum() == 5
    assert len(found.pairs) == k - 1
