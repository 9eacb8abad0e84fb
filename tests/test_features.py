from collections.abc import Iterator

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

import imgkit.features as subject
from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import UsageError, WeightsError
from imgkit.features import (
    STRENGTHS,
    USUAL,
    Solution,
    check_solvable,
    extract,
    fits,
    fold_numbers,
    head_layer,
    load_solution,
    log_loss,
    pooled,
    solve_head,
    together,
)

FAMILIES = (
    "test_resnet",
    "test_vit",
    "test_efficientnet",
    "test_convnext",
    "test_nfnet",
    "test_byobnet",
    "test_maxvit",
    "test_mambaout",
    "mobilenetv3_small_050",  # convolution and activation after pooling
    "regnetx_002",
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with threadpool_limits(1):  # for scikit-learn's own fits
        yield


def make(name: str, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes, drop_rate=0.5)
    for parameter in head_layer(model).parameters():  # some families begin with zeros
        nn.init.normal_(parameter, std=0.1)
    return model


def rule(model: nn.Module) -> Preprocessing:
    return Preprocessing.from_timm(timm.data.resolve_model_data_config(model))


def pictures(preprocessing: Preprocessing, n: int = 5) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, *preprocessing.size), dtype=torch.uint8, generator=generator)
    ids = torch.arange(n) + 10
    return [Batch(images[i : i + 2], ids[i : i + 2] % 3, ids[i : i + 2]) for i in range(0, n, 2)]


def blobs(n: int, width: int, classes: int, seed: int = 0, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    x = (centres[targets] + spread * rng.normal(size=(n, width))) * rng.uniform(0.1, 9, width) + rng.normal(size=width)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(targets)


def softmax(solution: Solution, features: torch.Tensor) -> np.ndarray:
    return torch.softmax(features.double() @ solution.weight.double().T + solution.bias.double(), 1).numpy()


# Features


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_what_the_head_multiplies(name: str) -> None:
    model = make(name)
    preprocessing = rule(model)
    batches = pictures(preprocessing)
    model.train()
    calls: list[tuple[int, int]] = []
    found = together(
        extract(model, batches, preprocessing=preprocessing, device=CPU, progress=lambda *a: calls.append(a), total=5)
    )
    assert not any(module.training for module in model.modules())
    assert found.values.dtype == torch.float32
    assert not found.values.requires_grad
    assert found.ids.tolist() == [10, 11, 12, 13, 14]
    assert found.targets.tolist() == [1, 2, 0, 1, 2]
    assert calls == [(2, 5), (4, 5), (5, 5)]
    solution = solve_head(found.values, found.targets, classes=3, seed=0)
    load_solution(model, solution)
    with torch.inference_mode():
        logits = torch.cat([model(preprocessing.normalise(batch.images)) for batch in batches])
    assert torch.allclose(logits, found.values @ solution.weight.T + solution.bias, atol=1e-4, rtol=1e-4)


def test_vgg_has_layers_of_its_own_before_the_head() -> None:
    from timm.models.vgg import VGG

    torch.manual_seed(0)
    model = VGG(cfg=[8, "M", 8, "M"], num_classes=3, mlp_ratio=0.01, drop_rate=0.5).eval()
    images = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        features = pooled(model, images)
        assert torch.allclose(head_layer(model)(features), model(images), atol=1e-5)


def test_convolution_of_one_pixel_as_the_head() -> None:
    from timm.models.dla import DLA

    torch.manual_seed(0)
    model = DLA(levels=[1] * 6, channels=[4, 4, 8, 8, 16, 16], num_classes=3).eval()
    assert isinstance(head_layer(model), nn.Conv2d)
    solution = solve_head(*blobs(12, 16, 3), classes=3, seed=0)
    load_solution(model, solution)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = pooled(model, images) @ solution.weight.T + solution.bias
        assert torch.allclose(model(images), expected, atol=1e-5)


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "plain", "headless"])
def test_heads_that_cannot_be_solved(name: str) -> None:
    if name == "plain":
        model: nn.Module = Plain()
    else:
        model = timm.create_model(
            "test_resnet" if name == "headless" else name, num_classes=0 if name == "headless" else 3
        )
    with pytest.raises(UsageError, match="only a single linear head can be solved") as caught:
        head_layer(model)
    assert "phases.head.solver=sgd" in caught.value.hint


def test_head_without_a_bias() -> None:
    model = make("test_resnet")
    check_solvable(model, torch.randn(2, 3, 64, 64))
    head_layer(model).bias = None
    with pytest.raises(UsageError, match="has no bias"):
        check_solvable(model, torch.randn(2, 3, 64, 64))


def test_a_network_that_answers_with_more_than_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("test_vit")
    images, forward = torch.randn(2, 3, *rule(model).size), model.forward
    check_solvable(model, images)
    monkeypatch.setattr(model, "forward", lambda x: forward(x) * 1.1)
    with pytest.raises(UsageError, match="adds to what its head answers") as caught:
        check_solvable(model, images)
    assert "phases.head.solver=sgd" in caught.value.hint


def test_what_fits() -> None:
    assert fits(2**20, 2**10)
    assert not fits(2**20, 2**10 + 1)


# The solved head


@pytest.mark.parametrize(("n", "width", "classes"), [(90, 20, 2), (90, 20, 3), (40, 120, 2), (40, 120, 4)])
def test_equal_to_plain_scikit_learn(n: int, width: int, classes: int) -> None:
    features, targets = blobs(n, width, classes)
    solution = solve_head(features, targets, classes=classes, seed=0)
    assert solution.converged
    assert solution.weight.shape == (classes, width)
    assert solution.weight.dtype == solution.bias.dtype == torch.float32
    scaler = StandardScaler().fit(features.double().numpy())
    x = scaler.transform(features.double().numpy())
    plain = LogisticRegression(C=solution.c, max_iter=5000, tol=1e-8).fit(x, targets.numpy())
    assert np.abs(softmax(solution, features) - plain.predict_proba(x)).max() < 1e-3
    new, _ = blobs(50, width, classes, seed=9)
    expected = plain.predict_proba(scaler.transform(new.double().numpy()))
    assert np.abs(softmax(solution, new) - expected).max() < 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_c_is_the_best_of_plain_cross_validation(classes: int) -> None:
    features, targets = blobs(60, 30, classes, spread=3)
    solution = solve_head(features, targets, classes=classes, seed=5)
    x = StandardScaler().fit_transform(features.double().numpy())
    y, fold = targets.numpy(), fold_numbers(targets.numpy(), None, 5)
    assert tuple(solution.cv_loss) == STRENGTHS
    for c in STRENGTHS:
        probs = np.empty((60, classes))
        for number in range(5):
            plain = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x[fold != number], y[fold != number])
            probs[fold == number] = plain.predict_proba(x[fold == number])
        assert abs(solution.cv_loss[c] - sklearn_log_loss(y, probs)) < 1e-3
    assert solution.c == min(STRENGTHS, key=lambda c: solution.cv_loss[c])
    assert solution.c != STRENGTHS[0]


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
    monkeypatch.setattr(subject, "MAX_ITERATIONS", 2)
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
