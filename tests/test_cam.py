from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import imgkit.models  # noqa: F401  (its networks are timm's from then on)
from imgkit.cam import NoMap, _grid, grad_cam
from imgkit.features import head_layer, pooled
from imgkit.models.recompute import set_grad_checkpointing

MAPS = {  # places left of a picture of so many pixels, by network
    "test_resnet": (96, (3, 3)),
    "test_convnext": (96, (3, 3)),
    "test_efficientnet": (96, (3, 3)),
    "test_nfnet": (96, (3, 3)),
    "test_mambaout": (96, (3, 3)),  # (B, h, w, K)
    "test_byobnet": (96, (3, 3)),
    "test_maxvit": (160, (5, 5)),
    "test_vit": (160, (10, 10)),
    "test_vit2": (160, (10, 10)),
    "test_vit_relpos": (160, (10, 10)),
    "mobilenetv4_conv_small": (64, (2, 2)),
    "regnetx_002": (64, (2, 2)),
    "cbam_resnet18": (64, (2, 2)),
    "lsvrc_residual": (224, (2, 2)),
    "multilabel_cnn": (128, (18, 18)),
}
RESIZED = {  # families whose networks are made for one size, at a smaller one
    "deit_tiny_distilled_patch16_224": (64, (4, 4)),  # two tokens that stand for no place
    "deit3_small_patch16_224": (64, (4, 4)),
    "cait_xxs24_224": (64, (4, 4)),  # its blocks have no class token
    "vit_small_patch14_reg4_dinov2": (56, (4, 4)),  # five such tokens
    "swin_tiny_patch4_window7_224": (64, (2, 2)),  # (B, h, w, K)
    "mixer_s32_224": (64, (2, 2)),
}


def network(name: str, **options: Any) -> nn.Module:  # noqa: ANN401
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, pretrained=False, num_classes=3, **options)
    head = made.get_classifier()
    for layer in head if isinstance(head, tuple) else (head,):
        nn.init.normal_(layer.weight, std=0.1)  # that of some begins at zero, and then no place has a part
    return made


