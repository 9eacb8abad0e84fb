import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from imgkit.errors import UsageError
from imgkit.unlike import Likeness, bound, fit

CLASSES = 3


def features(rng: np.random.Generator, n: int, *, apart: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 8) in three groups, and which group each is of."""
    targets = np.arange(n) % CLASSES
    return rng.normal(size=(n, 8)) + apart * np.eye(8)[targets] + 1, targets


def test_the_distance_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    train, targets = features(rng, 300)
    tried, _ = features(rng, 7)
    found = fit(train, targets, tried).distances(tried)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    means = np.array([unit[targets == code].mean(axis=0) for code in range(CLASSES)])
    inverse = np.linalg.inv(ledoit_wolf(unit - means[targets], assume_centered=True)[0])
    for row, one in enumerate(tried / np.linalg.norm(tried, axis=1, keepdims=True)):
        expected = min((one - mean) @ inverse @ (one - mean) for mean in means)
        assert found[row] == pytest.approx(expected, rel=1e-4)


def test_like_images_are_called_unlike_as_seldom_as_promised() -> None:
    rng, false = np.random.default_rng(1), []
    for _ in range(40):
        likeness = fit(*features(rng, 120), features(rng, 99)[0])
        false.append((likeness.shares(features(rng, 500)[0]) >= bound(99, 0.9)).mean())
    assert np.mean(false) == pytest.approx(0.1, abs=0.015)


def test_features_in_another_direction_are_unlike() -> None:
    rng = np.random.default_rng(2)
    likeness = fit(*features(rng, 300), features(rng, 200)[0])
    others = -features(rng, 50)[0]
    assert likeness.shares(others).tolist() == [200 / 201] * 50, "further away than all 200"


def test_more_features_than_images_and_a_class_without_any() -> None:
    rng = np.random.default_rng(3)
    train = rng.normal(size=(20, 64))
    likeness = fit(train, np.array([0, 2] * 10), rng.normal(size=(30, 64)))
    assert likeness.means.shape == (2, 64)
    assert np.isfinite(likeness.held).all()
    same = fit(np.ones((5, 4)), np.zeros(5, dtype=np.int64), np.ones((3, 4)))
    assert np.isfinite(same.distances(np.zeros((2, 4)))).all()


def test_it_reads_back_for_the_same_weights_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    likeness = fit(*features(rng, 60), features(rng, 30)[0])
    file = tmp_path / "unlike.safetensors"
    assert Likeness.load(file, {"weights": "ab"}) is None
    likeness.save(file, {"weights": "ab"})
    found = Likeness.load(file, {"weights": "ab"})
    assert found is not None
    for name in ("root", "means", "held"):
        assert np.array_equal(getattr(found, name), getattr(likeness, name))
    assert Likeness.load(file, {"weights": "cd"}) is None
    file.write_bytes(file.read_bytes()[:-9])
    assert Likeness.load(file, {"weights": "ab"}) is None


def test_too_few_held_out_images_are_refused() -> None:
    assert bound(99, 0.99) == 0.99
    message = "To call at most 1 % of like images unlike takes 99 validation images; there are 50."
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        bound(50, 0.99)
    assert error.value.hint == "Ask for less, such as  --unlike 0.98"
    assert bound(50, 0.98) == 50 / 51
