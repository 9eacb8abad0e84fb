"""Probabilities by heads that did not see the image."""

import numpy as np
import pytest
import torch

from imgkit import solve
from imgkit.errors import DataError
from imgkit.held_out import out_of_fold
from imgkit.scaled import Floats

CLASSES = 3


def clouds(n: int, *, apart: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (n, 8) of three clouds, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    values = rng.normal(size=(n, 8)) + apart * np.eye(8)[labels]
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels)


def ask(features: torch.Tensor, targets: torch.Tensor, groups: np.ndarray | None = None) -> Floats:
    return out_of_fold(features, targets, classes=CLASSES, groups=groups, weights=None, seed=0)


def test_labels_drawn_by_chance_are_not_known() -> None:
    features, _ = clouds(120)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, CLASSES, 120))
    probs = ask(features, labels)
    assert probs.sum(axis=1) == pytest.approx(np.ones(120))
    assert (probs.argmax(axis=1) == labels.numpy()).mean() < 0.5


def test_a_wrong_label_that_a_copy_shares_is_seen_where_they_are_one_group() -> None:
    features, targets = clouds(90)
    features[1::30], targets[1::30] = features[0].clone(), 1  # copies of an image of class 0, all labelled 1
    targets[0] = 1
    groups = np.arange(90)
    groups[1::30] = 0
    assert ask(features, targets, groups)[0, 0] > ask(features, targets)[0, 0]
    assert ask(features, targets, groups)[0].argmax() == 0


def test_more_images_than_c_is_chosen_on_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = clouds(150)
    whole = ask(features, targets)
    monkeypatch.setattr(solve, "SAMPLE", 100)
    sampled = ask(features, targets)
    assert sampled.shape == (150, CLASSES)
    assert (sampled.argmax(axis=1) == targets.numpy()).mean() > 0.9
    assert np.abs(sampled - whole).mean() < 0.1


def test_too_few_images() -> None:
    features, targets = clouds(3)
    with pytest.raises(DataError, match="too few to hold some out"):
        ask(features, torch.zeros_like(targets))
