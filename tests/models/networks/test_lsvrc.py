import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgkit.errors import UsageError
from imgkit.models.create import create_model
from imgkit.models.networks.lsvrc import LsvrcResidual, VggRes3
from imgkit.models.networks.vgg import CONFIGS, Head, Layout
from imgkit.recipe.schema import ModelSettings

COUNTS = {"lsvrc_residual": 12_307_048, "vgg19_res3": 143_745_448, "vgg11_compact": 72_093_032}
"""Parameters for 1000 classes at 224 px."""


def count(name: str, **options: object) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in timm.create_model(name, **options).parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name: str) -> None:
    assert count(name) == COUNTS[name]


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"norm": False}, 143_733_800),
        ({"num_classes": 100}, 140_058_148),
        ({"num_classes": 200, "head": "compact"}, 46_096_008),
        ({"num_classes": 200, "img_size": 64}, 46_096_008),
    ],
)
def test_parameters_of_the_vgg_with_connections(options: dict[str, object], parameters: int) -> None:
    assert count("vgg19_res3", **options) == parameters


def test_parameters_of_the_compact_head() -> None:
    with torch.device("meta"):
        model = timm.create_model("vgg11_compact", num_classes=7)
    trunk = sum(weight.numel() for weight in model.features.parameters())
    layers = [sum(w.numel() for w in layer.parameters()) for layer in (model.pre_logits.fc1, model.pre_logits.fc2)]
    assert (trunk, layers, count("vgg11_compact", num_classes=7)) == (
        9_220_480,
        [52_432_896, 8_390_656],
        9_220_480 + 52_432_896 + 8_390_656 + 2049 * 7,
    )
    assert count("vgg11_compact") - trunk == 62_872_552


def test_parameters_of_the_strided_shortcuts() -> None:
    with torch.device("meta"):
        shortcuts = timm.create_model("lsvrc_residual").shortcuts
    assert [sum(w.numel() for w in shortcut.parameters()) for shortcut in shortcuts] == [1_792, 147_712, 1_180_160]


def naive_residual(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, list[tuple[int, ...]]]:
    """The network written out, in evaluation mode; logits and the shapes of the sums."""

    def conv(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=padding)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    def pair(k: int, x: Tensor, stride: int) -> Tensor:
        x = functional.relu(conv(f"groups.{k}.0", x, stride, 1))
        return norm(f"groups.{k}.4", functional.relu(conv(f"groups.{k}.2", x, 1, 1)))

    stem = functional.max_pool2d(norm("stem.2", functional.relu(conv("stem.0", x, 2, 3))), 2)
    one = functional.max_pool2d(pair(0, stem, 1), 2) + conv("shortcuts.0", x, 8, 1)
    two = pair(2, pair(1, one, 2), 2) + conv("shortcuts.1", one, 4, 1)
    three = functional.max_pool2d(pair(3, two, 2), 2) + conv("shortcuts.2", two, 4, 1)
    hidden = functional.relu(three.flatten(1) @ state["pre_logits.1.weight"].T + state["pre_logits.1.bias"])
    return hidden @ state["head.weight"].T + state["head.bias"], [tuple(sum_.shape[1:]) for sum_ in (one, two, three)]


def random_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


@torch.no_grad()
def test_the_residual_network_is_the_one_written_out() -> None:
    torch.manual_seed(0)
    model = LsvrcResidual(num_classes=5).eval()
    random_statistics(model)
    images = torch.randn(2, 3, 224, 224)
    expected, shapes = naive_residual(model.state_dict(), images)
    assert torch.allclose(model(images), expected, rtol=1e-4, atol=1e-5)
    assert shapes == [(64, 28, 28), (256, 7, 7), (512, 2, 2)]


@torch.no_grad()
def test_the_vgg_with_connections_is_the_one_written_out() -> None:
    torch.manual_seed(0)
    model = VggRes3(Layout(CONFIGS["e"], True, Head(2, (8, 8))), num_classes=3).eval()
    random_statistics(model)
    x = images = torch.randn(1, 3, 64, 64)
    ends = [number + 1 for number, layer in enumerate(model.features) if isinstance(layer, nn.MaxPool2d)]
    shapes = []
    for span, (first, last) in enumerate(((0, ends[1]), (ends[1], ends[3]), (ends[3], ends[4]))):
        through = x
        for layer in model.features[first:last]:
            through = layer(through)
        if span < 2:
            _, conv, norm = model.shortcuts[span]
            assert conv.bias is None
            x = through + norm(functional.conv2d(functional.avg_pool2d(x, 4), conv.weight))
        else:
            x = through + functional.avg_pool2d(x, 2)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(128, 16, 16), (512, 4, 4), (512, 2, 2)]
    assert torch.allclose(model.forward_features(images), x, rtol=1e-4, atol=1e-5)


def last_maps(model: LsvrcResidual, x: Tensor) -> Tensor | None:
    """What the trunk gives; None where a shortcut differs from what it is added to in shape, or nothing is left."""
    stem, groups, shortcuts = model.stem, model.groups, model.shortcuts
    spans = [nn.Sequential(stem, groups[0]), nn.Sequential(groups[1], groups[2]), groups[3]]
    for span, shortcut in zip(spans, shortcuts, strict=True):
        try:
            through, beside = span(x), shortcut(x)
        except RuntimeError:
            return None
        if through.shape != beside.shape:
            return None
        x = through + beside
    return x


def test_which_sizes_the_residual_network_takes() -> None:
    """A size is refused exactly where the maps of trunk and shortcuts differ, and the hidden layer reads what comes."""
    with torch.device("meta"):
        whole = timm.create_model("lsvrc_residual", num_classes=3).eval()
        taken = []
        for side in range(8, 300):
            image = torch.empty(1, 3, side, side)
            maps = last_maps(whole, image)
            if maps is None:
                with pytest.raises(ValueError, match="would differ in size; sides that are multiples of 8"):
                    LsvrcResidual(3, img_size=side)
                continue
            taken.append(side)
            assert LsvrcResidual(3, img_size=side).pre_logits[1].in_features == maps[0].numel()
        assert {*range(72, 129, 8), *range(200, 257, 8)} <= set(taken)
        assert LsvrcResidual(3, img_size=(96, 224))(torch.empty(1, 3, 96, 224)).shape == (1, 3)


def test_a_size_that_it_cannot_take_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        create_model(ModelSettings(name="lsvrc_residual", weights="none", image_size=64), 3, 0)
    assert caught.value.message == (
        "lsvrc_residual cannot take images of 64 px (the maps of its trunk and of its shortcuts would differ in size; "
        "sides that are multiples of 8 from 72 to 128, or from 200 to 256, are fine)."
    )
    assert caught.value.hint == "It was made for 224 px:  --image-size 224"


def test_pictures_are_squashed_as_in_the_original() -> None:
    rule = create_model(ModelSettings(name="lsvrc_residual", weights="none", image_size=96), 3, 0).preprocessing
    assert (rule.fit, rule.crop_pct, rule.size) == ("squash", 1.0, (96, 96))
