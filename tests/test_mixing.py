import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from imgkit.mixing import Mix, draw_mix, partners
from imgkit.recipe.augment import AugmentSettings

torch.set_num_threads(1)


def batch(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 12, 10, generator=draw), torch.randint(5, (n,), generator=draw)


def mixed(mix: Mix, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return mix.images(images.clone(), partners(images)), mix.targets(targets, partners(targets), 5)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 7), key=st.integers(0, 2**64 - 1), cut=st.booleans())
def test_equals_torchvision_for_odd_batches_too(n: int, key: int, cut: bool) -> None:
    images, targets = batch(n, key % 1000)
    mix = draw_mix(AugmentSettings(cutmix=1.0) if cut else AugmentSettings(mixup=0.4), key, (12, 10))
    assert mix is not None
    if mix.box is None:
        params = {"labels": targets, "batch_size": n, "lam": mix.share}
        theirs = v2.MixUp(num_classes=5)
    else:
        params = {"labels": targets, "batch_size": n, "box": mix.box, "lam_adjusted": mix.share}
        theirs = v2.CutMix(num_classes=5)
    ours = mixed(mix, images, targets)
    torch.testing.assert_close(ours[0], theirs.transform(images, params))
    torch.testing.assert_close(ours[1], theirs.transform(targets, params).float())
    torch.testing.assert_close(ours[1].sum(1), torch.ones(n))


def test_sets_of_labels_are_mixed_likewise() -> None:
    sets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    found = Mix(0.75, None).targets(sets, partners(sets), 3)
    assert found.tolist() == [[0.75, 1.0, 0.25], [0.25, 0.25, 0.0], [0.0, 0.75, 0.75]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_distributed_like_torchs(alpha: float) -> None:
    mixes = [draw_mix(AugmentSettings(mixup=alpha), key * 2**40, (8, 8)) for key in range(2000)]
    ours = torch.tensor([mix.share for mix in mixes if mix is not None], dtype=torch.float64)
    torch.manual_seed(0)
    theirs = torch.distributions.Beta(alpha, alpha).sample((20000,)).double()
    quantiles = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    assert (ours.quantile(quantiles) - theirs.quantile(quantiles)).abs().max() < 0.06


def test_boxes_are_distributed_like_torchvisions_and_the_share_is_that_of_the_pixels() -> None:
    theirs = v2.CutMix(alpha=1.0, num_classes=2)
    torch.manual_seed(0)
    images = torch.zeros(1, 3, 40, 30)
    expected = torch.tensor([theirs.make_params([images])["box"] for _ in range(3000)]).double()
    boxes = []
    for key in range(3000):
        mix = draw_mix(AugmentSettings(cutmix=1.0), key, (40, 30))
        assert mix is not None
        assert mix.box is not None
        left, top, right, bottom = mix.box
        assert 0 <= left <= right <= 30
        assert 0 <= top <= bottom <= 40
        assert mix.share == pytest.approx(1 - (right - left) * (bottom - top) / 1200)
        boxes.append(mix.box)
    found = torch.tensor(boxes).double()
    for quantile in (0.25, 0.5, 0.75):
        assert (found.quantile(quantile, 0) - expected.quantile(quantile, 0)).abs().max() <= 2


def test_how_often_and_which() -> None:
    both = AugmentSettings(mixup=0.2, cutmix=1.0, mix_p=0.6)
    for strength in (1.0, 0.5):
        mixes = [draw_mix(both, key, (8, 8), strength) for key in range(2000)]
        happened = [mix for mix in mixes if mix is not None]
        assert len(happened) / 2000 == pytest.approx(0.6 * strength, abs=0.04)
        assert sum(mix.box is None for mix in happened) / len(happened) == pytest.approx(0.5, abs=0.05)
    assert all(draw_mix(AugmentSettings(), key, (8, 8)) is None for key in range(5))
    assert all(draw_mix(both, key, (8, 8), 0.0) is None for key in range(50))


def test_a_pure_function_of_the_key() -> None:
    augment = AugmentSettings(mixup=0.2, cutmix=1.0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [draw_mix(augment, key, (64, 64)) for key in range(50)]
    assert torch.equal(torch.get_rng_state(), state)
    assert [draw_mix(augment, key, (64, 64)) for key in range(50)] == first
    assert len({mix.share for mix in first if mix is not None}) > 40
