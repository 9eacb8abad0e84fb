import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from imgkit.errors import UsageError
from imgkit.losses import LOSSES, make_loss
from imgkit.recipe.losses import CrossEntropy, Focal

torch.set_num_threads(1)

Settings = CrossEntropy | Focal

SETTINGS: list[Settings] = [
    CrossEntropy(),
    CrossEntropy(label_smoothing=0.1),
    Focal(name="focal"),
    Focal(name="focal", gamma=0.0, alpha=0.25),
    Focal(name="focal", gamma=0.5),
    Focal(name="focal", gamma=5.0, alpha=2.0),
]
every_loss = pytest.mark.parametrize("chosen", SETTINGS, ids=str)


def naive(chosen: Settings, logits: Tensor, targets: Tensor) -> float:
    """The mean in plain Python floats."""
    total = 0.0
    for row, target in zip(logits.double().tolist(), targets.tolist(), strict=True):
        top = max(row)
        whole = math.fsum(math.exp(value - top) for value in row)
        log_p = [value - top - math.log(whole) for value in row]
        if isinstance(chosen, Focal):
            total += -chosen.alpha * (1 - math.exp(log_p[target])) ** chosen.gamma * log_p[target]
        else:
            smooth = chosen.label_smoothing
            total += -(1 - smooth) * log_p[target] - smooth * sum(log_p) / len(row)
    return total / len(logits)


def batch(seed: int, rows: int = 7, classes: int = 5, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=draw) * spread
    return logits, torch.randint(classes, (rows,), generator=draw)


def test_every_registered_loss_is_tested() -> None:
    assert {chosen.name for chosen in SETTINGS} == set(LOSSES)


@every_loss
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 9), classes=st.integers(2, 12), spread=st.floats(0.01, 10.0))
def test_loss_equals_the_naive_sum(chosen: Settings, seed: int, rows: int, classes: int, spread: float) -> None:
    logits, targets = batch(seed, rows, classes, spread)
    found = make_loss(chosen)(logits.double(), targets)
    assert found.shape == ()
    assert found.item() >= 0.0
    assert found.item() == pytest.approx(naive(chosen, logits, targets), rel=1e-9, abs=1e-12)
    assert make_loss(chosen)(logits, targets).item() == pytest.approx(found.item(), rel=1e-4, abs=1e-5)


@every_loss
@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([-1e4, -1.0, 0.0, 1e-7, 17.0, 1e4]), min_size=4, max_size=4), min_size=1),
    data=st.data(),
)
def test_loss_and_gradient_are_finite_for_extreme_logits(
    chosen: Settings, rows: list[list[float]], data: st.DataObject
) -> None:
    targets = torch.tensor([data.draw(st.integers(0, 3)) for _ in rows])
    logits = torch.tensor(rows, requires_grad=True)
    found = make_loss(chosen)(logits, targets)
    found.backward()
    assert math.isfinite(found.item())
    assert found.item() >= 0.0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@every_loss
def test_loss_does_not_depend_on_the_order_in_the_batch(chosen: Settings) -> None:
    logits, targets = batch(3, rows=16)
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    loss = make_loss(chosen)
    assert loss(logits[shuffled], targets[shuffled]).item() == pytest.approx(loss(logits, targets).item(), rel=1e-6)


@every_loss
def test_gradient_equals_finite_differences(chosen: Settings) -> None:
    logits, targets = batch(4, rows=3, classes=4, spread=1.0)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: make_loss(chosen)(values, targets), (logits,))


@every_loss
def test_mixed_targets_are_the_labels_in_their_shares(chosen: Settings) -> None:
    logits, targets = batch(6)
    logits, others = logits.double(), targets.roll(1)
    loss = make_loss(chosen)
    own, theirs = (functional.one_hot(one, 5).double() for one in (targets, others))
    assert loss(logits, own).item() == pytest.approx(loss(logits, targets).item(), rel=1e-9)
    expected = 0.3 * loss(logits, targets).item() + 0.7 * loss(logits, others).item()
    assert loss(logits, 0.3 * own + 0.7 * theirs).item() == pytest.approx(expected, rel=1e-9)
    extreme = (logits * 1e4).float().requires_grad_()
    loss(extreme, own.float()).backward()
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


def test_focal_at_gamma_0_is_cross_entropy() -> None:
    logits, targets = batch(5)
    focal = make_loss(Focal(name="focal", gamma=0.0, alpha=1.0))(logits, targets)
    assert focal.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-6)


def test_focal_weighs_an_easy_image_down() -> None:
    easy, hard, target = torch.tensor([[4.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), torch.tensor([0])
    focal, plain = make_loss(Focal(name="focal")), make_loss(CrossEntropy())
    assert focal(easy, target) / plain(easy, target) < 0.001
    assert focal(hard, target) / plain(hard, target) > 0.5


def test_unknown_loss_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown loss 'focl' \(did you mean 'focal'\?\)"):
        LOSSES["focl"]
