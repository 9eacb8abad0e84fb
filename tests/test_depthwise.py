"""Gradients of depthwise convolutions in bfloat16: those of the slow kernels, and where they are used."""

from itertools import product

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imgkit import depthwise
from imgkit.depthwise import quick_depthwise

CPU = torch.device("cpu")
SIDES = st.sampled_from([(3, 3), (5, 5), (3, 5), (5, 3), (4, 4), (5, 1), (7, 7)])


def gradients(
    convolution: nn.Conv2d, images: torch.Tensor, asked: tuple[bool, bool], *, quick: bool
) -> tuple[torch.Tensor, ...]:
    """Of images and weights, as asked for: those of a sum of answers with keyed weights."""
    images = images.detach().requires_grad_(asked[0])
    convolution.weight.requires_grad_(asked[1])
    convolution.zero_grad()
    answers = convolution(images)
    towards = torch.randn(answers.shape, generator=torch.Generator().manual_seed(1)).to(answers.dtype)
    with quick_depthwise(CPU, torch.bfloat16 if quick else None):
        answers.backward(towards)
    return tuple(one.double() for one in (images.grad, convolution.weight.grad) if one is not None)


@settings(max_examples=60, deadline=None)
@given(
    side=SIDES,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
    channels=st.sampled_from([1, 3, 16]),
    bias=st.booleans(),
    last=st.booleans(),
    asked=st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_gradients_are_those_of_float64(
    side: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    channels: int,
    bias: bool,
    last: bool,
    asked: tuple[bool, bool],
) -> None:
    torch.manual_seed(0)
    exact = nn.Conv2d(channels, channels, side, stride, padding, groups=channels, bias=bias).to(torch.bfloat16)
    images = torch.randn(2, channels, *size).to(torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last) if last else images
    quick = gradients(exact, images, asked, quick=True)
    wanted = gradients(exact.double(), images.double(), asked, quick=False)
    assert len(quick) == len(wanted)
    for one, other in zip(quick, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 2**-7 * other.abs().max()  # rounded once, where a sum may cancel


@pytest.mark.parametrize(("side", "stride"), [(3, 2), (5, 1), (5, 2)])
def test_a_bias_has_its_own_gradient(side: int, stride: int) -> None:
    layer = nn.Conv2d(4, 4, side, stride, groups=4, dtype=torch.bfloat16)
    images = torch.randn(2, 4, 12, 12, dtype=torch.bfloat16, requires_grad=True)
    found = []
    for autocast in (None, torch.bfloat16):
        layer.zero_grad()
        with quick_depthwise(CPU, autocast):
            layer(images).square().sum().backward()
        assert layer.bias is not None
        assert layer.bias.grad is not None
        found.append(layer.bias.grad.double())
    assert torch.allclose(*found, rtol=2**-6)


def test_each_slow_gradient_is_computed_in_the_other_way_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    whole = depthwise._gradients

    def seen(args: tuple[object, ...]) -> object:
        asked.append((args[2].shape[-1], args[4][0]))  # type: ignore[attr-defined, index]
        return whole(args)

    monkeypatch.setattr(depthwise, "_gradients", seen)
    images = torch.randn(1, 4, 12, 12, dtype=torch.bfloat16, requires_grad=True)
    for side, stride in product((3, 5), (1, 2)):
        layer = nn.Conv2d(4, 4, side, stride, groups=4, dtype=torch.bfloat16)
        with quick_depthwise(CPU, torch.bfloat16):
            layer(images).sum().backward()
    others = [nn.Conv2d(4, 4, 5), nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(4, 4, 5, groups=2)]
    others += [nn.Conv2d(4, 4, 5, dilation=2, groups=4), nn.ConvTranspose2d(4, 4, 5, groups=4)]
    for layer in others:
        with quick_depthwise(CPU, torch.bfloat16):
            layer.to(torch.bfloat16)(images).sum().backward()
    assert asked == [(3, 1), (3, 2), (5, 1), (5, 2)]


@pytest.mark.parametrize("autocast", [None, torch.float16])
def test_other_formats_keep_their_bits(autocast: torch.dtype | None) -> None:
    torch.manual_seed(0)
    layer, images = nn.Conv2d(4, 4, 5, 2, groups=4), torch.randn(2, 4, 12, 12)
    layer(images).sum().backward()
    assert layer.weight.grad is not None
    plain = layer.weight.grad.clone()
    layer.zero_grad()
    with quick_depthwise(CPU, autocast):
        layer(images).sum().backward()
    assert torch.equal(layer.weight.grad, plain)


def test_a_network_learns_the_same_but_for_rounding_and_twice_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3).to(memory_format=torch.channels_last).eval()
    images, targets = torch.randn(2, 3, 64, 64), torch.tensor([0, 2])

    def learnt(autocast: torch.dtype | None) -> torch.Tensor:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(network(images).float(), targets)
        with quick_depthwise(CPU, autocast):
            loss.backward()
        return torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])

    blocks: list[object] = []
    whole = depthwise._weights_in_blocks
    monkeypatch.setattr(depthwise, "_weights_in_blocks", lambda *args: blocks.append(args) or whole(*args))
    plain, quick = learnt(None), learnt(torch.bfloat16)
    assert len(blocks) == 9
    assert (plain - quick).norm() <= 0.02 * plain.norm()
    assert torch.equal(quick, learnt(torch.bfloat16))
