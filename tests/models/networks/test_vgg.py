from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vgg import VGG, cfgs
from torch import Tensor, nn
from torch.nn import functional

from imgkit.errors import WeightsError
from imgkit.models.create import create_model
from imgkit.models.networks import vgg
from imgkit.models.networks.vgg import CONFIGS, FcLayers, Head, Layout, Vgg, _pool
from imgkit.models.weights import WeightSource
from imgkit.recipe.schema import ModelSettings

TIMMS = {"a": "vgg11", "b": "vgg13", "d": "vgg16", "e": "vgg19"}
NARROW = Head(7, (40, 4096), pooled=False)
"""The hidden layers of timm's VGG with mlp_ratio = 0.01; the real ones have 119 M parameters."""


def timms(config: str, norm: bool, **options: object) -> VGG:
    return VGG(
        cfgs[TIMMS[config]], num_classes=3, norm_layer=nn.BatchNorm2d if norm else None, mlp_ratio=0.01, **options
    )


@pytest.mark.parametrize("config", TIMMS)
@pytest.mark.parametrize("norm", [False, True])
def test_names_weights_and_logits_are_timms(config: str, norm: bool) -> None:
    torch.manual_seed(0)
    theirs = timms(config, norm).eval()
    torch.manual_seed(0)
    ours = Vgg(Layout(CONFIGS[config], norm, NARROW), num_classes=3).eval()
    state = theirs.state_dict()
    assert {name: value.shape for name, value in ours.state_dict().items()} == {n: v.shape for n, v in state.items()}
    assert all(torch.equal(state[name], value) for name, value in ours.state_dict().items()), "the same seed"
    ours.load_state_dict({name: torch.rand_like(value.float()) / 20 for name, value in state.items()})
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images)), "maps pooled up"
        assert torch.equal(ours.forward_features(images), theirs.forward_features(images))


def test_over_larger_images_the_head_is_averaged_as_timms() -> None:
    theirs = timms("a", False).eval()
    ours = Vgg(Layout(CONFIGS["a"], False, NARROW), num_classes=3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 224, 256)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        assert torch.equal(
            ours.forward_head(ours.features(images), pre_logits=True),
            theirs.forward_head(theirs.features(images), pre_logits=True),
        )


def test_one_by_one_convolutions_are_those_of_c() -> None:
    with torch.device("meta"):
        model = Vgg(Layout(CONFIGS["c"], True, NARROW), num_classes=3)
    convs = [module for module in model.features if isinstance(module, nn.Conv2d)]
    sides = [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert [conv.kernel_size[0] for conv in convs] == sides
    assert [conv.padding[0] for conv in convs] == [side // 2 for side in sides]


def test_the_response_normalisation_is_krizhevskys() -> None:
    with torch.device("meta"):
        model = Vgg(Layout(CONFIGS["a_lrn"], False, NARROW), num_classes=3)
    assert [type(module).__name__ for module in model.features[:4]] == [
        "Conv2d",
        "ReLU",
        "LocalResponseNorm",
        "MaxPool2d",
    ]
    x = torch.rand(1, 9, 2, 2) * 30
    found = model.features[2](x)
    for channel in range(9):
        near = x[:, max(0, channel - 2) : channel + 3]  # n = 5 channels around it
        expected = x[:, channel] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
        assert torch.allclose(found[:, channel], expected, rtol=1e-5)


def test_paper_and_other_initial_weights() -> None:
    layout = Layout(CONFIGS["a"], False, Head(2, (16, 16)))
    paper = Vgg(layout, init="paper")
    assert all(w.std().item() == pytest.approx(0.1, rel=0.1) for w in paper.parameters() if w.dim() > 1 and len(w) > 99)
    assert not any(weight.any() for weight in paper.parameters() if weight.dim() == 1)
    with pytest.raises(ValueError, match="init must be one of kaiming, paper, got 'he'"):
        Vgg(layout, init="he")


def test_dropout_comes_after_both_hidden_layers() -> None:
    with torch.device("meta"):
        model = Vgg(Layout(CONFIGS["a"], False, NARROW), drop_rate=0.5)
    assert [(name, module.p) for name, module in model.named_modules() if isinstance(module, nn.Dropout)] == [
        ("pre_logits.drop", 0.5),
        ("head.drop", 0.5),
    ]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 2), (3, 5), (1, 1), (7, 9)])
def test_pooling_is_the_mean_of_parts(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width)
    assert torch.allclose(_pool(x, (2, 2)), functional.adaptive_avg_pool2d(x, 2), atol=1e-6)
    head = FcLayers(3, Head(2, (5, 4)), 0.0)
    assert head(x).shape == (2, 4, 1, 1)


