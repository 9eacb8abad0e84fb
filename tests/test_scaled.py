"""Features in blocks against all of them at once: the same bits."""

import numpy as np
import pytest
import torch

from imgkit import scaled
from imgkit.scaled import Floats, Scaled, finite_rows, pareto_scale


def plainly(features: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """All rows, the mean and the scale, as numpy makes them of the whole."""
    x = features.astype(np.float64)
    mean, scale = x.mean(axis=0), pareto_scale(x.std(axis=0), np.abs(x).max(axis=0))
    x -= mean
    x *= scale
    return x, mean, scale


@pytest.mark.parametrize(("n", "width"), [(50, 40), (301, 33), (999, 100), (64, 64), (2, 1), (40, 17), (1000, 32)])
def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch, n: int, width: int) -> None:
    monkeypatch.setattr(scaled, "_BLOCK", 333)
    rng = np.random.default_rng(n)
    features = (rng.normal(size=(n, width)) * rng.uniform(0.1, 100, width) + 5).astype(np.float32)
    features[:, -1] = 3 if width > 1 else features[:, -1]
    found, (x, mean, scale) = Scaled.of(features), plainly(features)
    assert found.basis is None
    assert np.array_equal(found.mean, mean)
    assert np.array_equal(found.scale, scale)
    assert np.array_equal(found.rows(), x)
    chosen = np.flatnonzero(rng.random(n) < 0.7)
    assert np.array_equal(found.rows(chosen), x[chosen])
    weight = rng.normal(size=(3, width))
    assert found.back(weight) is weight


def test_fewer_images_than_features_are_rotated() -> None:
    features = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
    found, (x, _, _) = Scaled.of(features), plainly(features)
    rows, some = found.rows(), np.array([1, 5, 7])
    assert rows.shape == (12, 12)
    assert np.array_equal(found.rows(some), rows[some])
    weight = np.random.default_rng(1).normal(size=(3, 12))
    np.testing.assert_allclose(rows @ weight.T, x @ found.back(weight).T, atol=1e-9)


def test_rows_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaled, "_BLOCK", 8)
    features = torch.zeros(9, 4)
    features[0, 1], features[8, 3], features[8, 0] = float("nan"), float("inf"), float("-inf")
    assert finite_rows(features) == 7


def test_features_that_hardly_vary_are_not_blown_up() -> None:
    std = np.array([4.0, 1.0, 1e-4, 0.0, 1e-9])
    scale = pareto_scale(std, np.array([9.0, 3.0, 1.0, 7.0, 1.0]))
    usual = np.sqrt((16 + 1 + 1e-8) / 3)
    np.testing.assert_allclose(scale, [1 / np.sqrt(4 * usual), 1 / np.sqrt(usual), 1 / np.sqrt(1e-4 * usual), 0, 0])
    assert pareto_scale(np.zeros(3), np.ones(3)).tolist() == [0, 0, 0]
