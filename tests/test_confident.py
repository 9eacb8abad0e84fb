"""Confident learning: a case worked out by hand, the sets of the paper by loops, and what must always hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgkit.confident import Floats, Ints, confident_joint, joint, self_confidence, thresholds

PROBS = np.array(
    [
        [0.9, 0.1],  # label 0: thresholds are (0.9 + 0.7 + 0.2) / 3 = 0.6 and (0.8 + 0.6) / 2 = 0.7
        [0.7, 0.3],
        [0.2, 0.8],  # confidently class 1
        [0.2, 0.8],  # label 1
        [0.4, 0.6],  # reaches no threshold
    ]
)
GIVEN = np.array([0, 0, 0, 1, 1])


def test_a_case_by_hand() -> None:
    assert thresholds(PROBS, GIVEN) == pytest.approx([0.6, 0.7])
    counts = confident_joint(PROBS, GIVEN)
    assert counts.tolist() == [[2, 1], [0, 1]]
    assert joint(counts, np.array([3, 2])) == pytest.approx(np.array([[2.0, 1.0], [0.0, 2.0]]))
    assert self_confidence(PROBS, GIVEN) == pytest.approx([0.9, 0.7, 0.2, 0.8, 0.6])


def test_an_image_above_two_thresholds_counts_for_the_more_probable_class() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.45, 0.5, 0.05], [0.5, 0.2, 0.3], [0.4, 0.5, 0.1]])
    labels = np.array([0, 1, 2, 1])  # thresholds 0.5, 0.5, 0.3
    assert confident_joint(probs, labels).tolist() == [[1, 0, 0], [0, 2, 0], [1, 0, 0]]


def test_a_class_without_images_and_one_that_is_never_confident() -> None:
    probs = np.array([[0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]])
    labels = np.array([0, 0, 1])
    assert thresholds(probs, labels)[2] == np.inf
    counts = confident_joint(np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), np.array([0, 0, 0]))
    assert joint(counts, np.array([3, 0])).tolist() == [[3.0, 0.0], [0.0, 0.0]]
    lost = np.array([[0, 0], [0, 2]])
    assert joint(lost, np.array([4, 2])).tolist() == [[4.0, 0.0], [0.0, 2.0]]


def one_after_another(probs: Floats, labels: Ints) -> list[list[int]]:
    """The sets of the paper, section 3.1, by loops."""
    classes = probs.shape[1]
    mean = [
        np.mean([p[j] for p, label in zip(probs, labels, strict=True) if label == j] or [np.inf])
        for j in range(classes)
    ]
    found = [[0] * classes for _ in range(classes)]
    for p, label in zip(probs, labels, strict=True):
        sure = [j for j in range(classes) if p[j] >= mean[j]]
        if sure:
            found[label][max(sure, key=lambda j: p[j])] += 1
    return found


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_it_is_what_loops_over_the_papers_sets_give(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n)
    counts, images = confident_joint(probs, labels), np.bincount(labels, minlength=classes)
    assert counts.tolist() == one_after_another(probs, labels)
    assert joint(counts, images).sum(axis=1) == pytest.approx(images)