def test_the_fifth_pool_may_be_the_heads() -> None:
    layout = Layout(CONFIGS["a"], False, Head(2, (16, 16)))
    pooled, left = Vgg(layout).eval(), Vgg(layout, last_pool="avg").eval()
    left.load_state_dict(pooled.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = left.forward_features(images)
        assert maps.shape == (1, 512, 4, 4)
        assert torch.equal(functional.max_pool2d(maps, 2), pooled.forward_features(images))
        means = maps.view(1, 512, 2, 2, 2, 2).mean((3, 5))
        assert torch.allclose(left(images), pooled.forward_head(means), atol=1e-6)
    assert len(left.stage_ends) == 5
    with pytest.raises(ValueError, match="last_pool = 'avg' needs a head that pools; head = 'compact' does"):
        Vgg(Layout(CONFIGS["a"], False, NARROW), last_pool="avg")


def test_width_scales_convolutions_and_hidden_layers() -> None:
    with torch.device("meta"):
        model = Vgg(Layout(CONFIGS["c"], True, Head(2)), num_classes=10, width=0.25)
    sizes = [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert sizes == [16, 16, 32, 32, 64, 64, 64, *[128] * 6, 1024, 1024]
    assert (model.num_features, model.head_hidden_size) == (128, 1024)
    assert model.head.fc.in_features == 1024
    with pytest.raises(ValueError, match="width must be above 0, got -1"):
        Vgg(Layout(CONFIGS["a"], False, Head(2)), width=-1)


# --- the choice of a head


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "paper"),
        ({"img_size": 96}, "compact"),
        ({"img_size": (64, 96)}, "compact"),
        ({"img_size": (64, 97)}, "paper"),
        ({"img_size": 64, "head": "paper"}, "paper"),
        ({"img_size": 64, "head": "auto"}, "compact"),
        ({"head": "compact"}, "compact"),
    ],
)
def test_small_images_get_the_compact_head_and_it_is_said(given: dict[str, Any], chosen: str) -> None:
    with torch.device("meta"):
        model = timm.create_model("vgg_a", **given)
    assert model.settled == {"head": chosen}
    assert (model.pre_logits.fc1.kernel_size, model.pre_logits.pooled) == (
        ((7, 7), False) if chosen == "paper" else ((2, 2), True)
    )
    told = chosen == "compact" and given.get("head") != "compact"
    assert len(model.notes) == told
    layers = ("head.fc", "pre_logits.fc1", "pre_logits.fc2")
    assert model.pretrained_cfg["classifier"] == (layers if chosen == "compact" else "head.fc")


def test_what_is_said() -> None:
    with torch.device("meta"):
        (note,) = timm.create_model("vgg_a", img_size=(64, 96)).notes
    assert note == (
        "images of 64×96 px leave maps of 2×3, so the head reads 2×2 (head = compact); --set model.options.head=paper "
        "pools them up to 7×7, with 94 M parameters more"
    )
    with pytest.raises(ValueError, match="head must be one of auto, paper, compact, got 'big'"):
        timm.create_model("vgg_a", head="big")


def test_the_94_million() -> None:
    with torch.device("meta"):
        paper, compact = (timm.create_model("vgg_a", head=head) for head in ("paper", "compact"))
    more = sum(w.numel() for w in paper.parameters()) - sum(w.numel() for w in compact.parameters())
    assert round(more / 1e6) == 94


# --- weights of timm and of torchvision


def torchvisions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Timm's tensors with torchvision's names and shapes."""
    places = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    found = {}
    for name, value in state.items():
        layer, _, what = name.rpartition(".")
        found[f"{places.get(layer, layer)}.{what}"] = (
            value.flatten(1) if layer in places and what == "weight" else value
        )
    return found


def random_state(config: str, norm: bool = False) -> dict[str, Tensor]:
    state = timms(config, norm).state_dict()
    return {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in state.items()}


def write(state: dict[str, Tensor], file: Path) -> str:
    save_file(state, file)
    return str(file)


def made(name: str, weights: str, seed: int = 0, **options: object) -> nn.Module:
    values = {"name": name, "weights": weights, "image_size": 64, "options": options}
    return create_model(ModelSettings.model_validate(values), 3, seed).model


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "HEADS", {"paper": NARROW, "compact": Head(2, (16, 16))})


@pytest.mark.usefixtures("heads")
@pytest.mark.parametrize("origin", ["timm", "torchvision"])
@pytest.mark.parametrize("norm", [False, True])
def test_a_file_gives_all_but_the_classifier(origin: str, norm: bool, tmp_path: Path) -> None:
    state = random_state("a", norm)
    spec = write(state if origin == "timm" else torchvisions(state), tmp_path / "w.safetensors")
    loaded = made("vgg_a_bn" if norm else "vgg_a", spec, head="paper").state_dict()
    assert {name for name in state if not torch.equal(loaded[name], state[name])} == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("origin", ["timm", "torchvision"])
@pytest.mark.parametrize("name", ["vgg_a", "vgg11_compact"])
def test_under_a_compact_head_a_file_gives_the_trunk(name: str, origin: str, tmp_path: Path) -> None:
    state = random_state("a")
    spec = write(state if origin == "timm" else torchvisions(state), tmp_path / "w.safetensors")
    loaded, other = made(name, spec).state_dict(), made(name, "none").state_dict()
    for key, value in loaded.items():
        assert torch.equal(value, state[key] if key.startswith("features.") else other[key]), key
    assert any(not torch.equal(loaded[key], other[key]) for key in loaded if key.startswith("features."))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("classes", [3, 1000])
def test_weights_of_the_hub_lie_under_a_compact_head(classes: int, tmp_path: Path) -> None:
    state = VGG(cfgs["vgg11"], mlp_ratio=0.01).state_dict()  # 1000 classes, as there
    source = WeightSource("cache", "timm/vgg11.tv_in1k", None, Path(write(state, tmp_path / "w.safetensors")))
    settings = ModelSettings(name="vgg11_compact", image_size=64)
    created = create_model(settings, classes, 0, source)
    other = create_model(settings.model_copy(update={"weights": "none"}), classes, 0).model.state_dict()
    for key, value in created.model.state_dict().items():
        assert torch.equal(value, state[key] if key.startswith("features.") else other[key]), key
    assert timm.get_pretrained_cfg("vgg11_compact").hf_hub_id == timm.get_pretrained_cfg("vgg11").hf_hub_id


@pytest.mark.usefixtures("heads")
def test_a_file_of_another_trunk_is_told(tmp_path: Path) -> None:
    spec = write(random_state("b"), tmp_path / "w.safetensors")
    for head in ("paper", "compact"):
        with pytest.raises(WeightsError, match="do not fit vgg_a") as caught:
            made("vgg_a", spec, head=head)
        assert "+ features.12.weight (256, 256, 3, 3)" in caught.value.message
