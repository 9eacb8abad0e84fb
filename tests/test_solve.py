import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from threadpoolctl import threadpool_limits

import imgkit.solve as subject
from imgkit.errors import WeightsError
from imgkit.logistic import Fit
from imgkit.scaled import Floats
from imgkit.solve import (
    STRENGTHS,
    USUAL,
    Solution,
    fits,
    fold_numbers,
    log_loss,
    solve_bytes,
    solve_head,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with threadpool_limits(1):  # for scikit-learn's own fits
        yield


def blobs(n: int, width: int, classes: int, seed: int = 0, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    x = (centres[targets] + spread * rng.normal(size=(n, width))) * rng.uniform(0.1, 9, width) + rng.normal(size=width)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(targets)


def pareto(features: torch.Tensor) -> Callable[[torch.Tensor], np.ndarray]:
    """Features centred and divided by the root of their deviation times the usual one, both of `features`."""
    x = features.double().numpy()
    std = x.std(axis=0)
    scale = np.where(std > 0, np.sqrt(std * np.sqrt(np.mean(std**2))), np.inf)
    return lambda others: (others.double().numpy() - x.mean(axis=0)) / scale


def softmax(solution: Solution, features: torch.Tensor) -> np.ndarray:
    return torch.softmax(features.double() @ solution.weight.double().T + solution.bias.double(), 1).numpy()


def test_what_fits() -> None:
    assert fits(2**20, 2**10, 10, memory=2**40)
    assert not fits(2**20, 2**10 + 1, 10, memory=2**40)
    taken = solve_bytes(1000, 100, 10)
    assert taken == 1000 * (12 * 100 + 24 * 10)
    assert fits(1000, 100, 10, memory=2 * taken)
    assert not fits(1000, 100, 10, memory=2 * taken - 1)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_solve_takes_what_is_reckoned(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Of numpy's memory: without the float32 features, which are there before."""
    monkeypatch.setattr("imgkit.scaled._BLOCK", 2**14)
    monkeypatch.setattr("imgkit.logistic.MAX_ITERATIONS", 3)
    features, targets = blobs(4000, 128, classes)
    tracemalloc.start()
    try:
        solve_head(features, targets, classes=classes, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.15 * (solve_bytes(4000, 128, classes) - 4 * 4000 * 128)


# The choice of C where there are many images


def test_c_is_chosen_on_a_draw_and_the_last_fit_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    regress = Fit._regress

    def spy(self: Fit, number: int, x: Floats, *rest: Any) -> tuple[Floats, Floats]:  # noqa: ANN401
        sizes.append(len(x))
        return regress(self, number, x, *rest)

    monkeypatch.setattr(Fit, "_regress", spy)
    features, targets = blobs(90, 10, 3)
    whole = solve_head(features, targets, classes=3, seed=0)
    assert sizes == [72] * 20 + [90]
    sizes.clear()
    monkeypatch.setattr(subject, "SAMPLE", 30)
    solution = solve_head(features, targets, classes=3, seed=0)
    assert sizes[-1] == 90
    assert len(sizes) == 21
    assert all(22 <= size <= 26 for size in sizes[:-1]), "four fifths of 30"
    assert set(solution.cv_loss) == set(STRENGTHS)
    if solution.c == whole.c:
        torch.testing.assert_close(solution.weight, whole.weight, atol=1e-2, rtol=1e-2)


def test_the_draw_is_keyed_and_takes_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "SAMPLE", 50)
    groups = np.arange(300) // 4
    drawn = subject._sample(300, groups, 7)
    assert 50 <= len(drawn) < 54
    assert (np.unique(groups[drawn], return_counts=True)[1] == 4).all()
    assert np.array_equal(drawn, np.sort(drawn))
    assert np.array_equal(drawn, subject._sample(300, groups, 7))
    assert not np.array_equal(drawn, subject._sample(300, groups, 8))
    assert len(subject._sample(300, None, 7)) == 50
    assert np.array_equal(subject._sample(50, None, 7), np.arange(50))


def test_the_time_that_is_left_is_told_once() -> None:
    told: list[float] = []
    solve_head(*blobs(60, 10, 3), classes=3, seed=0, left=told.append)
    assert len(told) == 1
    assert told[0] > 0
    solve_head(*blobs(1, 4, 1), classes=1, seed=0, left=told.append)
    assert len(told) == 1, "nothing to choose by"


# The solved head


@pytest.mark.parametrize(("n", "width", "classes"), [(90, 20, 2), (90, 20, 3), (40, 120, 2), (40, 120, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_plain_scikit_learn(n: int, width: int, classes: int, weighted: bool) -> None:
    features, targets = blobs(n, width, classes)
    weights = np.linspace(0.2, 3.0, classes)[targets.numpy()] if weighted else None
    solution = solve_head(features, targets, classes=classes, weights=weights, seed=0)
    assert solution.converged
    assert solution.weight.shape == (classes, width)
    assert solution.weight.dtype == solution.bias.dtype == torch.float32
    x = pareto(features)(features)
    plain = LogisticRegression(C=solution.c, max_iter=5000, tol=1e-8)
    plain.fit(x, targets.numpy(), sample_weight=weights)
    near = 3e-3 if weighted else 1e-3  # both stop at a gradient, whose scale the weights change
    assert np.abs(softmax(solution, features) - plain.predict_proba(x)).max() < near
    new, _ = blobs(50, width, classes, seed=9)
    expected = plain.predict_proba(pareto(features)(new))
    assert np.abs(softmax(solution, new) - expected).max() < near


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_c_is_the_best_of_plain_cross_validation(classes: int, weighted: bool) -> None:
    features, targets = blobs(60, 30, classes, spread=3)
    weights = np.linspace(0.2, 3.0, classes)[targets.numpy()] if weighted else np.ones(60)
    solution = solve_head(features, targets, classes=classes, weights=weights if weighted else None, seed=5)
    x = pareto(features)(features)
    y, fold = targets.numpy(), fold_numbers(targets.numpy(), None, 5)
    assert tuple(solution.cv_loss) == STRENGTHS
    for c in STRENGTHS:
        probs = np.empty((60, classes))
        for number in range(5):
            inside = fold != number
            plain = LogisticRegression(C=c, max_iter=5000, tol=1e-8)
            plain.fit(x[inside], y[inside], sample_weight=weights[inside])
            probs[fold == number] = plain.predict_proba(x[fold == number])
        assert abs(solution.cv_loss[c] - sklearn_log_loss(y, probs, sample_weight=weights)) < 1e-3
    assert solution.c == min(STRENGTHS, key=lambda c: solution.cv_loss[c])
    assert solution.c != STRENGTHS[0]


def test_augmented_pictures_are_fitted_but_do_not_judge_c() -> None:
    plain, targets = blobs(60, 30, 3, spread=3)
    features = torch.cat([plain, plain + 3 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))])
    images, twice = np.tile(np.arange(60), 2), torch.cat([targets, targets])
    judged = solve_head(features, twice, classes=3, groups=images, plain=60, seed=5)
    x = pareto(features)(features)
    y, fold = twice.numpy(), fold_numbers(twice.numpy(), images, 5)
    for c in STRENGTHS:
        probs = np.empty((120, 3))
        for number in range(5):
            model = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x[fold != number], y[fold != number])
            probs[fold == number] = model.predict_proba(x[fold == number])
        assert abs(judged.cv_loss[c] - sklearn_log_loss(y[:60], probs[:60])) < 5e-3
    by_all = solve_head(features, twice, classes=3, groups=images, seed=5)
    assert judged.cv_loss[1e-1] < by_all.cv_loss[1e-1], "augmented pictures are harder"


def test_ties_go_to_the_smaller_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "log_loss", lambda *_: 0.5)
    assert solve_head(*blobs(30, 4, 3), classes=3, seed=0).c == STRENGTHS[0]


def test_twice_the_same_bits() -> None:
    a, b = (solve_head(*blobs(50, 80, 3), classes=3, seed=1) for _ in range(2))
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.bias, b.bias)
    assert a.cv_loss == b.cv_loss


def test_constant_columns_get_zero_weights() -> None:
    features, targets = blobs(40, 6, 2)
    solution = solve_head(features, targets, classes=2, seed=0)
    noisy = 5 + 1e-7 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    wider = torch.cat([features, torch.full((40, 1), 3e4), torch.zeros(40, 1), noisy[:, None]], 1)
    found = solve_head(wider, targets, classes=2, seed=0)
    assert (found.weight[:, 6:] == 0).all()
    assert np.abs(softmax(found, wider) - softmax(solution, features)).max() < 1e-4


def test_all_columns_constant() -> None:
    solution = solve_head(torch.ones(12, 3), torch.tensor([0] * 9 + [1] * 3), classes=2, seed=0)
    assert np.abs(softmax(solution, torch.ones(1, 3)) - [0.75, 0.25]).max() < 1e-3


@pytest.mark.parametrize(
    ("targets", "classes"),
    [([0] * 6, 1), ([1] * 6, 3), ([0], 2), ([0, 1], 2), ([0, 0, 0, 0, 0, 1], 2), ([0, 0, 0, 2, 2, 3], 5)],
)
def test_classes_with_few_images_or_none(targets: list[int], classes: int) -> None:
    features, _ = blobs(len(targets), 8, 2)
    y = torch.tensor(targets)
    solution = solve_head(features, y, classes=classes, seed=0)
    assert solution.weight.isfinite().all()
    assert solution.bias.isfinite().all()
    assert np.isfinite(solution.cv_loss[solution.c])
    probs = softmax(solution, features)
    absent = [k for k in range(classes) if k not in targets]
    assert (solution.weight[absent] == 0).all()
    for k in absent:
        assert 0.1 / (len(y) + 1) < probs[:, k].mean() < 2 / (len(y) + 1)
    assert set(probs.argmax(1)) <= set(targets)
    if len(set(targets)) == 1:
        assert solution.c == USUAL
        assert (probs.argmax(1) == targets[0]).all()


def test_not_finite() -> None:
    features, targets = blobs(12, 4, 3)
    features[3, 1] = torch.inf
    features[7, 0] = torch.nan
    with pytest.raises(WeightsError, match="features of 2 of 12 images are not finite"):
        solve_head(features, targets, classes=3, seed=0)


def test_a_fit_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.logistic.MAX_ITERATIONS", 2)
    assert not solve_head(*blobs(60, 30, 3), classes=3, seed=0).converged


def test_a_solve_can_be_stopped_before_each_fit() -> None:
    calls: list[tuple[int, int]] = []
    solve_head(*blobs(30, 4, 3), classes=3, seed=0, progress=lambda *a: calls.append(a))
    assert calls == [(done, 21) for done in range(21)], "four C in five folds, then the last fit"
    calls.clear()
    solve_head(*blobs(1, 4, 1), classes=1, seed=0, progress=lambda *a: calls.append(a))
    assert calls == [(0, 1)]


def test_log_loss_equals_scikit_learn() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 5
    targets = np.random.default_rng(1).integers(0, 4, 50)
    probs = torch.softmax(torch.from_numpy(logits), 1).numpy()
    assert abs(log_loss(logits, targets) - sklearn_log_loss(targets, probs, labels=range(4))) < 1e-9


# One regression for each label


def sets(n: int, width: int, labels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) * rng.uniform(0.1, 9, width) + rng.normal(size=width)
    scores = (x - x.mean(0)) / (x.std(0) + 1e-9) @ rng.normal(size=(width, labels))
    hot = scores + 2 * rng.normal(size=scores.shape) > np.linspace(0, 3, labels)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(hot.astype(np.float32))


@pytest.mark.parametrize(("n", "width", "labels"), [(90, 20, 3), (40, 120, 2), (60, 10, 1)])
def test_sets_are_one_plain_regression_a_label_with_the_c_they_share(n: int, width: int, labels: int) -> None:
    features, hot = sets(n, width, labels)
    solution = solve_head(features, hot, classes=labels, seed=5)
    assert solution.weight.shape == (labels, width)
    x = pareto(features)(features)
    y, fold = hot.numpy().astype(int), fold_numbers(hot.numpy().astype(np.int64), None, 5)
    for c in STRENGTHS:
        losses = []
        for number in range(fold.max() + 1):
            out = fold == number
            for k in range(labels):
                plain = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x[~out], y[~out, k])
                losses += [-np.log(plain.predict_proba(x[out])[np.arange(out.sum()), y[out, k]])]
        assert abs(solution.cv_loss[c] - np.concatenate(losses).mean()) < 1e-3
    assert solution.c == min(STRENGTHS, key=lambda c: solution.cv_loss[c])
    logits = (features.double() @ solution.weight.double().T + solution.bias.double()).numpy()
    for k in range(labels):
        plain = LogisticRegression(C=solution.c, max_iter=5000, tol=1e-8).fit(x, y[:, k])
        assert np.abs(logits[:, k] - plain.decision_function(x)).max() < 5e-3


