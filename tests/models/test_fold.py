"""Folded networks against the networks themselves, with norms that do something."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import imgkit.models  # registers imgkit's own networks
from imgkit.models.fold import fold_batch_norms

torch.set_num_threads(1)
assert imgkit.models


def shaken(model: nn.Module) -> nn.Module:
    """The network with random statistics, scales and shifts, in training mode."""
    random = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=random) / 10)
            norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=random) + 0.5)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5, generator=random)
                nn.init.uniform_(norm.bias, -0.5, 0.5, generator=random)
    return model.train()


def apart(model: nn.Module, folded: nn.Module, images: torch.Tensor) -> float:
    """The largest difference of logits as a share of the largest logit."""
    with torch.inference_mode():
        logits = model.eval()(images)
        return float((folded(images) - logits).abs().max() / logits.abs().max())


@pytest.mark.parametrize(
    ("name", "folds", "norms"),
    [
        ("resnet50", 53, 53),
        ("tf_efficientnet_lite0", 49, 49),  # padding of its own in strided convolutions
        ("efficientnet_b0", 49, 49),
        ("mobilenetv4_conv_small", 46, 46),
        ("vgg11_bn", 8, 8),
        ("densenet121", 59, 121),  # most of its norms come before a convolution
        ("convnext_atto", 0, 0),
        ("vit_tiny_patch16_224", 0, 0),
        ("cbam_resnet50", 53, 53),
    ],
)
def test_families_answer_as_before(name: str, folds: int, norms: int) -> None:
    torch.manual_seed(0)
    model = shaken(timm.create_model(name, num_classes=5))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    side = 224 if name.startswith("vit") else 64
    images = torch.randn(2, 3, side, side)
    folded, found = fold_batch_norms(model, images[:1])
    assert (found, sum(isinstance(one, nn.BatchNorm2d) for one in model.modules())) == (folds, norms)
    assert sum(isinstance(one, nn.BatchNorm2d) for one in folded.modules()) == norms - folds
    assert model.training
    assert not any(one.training for one in folded.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert apart(model, folded, images) < 2e-5


class Pair(nn.Module):
    """A convolution and a norm, and a function of both and the images."""

    def __init__(self, flow: Callable[["Pair", torch.Tensor], torch.Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.flow = nn.Conv2d(3, 4, 3, bias=False), norm or nn.BatchNorm2d(4), flow

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.flow(self, images).mean((2, 3))


def read_twice(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    made = pair.conv(images)
    return pair.norm(made) + made.sigmoid()


def changed_before(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.conv(images).relu_())


def seen_after(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    made = pair.conv(images)
    return pair.norm(made) * made.view(-1).max()


def called_twice(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.conv(images)) + pair.conv(images.flip(3))


def normed_twice(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.norm(pair.conv(images)))


def weights_read(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.conv(images)) * pair.conv.weight.abs().mean()


def scale_read(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.conv(images)) * pair.norm.weight.abs().mean()


@pytest.mark.parametrize(
    "flow", [read_twice, changed_before, seen_after, called_twice, normed_twice, weights_read, scale_read]
)
def test_what_is_not_confirmed_stays(flow: Callable[[Pair, torch.Tensor], torch.Tensor]) -> None:
    model, images = shaken(Pair(flow)), torch.randn(2, 3, 8, 8)
    folded, found = fold_batch_norms(model, images)
    assert found == 0
    assert apart(model, folded, images) == 0


def usual(pair: Pair, images: torch.Tensor) -> torch.Tensor:
    return pair.norm(pair.conv(images))


class Centred(nn.Conv2d):
    """Its weights are not those that it multiplies by."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(images, self.weight - self.weight.mean(), self.bias)


def test_other_kinds_of_layers_stay() -> None:
    images = torch.randn(2, 3, 8, 8)
    without = Pair(usual, nn.BatchNorm2d(4, track_running_stats=False))
    child, hooked, tied = Pair(usual), Pair(usual), Pair(usual)
    child.conv = Centred(3, 4, 3)
    hooked.conv.register_forward_pre_hook(lambda _, given: (2 * given[0],))
    tied.other = nn.Conv2d(3, 4, 3)
    tied.other.weight = tied.conv.weight
    for model in (without, child, hooked, tied, Pair(usual, nn.GroupNorm(2, 4))):
        folded, found = fold_batch_norms(shaken(model), images)
        assert found == 0
        assert apart(model, folded, images) == 0


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_act_drop_bias_and_memory_stay(affine: bool, bias: bool, memory: torch.memory_format) -> None:
    norm = BatchNormAct2d(4, affine=affine, act_layer=nn.Hardswish, drop_layer=nn.Dropout)
    model = Pair(usual, norm)
    model.conv = nn.Conv2d(3, 4, 3, bias=bias)
    model, images = shaken(model).to(memory_format=memory), torch.randn(2, 3, 8, 8)  # type: ignore[call-overload]
    folded, found = fold_batch_norms(model, images)
    assert found == 1
    assert [type(one) for one in folded.norm] == [nn.Dropout, nn.Hardswish]
    assert folded.conv.weight.is_contiguous(memory_format=memory)
    assert apart(model, folded, images) < 1e-6
