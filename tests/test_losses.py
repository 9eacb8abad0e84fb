"""Every registered loss, in every task that it serves, against numpy and against what a loss has to be."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import PolyBinaryCrossEntropy
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from imgkit.errors import UsageError
from imgkit.losses import LOSSES, LabelFacts, make_loss
from imgkit.recipe.fields import Task
from imgkit.recipe.losses import (
    LOSS_TYPES,
    Asymmetric,
    Bce,
    ClassWeighted,
    CrossEntropy,
    DistributionBalanced,
    Focal,
    LogitAdjusted,
    LossSettings,
    Poly,
    TwoWay,
    Zlpr,
)

torch.set_num_threads(1)

Array = npt.NDArray[np.float64]
WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0)
CASES: list[tuple[LossSettings, Task]] = [
    (CrossEntropy(), "single"),
    (CrossEntropy(label_smoothing=0.1), "single"),
    (LogitAdjusted(name="logit_adjusted"), "single"),
    (LogitAdjusted(name="logit_adjusted", tau=0.5, label_smoothing=0.1), "single"),
    (Focal(name="focal"), "single"),
    (Focal(name="focal", gamma=0.0, alpha=0.25), "single"),
    (Focal(name="focal", gamma=0.5), "single"),
    (Focal(name="focal", gamma=5.0, alpha=1.0), "single"),
    (Asymmetric(name="asymmetric"), "single"),
    (Asymmetric(name="asymmetric", gamma_pos=0.0, gamma_neg=1.0, label_smoothing=0.1), "single"),
    (Poly(name="poly"), "single"),
    (Poly(name="poly", epsilon=-1.0, label_smoothing=0.1), "single"),
    (Bce(name="bce"), "multilabel"),
    (Bce(name="bce", label_smoothing=0.1), "multilabel"),
    (Focal(name="focal"), "multilabel"),
    (Focal(name="focal", gamma=0.0), "multilabel"),
    (Focal(name="focal", gamma=0.5, alpha=0.25), "multilabel"),
    (Asymmetric(name="asymmetric"), "multilabel"),
    (Asymmetric(name="asymmetric", gamma_pos=0.0, gamma_neg=1.0, clip=0.0, label_smoothing=0.1), "multilabel"),
    (Poly(name="poly"), "multilabel"),
    (Poly(name="poly", epsilon=-1.0, label_smoothing=0.1), "multilabel"),
    (TwoWay(name="two_way"), "multilabel"),
    (TwoWay(name="two_way", positive_temperature=1.0, negative_temperature=2.0), "multilabel"),
    (Zlpr(name="zlpr"), "multilabel"),
    (DistributionBalanced(name="distribution_balanced"), "multilabel"),
    (
        DistributionBalanced(
            name="distribution_balanced", negative_scale=1.0, prior_shift=0.0, gamma=0.0, label_smoothing=0.1
        ),
        "multilabel",
    ),
]


def short(value: object) -> str:
    return f"{value!s:.60}"


every_case = pytest.mark.parametrize(("chosen", "task"), CASES, ids=short)


def facts(task: Task, classes: int = 5, weights: tuple[float, ...] | None = None) -> LabelFacts:
    counts = np.arange(1, classes + 1, dtype=np.int64) * 3
    return LabelFacts(task, counts, 100, None if weights is None else torch.tensor(weights))


def log_softmax(logits: Array) -> Array:
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def sigmoid(x: Array) -> Array:
    return np.exp(-softplus(-x))


def naive_single(chosen: LossSettings, x: Array, t: Array, labels: LabelFacts) -> Array:
    """The loss of each image, (B,); t (B, K) sums to 1 in each row, and is 0 or 1 for the asymmetric loss."""
    smooth = getattr(chosen, "label_smoothing", 0.0)
    log_p, soft = log_softmax(x), t * (1 - smooth) + smooth / x.shape[1]
    p = np.exp(log_p)
    match chosen:
        case CrossEntropy():
            return -(soft * log_p).sum(1)
        case LogitAdjusted():
            odds = np.exp(x) * (labels.counts / labels.counts.sum()) ** chosen.tau
            return -(soft * np.log(odds / odds.sum(1, keepdims=True))).sum(1)
        case Focal():
            return -(chosen.alpha or 1.0) * (t * (1 - p) ** chosen.gamma * log_p).sum(1)
        case Poly():
            return -(soft * log_p).sum(1) + chosen.epsilon * (1 - (soft * p).sum(1))
        case Asymmetric():
            return -(soft * np.where(t > 0, (1 - p) ** chosen.gamma_pos, p**chosen.gamma_neg) * log_p).sum(1)
    raise AssertionError(chosen.name)


def naive_many(chosen: LossSettings, x: Array, t: Array, labels: LabelFacts) -> float:
    """The loss of a batch with t (B, K) in [0, 1]."""
    smooth = getattr(chosen, "label_smoothing", 0.0)
    y, p = t * (1 - smooth) + smooth / 2, sigmoid(x)
    match chosen:
        case Bce():
            return float((y * softplus(-x) + (1 - y) * softplus(x)).mean())
        case Focal():
            a, b = (1.0, 1.0) if chosen.alpha is None else (chosen.alpha, 1 - chosen.alpha)
            g = chosen.gamma
            return float((a * t * (1 - p) ** g * softplus(-x) + b * (1 - t) * p**g * softplus(x)).mean())
        case Poly():
            return float(
                (y * softplus(-x) + (1 - y) * softplus(x) + chosen.epsilon * (1 - y * p - (1 - y) * (1 - p))).mean()
            )
        case Asymmetric():
            absent = np.minimum(1 - p + chosen.clip, 1.0)
            truth = y * p + (1 - y) * absent
            log = y * np.log(p) + (1 - y) * np.log(absent)
            return float((-log * (1 - truth) ** (chosen.gamma_pos * y + chosen.gamma_neg * (1 - y))).sum(1).mean())
        case Zlpr():
            rows = [
                math.log1p(np.exp(r[y == 0]).sum()) + math.log1p(np.exp(-r[y == 1]).sum())
                for r, y in zip(x, t, strict=True)
            ]
            return sum(rows) / len(rows)
        case TwoWay():
            return naive_two_way(chosen, x, t) + naive_two_way(chosen, x.T, t.T)
        case DistributionBalanced():
            return naive_balanced(chosen, x, t, y, labels)
    raise AssertionError(chosen.name)


def naive_two_way(chosen: TwoWay, x: Array, t: Array) -> float:
    rows = []
    for row, there in zip(x, t == 1, strict=True):
        if there.any():
            hard = chosen.positive_temperature * np.log(np.exp(-row[there] / chosen.positive_temperature).sum())
            if (~there).any():
                others = np.exp(row[~there] / chosen.negative_temperature).sum()
                rows.append(np.logaddexp(0.0, hard + chosen.negative_temperature * np.log(others)))
            else:
                rows.append(0.0)
    return float(np.mean(rows)) if rows else 0.0


def naive_balanced(chosen: DistributionBalanced, x: Array, t: Array, y: Array, labels: LabelFacts) -> float:
    each = (t / labels.counts).sum(1, keepdims=True)
    ratio = np.divide(1 / labels.counts, each, out=np.full_like(t, np.inf), where=each > 0)
    weight = sigmoid(10.0 * (np.minimum(ratio, 1e3) - 0.2)) + 0.1
    z = x - np.log(labels.images / labels.counts - 1) * chosen.prior_shift / chosen.negative_scale
    scaled, g = z * chosen.negative_scale, chosen.gamma
    focal = 2.0 if g else 1.0
    there = focal * sigmoid(-z) ** g * softplus(-z)
    absent = focal * sigmoid(scaled) ** g * softplus(scaled) / chosen.negative_scale
    return float((weight * (y * there + (1 - y) * absent)).mean())


def batch(task: Task, seed: int, rows: int = 7, classes: int = 5, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=draw) * spread
    if task == "single":
        return logits, torch.randint(classes, (rows,), generator=draw)
    return logits, (torch.rand(rows, classes, generator=draw) < 0.4).float()


def soft_targets(task: Task, seed: int, rows: int = 7, classes: int = 5) -> Tensor:
    """Two batches of targets mixed in keyed shares, float (B, K)."""
    first, second = batch(task, seed, rows, classes)[1], batch(task, seed + 1, rows, classes)[1]
    if task == "single":
        first, second = functional.one_hot(first, classes), functional.one_hot(second, classes)
    share = torch.rand(rows, 1, generator=torch.Generator().manual_seed(seed))
    return share * first + (1 - share) * second


def naive(chosen: LossSettings, logits: Tensor, targets: Tensor, labels: LabelFacts) -> float:
    x, t = logits.double().numpy(), targets.double().numpy()
    if labels.task == "multilabel":
        return naive_many(chosen, x, t, labels)
    t = np.eye(x.shape[1])[targets.numpy()] if targets.dim() == 1 else t
    by = np.ones(x.shape[1]) if labels.weights is None else labels.weights.double().numpy()
    return float((naive_single(chosen, x, t, labels) * (t @ by)).mean())


def test_every_registered_loss_is_tested_in_every_task_it_serves() -> None:
    assert set(LOSSES) == set(LOSS_TYPES)
    assert {(chosen.name, task) for chosen, task in CASES} == {
        (name, task) for name, type_ in LOSS_TYPES.items() for task in type_.TASKS
    }
    assert all(set(type_.SOFT) <= set(type_.TASKS) for type_ in LOSS_TYPES.values())
    assert all(type_.TASKS for type_ in LOSS_TYPES.values())


@every_case
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 9), classes=st.integers(2, 12), spread=st.floats(0.01, 6.0))
def test_loss_equals_numpys(
    chosen: LossSettings, task: Task, seed: int, rows: int, classes: int, spread: float
) -> None:
    labels = facts(task, classes)
    logits, targets = batch(task, seed, rows, classes, spread)
    if (chosen.name, task) == ("asymmetric", "multilabel"):
        logits = logits.clamp(-8, 8)  # timm takes 1 - p in float32, which has few digits where p is nearly 1
    found = make_loss(chosen, labels)(logits, targets)
    assert found.shape == ()
    assert found.item() == pytest.approx(naive(chosen, logits, targets, labels), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("chosen", "task"),
    [(chosen, task) for chosen, task in CASES if task in chosen.SOFT],
    ids=short,
)
@pytest.mark.parametrize("seed", range(3))
def test_soft_targets_equal_numpys(chosen: LossSettings, task: Task, seed: int) -> None:
    labels, logits, targets = facts(task), batch(task, seed)[0], soft_targets(task, seed)
    assert make_loss(chosen, labels)(logits, targets).item() == pytest.approx(
        naive(chosen, logits, targets, labels), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize(("chosen", "task"), [(c, t) for c, t in CASES if t == "single" and t in c.SOFT], ids=str)
def test_a_label_and_its_one_hot_form_cost_the_same(chosen: LossSettings, task: Task) -> None:
    logits, targets = batch(task, 8)
    for weights in (None, WEIGHTS):
        loss = make_loss(chosen, facts(task, weights=weights))
        hot = functional.one_hot(targets, 5).float()
        assert loss(logits, targets).item() == pytest.approx(loss(logits, hot).item(), rel=1e-6)


@every_case
@settings(max_examples=10, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([-1e4, -1.0, 0.0, 1e-7, 17.0, 1e4]), min_size=4, max_size=4), min_size=1),
    data=st.data(),
)
def test_loss_and_gradient_are_finite_for_extreme_logits(
    chosen: LossSettings, task: Task, rows: list[list[float]], data: st.DataObject
) -> None:
    one = st.integers(0, 3) if task == "single" else st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4)
    targets = torch.tensor([data.draw(one) for _ in rows])
    logits = torch.tensor(rows, requires_grad=True)
    found = make_loss(chosen, facts(task, 4))(logits, targets)
    found.backward()
    assert math.isfinite(found.item())
    assert found.item() >= 0.0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@every_case
def test_a_perfect_answer_costs_next_to_nothing_and_a_wrong_one_much(chosen: LossSettings, task: Task) -> None:
    targets = batch(task, 3, rows=16)[1]
    hot = functional.one_hot(targets, 5).float() if task == "single" else targets
    loss, sharp = make_loss(chosen, facts(task)), 60.0 * (2 * hot - 1)
    right, wrong = loss(sharp, targets).item(), loss(-sharp, targets).item()
    smoothed = getattr(chosen, "label_smoothing", 0.0) > 0
    assert right < 1e-4 or (smoothed and right < wrong / 2)
    assert wrong > 1.0


@every_case
def test_loss_does_not_depend_on_the_order_in_the_batch(chosen: LossSettings, task: Task) -> None:
    logits, targets = batch(task, 3, rows=16)
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    loss = make_loss(chosen, facts(task))
    assert loss(logits[shuffled], targets[shuffled]).item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


@every_case
def test_parts_of_a_batch_add_up_to_it(chosen: LossSettings, task: Task) -> None:
    """As the trainer adds up micro-batches; the two-way loss compares images, so its parts do not."""
    logits, targets = batch(task, 5, rows=8)
    loss = make_loss(chosen, facts(task, weights=WEIGHTS if task == "single" else None))
    parts = sum(loss(logits[at : at + 2], targets[at : at + 2]).item() * 2 / 8 for at in range(0, 8, 2))
    assert (parts == pytest.approx(loss(logits, targets).item(), rel=1e-5)) == (chosen.name != "two_way")


@every_case
def test_gradient_equals_finite_differences(chosen: LossSettings, task: Task) -> None:
    logits, targets = batch(task, 4, rows=3, classes=4, spread=1.0)
    loss = make_loss(chosen, facts(task, 4))
    logits.requires_grad_()
    loss(logits, targets).backward()
    assert logits.grad is not None
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).double()
    low, high = ((logits.detach().double() + step * direction).float() for step in (-1e-2, 1e-2))
    slope = (naive(chosen, high, targets, facts(task, 4)) - naive(chosen, low, targets, facts(task, 4))) / 2e-2
    assert (logits.grad.double() * direction).sum().item() == pytest.approx(slope, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize(
    ("chosen", "task"), [(c, t) for c, t in CASES if t == "single" and isinstance(c, ClassWeighted)], ids=short
)
def test_class_weights_multiply_the_loss_of_an_image(chosen: LossSettings, task: Task) -> None:
    logits, targets = batch(task, 6, rows=12)
    weighted = make_loss(chosen, facts(task, weights=WEIGHTS))
    plain = make_loss(chosen, facts(task))
    each = [plain(logits[row : row + 1], targets[row : row + 1]).item() * WEIGHTS[targets[row]] for row in range(12)]
    assert weighted(logits, targets).item() == pytest.approx(sum(each) / 12, rel=1e-5)
    if task in chosen.SOFT:
        soft = soft_targets(task, 6, rows=12)
        found = weighted(logits, soft).item()
        assert found == pytest.approx(naive(chosen, logits, soft, facts(task, weights=WEIGHTS)), rel=1e-4)


def test_class_weights_of_cross_entropy_are_torchs() -> None:
    logits, targets = batch("single", 6, rows=12)
    theirs = functional.cross_entropy(logits, targets, weight=torch.tensor(WEIGHTS), reduction="sum") / 12
    ours = make_loss(CrossEntropy(), facts("single", weights=WEIGHTS))(logits, targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_pos_weight_is_torchs() -> None:
    logits, targets = batch("multilabel", 6, rows=12)
    ours = make_loss(Bce(name="bce"), facts("multilabel", weights=WEIGHTS))(logits, targets)
    theirs = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(WEIGHTS))
    assert ours.item() == theirs.item()


def test_adjusted_logits_answer_as_for_classes_of_one_size() -> None:
    """Its optimum is p(y | x) / p(y), of the p that cross-entropy would have learned (Menon et al. 2021)."""
    counts = np.array([90, 9, 1])
    labels = LabelFacts("single", counts, 100)
    targets = torch.from_numpy(np.repeat(np.arange(3), counts))
    logits = torch.zeros(3, requires_grad=True)  # one picture, which tells nothing of its class
    loss = make_loss(LogitAdjusted(name="logit_adjusted"), labels)
    loss(logits.expand(100, 3), targets).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-6, "all classes alike are the optimum"
    plain = torch.zeros(3, requires_grad=True)
    make_loss(CrossEntropy(), labels)(plain.expand(100, 3), targets).backward()
    assert plain.grad is not None
    assert plain.grad.abs().max().item() > 0.5
    absent = make_loss(LogitAdjusted(name="logit_adjusted"), LabelFacts("single", np.array([5, 0, 5]), 10))
    assert math.isfinite(absent(torch.zeros(2, 3), torch.tensor([0, 2])).item())


def test_focal_at_gamma_0_is_cross_entropy() -> None:
    for task, plain in (
        ("single", functional.cross_entropy),
        ("multilabel", functional.binary_cross_entropy_with_logits),
    ):
        logits, targets = batch(task, 5)
        focal = make_loss(Focal(name="focal", gamma=0.0), facts(task))(logits, targets)
        assert focal.item() == pytest.approx(plain(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_in_each_label_is_torchvisions_and_timms(gamma: float, alpha: float | None) -> None:
    logits, targets = batch("multilabel", 5)
    ours = make_loss(Focal(name="focal", gamma=gamma, alpha=alpha), facts("multilabel"))(logits, targets).item()
    torchvisions = sigmoid_focal_loss(logits, targets, -1 if alpha is None else alpha, gamma, reduction="mean")
    assert ours == pytest.approx(torchvisions.item(), rel=1e-5)
    assert ours == pytest.approx(PolyBinaryCrossEntropy(0.0, gamma, alpha)(logits, targets).item(), rel=1e-5)


def test_focal_weighs_an_easy_image_down() -> None:
    easy, hard, target = torch.tensor([[4.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), torch.tensor([0])
    labels = facts("single", 2)
    focal, plain = make_loss(Focal(name="focal"), labels), make_loss(CrossEntropy(), labels)
    assert focal(easy, target) / plain(easy, target) < 0.001
    assert focal(hard, target) / plain(hard, target) > 0.5


def test_the_balanced_loss_reads_the_label_counts() -> None:
    logits, targets = batch("multilabel", 5)
    labels = facts("multilabel")
    chosen = DistributionBalanced(name="distribution_balanced")
    turned = replace(labels, counts=labels.counts[::-1].copy())
    assert make_loss(chosen, labels)(logits, targets) != make_loss(chosen, turned)(logits, targets)
    always = replace(labels, counts=np.array([0, 100, 1, 99, 50]))
    assert torch.isfinite(make_loss(chosen, always)(logits, targets))
    assert torch.isfinite(make_loss(chosen, replace(labels, counts=np.ones(5), images=1))(logits, targets))


ELSEWHERE = {"class_weights", "class_weights_beta", "pos_weight"}  # become LabelFacts.weights: test_class_weights.py
CHANGED = {"label_smoothing": 0.3, "gamma": 3.0, "alpha": 0.3, "gamma_neg": 2.0, "gamma_pos": 2.0, "clip": 0.2}
CHANGED |= {"epsilon": 1.0, "positive_temperature": 2.0, "negative_temperature": 3.0}
CHANGED |= {"negative_scale": 3.0, "prior_shift": 0.5, "tau": 0.5}


def usual(name: str) -> LossSettings:
    smoothed = {"label_smoothing": 0.1} if name == "asymmetric" else {}
    return LOSS_TYPES[name].model_validate({"name": name, **smoothed})


@pytest.mark.parametrize(
    ("name", "task", "key"),
    [
        (name, task, key)
        for name, type_ in LOSS_TYPES.items()
        for task in type_.TASKS
        for key in type_.model_fields
        if key != "name" and key not in ELSEWHERE and key not in usual(name).unread(task)
    ],
)
def test_every_key_changes_the_loss(name: str, task: Task, key: str) -> None:
    changed = usual(name).model_copy(update={key: CHANGED[key]})
    logits, targets = batch(task, 5, rows=16)
    assert make_loss(usual(name), facts(task))(logits, targets) != make_loss(changed, facts(task))(logits, targets)


def test_the_asymmetric_loss_of_one_label_reads_the_other_classes_when_it_smooths() -> None:
    logits, targets = batch("single", 5)
    for smoothing, reads in ((0.0, False), (0.1, True)):
        found = [
            make_loss(Asymmetric(name="asymmetric", gamma_neg=gamma, label_smoothing=smoothing), facts("single"))
            for gamma in (2.0, 4.0)
        ]
        assert (found[0](logits, targets) != found[1](logits, targets)).item() == reads


def test_unknown_loss_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown loss 'focl' \(did you mean 'focal'\?\)"):
        LOSSES["focl"]