@pytest.mark.parametrize("n", [1, 2, 24])
def test_a_label_of_all_images_or_none_has_its_prior(n: int) -> None:
    features, hot = sets(n, 6, 3)
    hot[:, 0], hot[:, 2] = 0.0, 1.0
    solution = solve_head(features, hot, classes=3, seed=0)
    assert (solution.weight[[0, 2]] == 0).all()
    assert torch.sigmoid(solution.bias[[0, 2]]).tolist() == pytest.approx([1 / (n + 1), n / (n + 1)])
    assert solution.weight.isfinite().all()


def test_weights_count_images() -> None:
    for features, y in (blobs(40, 6, 3, spread=4), sets(40, 6, 3)):
        classes = 3
        twice = np.ones(40)
        twice[::2] = 2.0
        groups = np.arange(40)
        found = solve_head(features, y, classes=classes, groups=groups, weights=twice, seed=0)
        again = torch.cat([features, features[::2]]), torch.cat([y, y[::2]])
        expected = solve_head(*again, classes=classes, groups=np.concatenate([groups, groups[::2]]), seed=0)
        # Standardisation counts pictures, not weights, so that only the losses of strongly different C can be compared.
        assert found.c == expected.c
        assert not torch.equal(found.weight, solve_head(features, y, classes=classes, seed=0).weight)