@pytest.mark.parametrize("name", [*MAPS, *RESIZED])
def test_every_layout_gives_maps_and_leaves_the_network_alone(name: str) -> None:
    side, places = (MAPS | RESIZED)[name]
    model = network(name, **({"img_size": side} if name in RESIZED else {}))
    first = next(model.parameters())
    model.train()
    next(model.children()).eval()
    first.requires_grad_(False)
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    found = grad_cam(model, images, torch.tensor([0, 2]))
    assert found.shape == (2, *places)
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.amax() == 1
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [weight.requires_grad for weight in model.parameters()] == [
        weight is not first for weight in model.parameters()
    ]
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_the_map_is_largest_where_the_only_informative_pixels_are(name: str) -> None:
    """Blank pictures with a patch of noise in one of 16 places; the head is set to answer whether there is one."""
    side, patch = 128, 32
    model = network(name, **({"img_size": side} if name == "test_vit" else {})).eval()
    noise = 2 * torch.randn(3, patch, patch, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(16, 3, side, side)
    for number, image in enumerate(images):
        row, column = divmod(number, 4)
        image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = noise
    head = head_layer(model)
    with torch.no_grad():
        differs = pooled(model, images).mean(dim=0) - pooled(model, torch.zeros(1, 3, side, side))[0]
        head.weight.zero_()
        head.weight[1] = (differs / differs.norm()).view_as(head.weight[1])
    for number, found in enumerate(grad_cam(model, images, torch.ones(16, dtype=torch.int64))):
        at = divmod(int(found.argmax()), found.shape[1])
        middle = [(place + 0.5) * 4 / size for place, size in zip(at, found.shape, strict=True)]
        assert [int(place) for place in middle] == list(divmod(number, 4))


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout"])
def test_the_map_is_that_of_finite_differences(name: str) -> None:
    """Selvaraju et al., equations 1 and 2, with each weight measured: the logit's rise as a whole map is raised."""
    model: Any = network(name).double().eval()
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = 1e-5
    with torch.no_grad():
        maps = model.forward_features(images)
        last = maps.shape[3] == model.num_features  # (B, h, w, K)
        places = maps.permute(0, 3, 1, 2) if last else maps
        expected = torch.zeros(2, *places.shape[2:], dtype=torch.float64)
        for channel in range(places.shape[1]):
            raised = torch.zeros_like(maps)
            (raised[..., channel] if last else raised[:, channel]).fill_(step)
            above, below = model.forward_head(maps + raised), model.forward_head(maps - raised)
            weight = (above - below)[[0, 1], [2, 0]] / (2 * step * places[0, 0].numel())
            expected += weight[:, None, None] * places[:, channel]
    expected = expected.relu()
    expected /= expected.amax(dim=(1, 2), keepdim=True)
    assert torch.allclose(grad_cam(model, images, torch.tensor([2, 0])), expected.float(), atol=1e-5)


def test_a_class_token_has_a_blank_map_at_the_head_and_not_at_the_last_block() -> None:
    model: Any = network("test_vit").eval()
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    tokens = model.forward_features(images)
    (slopes,) = torch.autograd.grad(model.forward_head(tokens)[:, 0].sum(), tokens)
    assert slopes[:, 1:].abs().max() == 0, "why the last block is asked"
    taken: list[Tensor] = []
    model.blocks[-1].register_forward_pre_hook(lambda _, given: taken.append(given[0].detach()))
    found = grad_cam(model, images, torch.tensor([0, 0]))
    before = taken[-1].requires_grad_()
    logits = model.forward_head(model.norm(model.blocks[-1](before)))
    (slopes,) = torch.autograd.grad(logits[:, 0].sum(), before)
    expected = (slopes[:, 1:].mean(dim=1, keepdim=True) * before[:, 1:]).sum(dim=2).relu().detach()
    expected = expected.view(2, 10, 10)
    assert torch.allclose(found, expected / expected.amax(dim=(1, 2), keepdim=True), atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_scored_before_and_with_activations_recomputed(name: str) -> None:
    model, images, codes = network(name).eval(), torch.randn(2, 3, 160, 160), torch.tensor([0, 1])
    plain = grad_cam(model, images, codes)
    with torch.inference_mode():
        before = model(images)
    set_grad_checkpointing(model, on=True)
    assert torch.equal(grad_cam(model, images, codes), plain)
    set_grad_checkpointing(model, on=False)
    with torch.inference_mode():
        assert torch.equal(model(images), before)


def test_pictures_that_are_not_square() -> None:
    model = network("test_vit", img_size=(160, 96))
    images = torch.zeros(1, 3, 160, 96)
    assert grad_cam(model, images, torch.tensor([0])).shape == (1, 10, 6)
    assert grad_cam(network("test_resnet"), torch.randn(1, 3, 160, 96), torch.tensor([0])).shape == (1, 5, 3)


@pytest.mark.parametrize(
    ("tokens", "size", "found"),
    [
        (196, (224, 224), (14, 14)),
        (60, (160, 96), (10, 6)),
        (247, (200, 300), (13, 19)),
        (197, (224, 224), (0, 0)),
        (12, (96, 96), (0, 0)),
        (0, (64, 64), (0, 0)),
        (-1, (64, 64), (0, 0)),
    ],
)
def test_which_numbers_of_tokens_are_a_grid(tokens: int, size: tuple[int, int], found: tuple[int, int]) -> None:
    assert _grid(tokens, size) == found


class Odd(nn.Module):
    """A network whose head takes what `features` makes of the images, by their mean over all but the batch."""

    def __init__(self, features: Callable[[Tensor], Any], read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.features, self.read, self.scale = features, read, nn.Parameter(torch.ones(1, 3))

    def forward_features(self, images: Tensor) -> Any:  # noqa: ANN401
        return self.features(images)

    def forward_head(self, found: Any) -> Tensor:  # noqa: ANN401
        return self.read(found)[:, None] * self.scale


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Conv2d(3, 3, 1), "Conv2d has no forward_features and forward_head"),
        (Odd(lambda x: [x], lambda x: x[0].mean(dim=(1, 2, 3))), "Odd gives its head list, which is no map"),
        (
            Odd(lambda x: x.mean(dim=(2, 3)), lambda x: x.mean(dim=1)),
            "gives its head (3,) numbers an image, not by place",
        ),
        (
            Odd(lambda x: x.mean(dim=(2, 3), keepdim=True), lambda x: x.mean(dim=(1, 2, 3))),
            "leaves a single place of 8 × 8",
        ),
        (
            Odd(lambda x: torch.cat([x[:, :, :1, 0].mT, x.flatten(2).mT], dim=1), lambda x: x[:, 0].mean(dim=1)),
            "the head of Odd reads no token that stands for a place",
        ),
    ],
)
def test_networks_without_maps_say_why(model: nn.Module, words: str) -> None:
    with pytest.raises(NoMap) as caught:
        grad_cam(model, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
    assert words in str(caught.value)


def test_a_class_that_no_place_speaks_for_has_a_blank_map() -> None:
    model = Odd(torch.relu, lambda x: x.mean(dim=(1, 2, 3)))
    with torch.no_grad():
        model.scale.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
    found = grad_cam(model, torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]))
    assert found.amax(dim=(1, 2)).tolist() == [1, 0, 0]


def test_a_head_may_write_into_what_it_is_given() -> None:
    model = Odd(lambda x: x * 1, lambda x: x.relu_().mean(dim=(1, 2, 3)))
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(grad_cam(model, images, torch.tensor([0])), grad_cam(model, images.clone(), torch.tensor([1])))