def test_log_loss_of_sets() -> None:
    logits, hot = np.random.default_rng(0).normal(size=(20, 3)), np.random.default_rng(1).integers(0, 2, (20, 3))
    expected = sklearn_log_loss(hot.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    assert log_loss(logits, hot) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), labels=st.integers(1, 4), seed=st.integers(0, 2**32), grouped=st.booleans())
def test_folds_of_sets(n: int, labels: int, seed: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    y = (rng.random((n, labels)) < 0.3).astype(np.int64)
    groups = rng.integers(0, max(1, n // 3), n) if grouped else None
    fold = fold_numbers(y, groups, seed)
    assert np.array_equal(fold, fold_numbers(y, groups, seed))
    units = np.arange(n) if groups is None else groups
    k = fold.max() + 1
    assert set(fold.tolist()) == set(range(k))
    assert all(len(set(fold[units == unit].tolist())) == 1 for unit in set(units.tolist()))
    assert (k == 1) == (len(set(units.tolist())) < 2 or len(np.unique(y, axis=0)) < 2)
    if k > 2:  # so many groups have each label, and lack it
        for column in y.T[:, :] if labels else ():
            for answer in (0, 1):
                held = set(units[column == answer].tolist())
                assert len(held) >= k or column.min() == column.max()


# Folds


@settings(max_examples=150, deadline=None)
@given(
    targets=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    grouped=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_folds(targets: list[int], grouped: bool, seed: int) -> None:
    y = np.array(targets)
    n = len(y)
    groups = np.random.default_rng(n).integers(-3, max(1, n // 3), n) if grouped else None
    fold = fold_numbers(y, groups, seed)
    assert np.array_equal(fold, fold_numbers(y, groups, seed))
    assert fold.shape == (n,)
    units = n if groups is None else len(set(groups.tolist()))
    k = fold.max() + 1
    assert set(fold.tolist()) == set(range(k))
    assert k <= min(5, units)
    assert (k == 1) == (units < 2 or len(set(targets)) == 1)
    if groups is None:
        smallest = min(np.unique(y, return_counts=True)[1])
        if k > 1:
            assert k == min(5, max(2, smallest))
            table = np.array([[((fold == f) & (y == c)).sum() for f in range(k)] for c in set(targets)])
            assert (table.max(1) - table.min(1)).max() <= 1
            assert table.sum(0).max() - table.sum(0).min() <= 1
    else:
        assert all(len(set(fold[groups == g].tolist())) == 1 for g in set(groups.tolist()))


def test_folds_depend_on_the_seed() -> None:
    y = np.arange(40) % 2
    assert not np.array_equal(fold_numbers(y, None, 0), fold_numbers(y, None, 1))


def test_groups_count_as_their_most_frequent_class() -> None:
    y = np.array([0, 0, 1, 1, 1, 0] * 5)
    groups = np.repeat(np.arange(10), 3)  # 0 0 1 and 1 1 0 by turns
    fold = fold_numbers(y, groups, 0)
    for number in range(5):
        assert sorted(set((groups[fold == number] % 2).tolist())) == [0, 1]


def test_groups_reach_the_solver() -> None:
    features, targets = blobs(60, 10, 2)
    twice = torch.cat([features, features])  # each picture twice: without groups its twin gives it away
    y = torch.cat([targets, 1 - targets])
    y[::7] = 0
    apart = solve_head(twice, y, classes=2, seed=0)
    together = solve_head(twice, y, classes=2, groups=np.tile(np.arange(60), 2), seed=0)
    assert apart.cv_loss != together.cv_loss
