"""Heads of several layers on networks of timm, against layers put together by hand."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from imgkit.calibration import Calibration
from imgkit.errors import UsageError, WeightsError
from imgkit.features import head_layer
from imgkit.models.create import Created, create_model
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable, train_mode
from imgkit.models.heads import set_head
from imgkit.optimizers import make_optimizer
from imgkit.recipe.heads import HeadShape
from imgkit.recipe.schema import ModelSettings, TrainSettings

FAMILIES = ("test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "mobilenetv3_small_050")
WITH_MAP = tuple(name for name in FAMILIES if name != "test_vit")
ACTIVATIONS = {"none": lambda x: x, "relu": relu, "gelu": gelu}


def settings(name: str, head: str, **values: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": name, "weights": "none", "head": head, **values})


def create(name: str, head: str, classes: int = 3, **values: object) -> Created:
    return create_model(settings(name, head, **values), classes, 0)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_hand(model: nn.Module, features: Tensor, head: str) -> Tensor:
    """Logits from what the head gets, layer by layer from the state dict."""
    shape, layer = HeadShape.parse(head), model.get_classifier()
    x = features
    for number in range(1, len(shape.widths) + 2):
        fc = layer.get_submodule(f"fc{number}")
        x = x @ fc.weight.T + fc.bias
        if number <= len(shape.widths):
            x = ACTIVATIONS[shape.act](x)
    return x


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", ["mlp:10", "mlp:10:relu", "mlp:12,5:gelu"])
def test_logits_are_those_of_the_layers_on_the_pooled_features(name: str, head: str) -> None:
    model = create(name, head).model.eval()
    images = torch.randn(2, *model.pretrained_cfg["input_size"])
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.allclose(model(images), by_hand(model, features.flatten(1), head), atol=1e-5)
    assert type(model) is type(timm.create_model(name)), "no wrapper"
    plain = timm.create_model(name, num_classes=3).eval()
    trunk = {key for key in plain.state_dict() if key not in classifier_names(plain)}
    assert trunk < set(model.state_dict())


def test_no_activation_between_is_one_matrix() -> None:
    model = create("test_resnet", "mlp:10").model.eval()
    fc1, fc2 = model.fc.fc1, model.fc.fc2
    x = torch.randn(4, fc1.in_features)
    together = x @ (fc2.weight @ fc1.weight).T + fc2.weight @ fc1.bias + fc2.bias
    assert torch.allclose(model.fc(x), together, atol=1e-5)


def naive_pool(maps: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C * side * side): means over windows that cover the map."""
    *_, height, width = maps.shape
    cells = [
        maps[..., i * height // side : -(-(i + 1) * height // side), j * width // side : -(-(j + 1) * width // side)]
        for i in range(side)
        for j in range(side)
    ]
    return torch.stack([cell.mean((2, 3)) for cell in cells], dim=2).flatten(1)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])  # nothing between map and pool
@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_pooled_head_sees_the_map_in_squares(name: str, side: int) -> None:
    head = f"pool{side}-mlp:12,7"
    model = create(name, head).model.eval()
    images = torch.randn(2, *model.pretrained_cfg["input_size"])
    with torch.no_grad():
        features = naive_pool(model.forward_features(images), side)
        assert torch.allclose(model.forward_head(model.forward_features(images), pre_logits=True), features, atol=1e-5)
        assert torch.allclose(model(images), by_hand(model, features, head), atol=1e-5)


@pytest.mark.parametrize("name", WITH_MAP)
def test_a_pooled_head_fits_other_families_and_sizes(name: str) -> None:
    model = create(name, "pool3-mlp:9", image_size=96).model.eval()
    for side in (64, 96, 128):
        assert model(torch.randn(2, 3, side, side)).shape == (2, 3)


def test_a_map_with_channels_last_is_turned() -> None:
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=3, img_size=56, embed_dim=8, depths=(1, 1), num_heads=(1, 1)
    ).eval()
    set_head(model, "pool2-mlp:6", 3)
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        maps = model.forward_features(images)  # (B, H, W, C)
        features = naive_pool(maps.permute(0, 3, 1, 2), 2)
        assert torch.allclose(model.forward_head(maps, pre_logits=True), features, atol=1e-5)
        assert torch.allclose(model(images), by_hand(model, features, "pool2-mlp:6"), atol=1e-5)


def test_one_pixel_of_convolution_is_a_head_like_any_other() -> None:
    from timm.models.dla import DLA

    model = DLA(levels=[1] * 6, channels=[4, 4, 8, 8, 16, 16], num_classes=5).eval()
    set_head(model, "mlp:6:relu", 3)
    images = torch.randn(2, 3, 64, 64)
    features = model.forward_head(model.forward_features(images), pre_logits=True).flatten(1)
    assert torch.allclose(model(images), by_hand(model, features, "mlp:6:relu"), atol=1e-5)


def test_counts_of_published_heads() -> None:
    with torch.device("meta"):
        resnet, vgg = timm.create_model("resnet50", num_classes=7), timm.create_model("vgg11", num_classes=7)
    set_head(resnet, "mlp:1000", 1000)
    assert (parameters(resnet.fc), parameters(resnet)) == (3_050_000, 26_558_032)
    set_head(vgg, "pool5-mlp:4096,2048", 1000)
    assert (parameters(vgg.head.fc), parameters(vgg)) == (62_872_552, 72_093_032)
    assert not parameters(vgg.pre_logits), "the map, not the two layers of VGG's own"


def test_own_vggs_have_such_heads_too() -> None:
    with torch.device("meta"):
        pooled, compact = timm.create_model("vgg_a", num_classes=7), timm.create_model("vgg11_compact", num_classes=7)
        set_head(pooled, "pool5-mlp:4096,2048", 1000)
        assert parameters(pooled) == 72_093_032
        assert pooled(torch.empty(1, 3, 96, 96)).shape == (1, 1000)
        set_head(compact, "mlp:10", 5)
        assert parameters(compact.head.fc) == 2048 * 10 + 10 + 10 * 5 + 5
        assert compact(torch.empty(1, 3, 96, 96)).shape == (1, 5)


def small_vgg(drop_rate: float = 0.0) -> nn.Module:
    return VGG([8, "M", 8, "M", 16], num_classes=3, mlp_ratio=0.01, drop_rate=drop_rate)


def test_a_pooled_head_of_vgg_takes_the_map() -> None:
    model = small_vgg().eval()
    set_head(model, "pool2-mlp:6", 3)
    images = torch.randn(2, 3, 40, 40)
    features = naive_pool(model.forward_features(images), 2)
    assert features.shape == (2, 16 * 4)
    assert torch.allclose(model(images), by_hand(model, features, "pool2-mlp:6"), atol=1e-5)


# --- freezing, rates, dropout


@pytest.mark.parametrize(("name", "head"), [("test_vit", "mlp:6"), ("test_convnext", "pool2-mlp:6,5")])
def test_the_whole_head_is_the_head(name: str, head: str) -> None:
    model = create(name, head).model
    names = classifier_names(model)
    place = names[0].rpartition("fc1")[0]
    layers = HeadShape.parse(head).widths
    assert names == [f"{place}fc{n}.{kind}" for n in range(1, len(layers) + 2) for kind in ("weight", "bias")]
    assert layer_groups(model)[-1] == names
    set_trainable(model, "head")
    assert [key for key, parameter in model.named_parameters() if parameter.requires_grad] == names
    set_trainable(model, "last:2")
    optimizer = make_optimizer(model, TrainSettings(layer_decay=0.5), 1.0)
    rates = {key: group["lr"] for group in optimizer.param_groups for key in group["names"]}
    assert {rates[key] for key in names} == {1.0}
    assert {rates[key] for key in rates if key not in names} == {0.5}
    train_mode(model, batch_norm="frozen")
    assert all(module.training for module in model.get_classifier().modules())


def differ(model: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        return not torch.equal(model(images), model(images))


def test_dropout_is_before_the_head_and_after_each_hidden_layer() -> None:
    images = torch.randn(2, 3, 64, 64)
    model = create("test_resnet", "mlp:64,32:relu", drop_rate=0.5).model
    assert model.drop_rate == 0.5
    assert [module.p for module in model.fc.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    set_trainable(model, "head")
    train_mode(model, batch_norm="frozen")
    assert differ(model, images)
    assert not differ(model.eval(), images)


def test_a_pooled_head_drops_after_its_hidden_layers_alone() -> None:
    model = create("test_resnet", "pool2-mlp:8,6", drop_rate=0.5).model.train()
    assert model.drop_rate == 0.0
    assert [name for name, module in model.fc.named_children() if isinstance(module, nn.Dropout)] == ["drop1", "drop2"]
    assert not any(isinstance(module, nn.Dropout) for module in create("test_resnet", "pool2-mlp:8").model.fc)


@pytest.mark.parametrize("name", FAMILIES)
def test_timm_resets_the_head_to_its_own(name: str) -> None:
    for head in ("mlp:9", *(["pool2-mlp:9"] if name in WITH_MAP else [])):
        model = create(name, head).model.eval()
        model.reset_classifier(5, "avg")
        assert isinstance(model.get_classifier(), nn.Linear)
        assert model(torch.randn(1, *model.pretrained_cfg["input_size"])).shape == (1, 5)


# --- weights


def test_the_seed_makes_the_head_and_the_trunk_is_that_of_a_linear_one() -> None:
    first, again = (create("test_resnet", "mlp:10").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    plain = create("test_resnet", "linear").model.state_dict()
    assert all(torch.equal(first[key], plain[key]) for key in first if not key.startswith("fc."))
    other = create_model(settings("test_resnet", "mlp:10"), 3, 1).model.state_dict()
    assert not torch.equal(first["fc.fc2.weight"], other["fc.fc2.weight"])


def random_file(model: nn.Module, file: Path) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    save_file(state, file)
    return state


def new_names(model: nn.Module, state: dict[str, Tensor]) -> set[str]:
    return {key for key, value in model.state_dict().items() if key not in state or not torch.equal(value, state[key])}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_plain_file_gives_all_but_the_head(name: str, tmp_path: Path) -> None:
    state = random_file(timm.create_model(name), tmp_path / "w.safetensors")
    model = create(name, "mlp:10", weights=str(tmp_path / "w.safetensors")).model
    assert new_names(model, state) == set(classifier_names(model))
    random = create(name, "mlp:10").model.state_dict()
    assert all(torch.equal(model.state_dict()[key], random[key]) for key in classifier_names(model))


@pytest.mark.parametrize("head", ["linear", "mlp:10", "mlp:10,5", "pool2-mlp:4"])
def test_a_file_with_a_head_of_several_layers_gives_all_but_the_head(head: str, tmp_path: Path) -> None:
    state = random_file(create("test_resnet", "mlp:10,6", 4).model, tmp_path / "w.safetensors")
    model = create("test_resnet", head, weights=str(tmp_path / "w.safetensors")).model
    assert new_names(model, state) == set(classifier_names(model))


def test_a_pooled_vgg_takes_files_with_and_without_the_two_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(name: str, values: ModelSettings, options: dict[str, Any]) -> nn.Module:
        classes = options.get("pretrained_cfg_overlay", options)["num_classes"]
        model = VGG([8, "M", 8, "M", 16], num_classes=classes, mlp_ratio=0.01)
        model.pretrained_cfg = {"classifier": "head.fc", "input_size": (3, 64, 64), "mean": (0.5,), "std": (0.5,)}
        return model

    monkeypatch.setattr("imgkit.models.create._build", small)
    plain = random_file(small("", ModelSettings(), {"num_classes": 4}), tmp_path / "plain.safetensors")
    spec = str(tmp_path / "plain.safetensors")
    model = create("vgg11", "pool2-mlp:8", weights=spec, image_size=64).model
    assert new_names(model, plain) == set(classifier_names(model))
    state = random_file(model, tmp_path / "pooled.safetensors")
    spec = str(tmp_path / "pooled.safetensors")
    again = create("vgg11", "pool2-mlp:5,4", weights=spec, image_size=64).model
    assert new_names(again, state) == set(classifier_names(again))
    with pytest.raises(WeightsError, match=r"- pre_logits\.fc1\.weight"):
        create("vgg11", "linear", weights=spec, image_size=64)


def test_a_missing_tensor_of_the_trunk_is_not_overlooked(tmp_path: Path) -> None:
    state = create("test_resnet", "mlp:10").model.state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"- layer1\.0\.conv1\.weight"):
        create("test_resnet", "mlp:10", weights=str(tmp_path / "w.safetensors"))


# --- the model folder


@pytest.mark.parametrize(
    ("name", "head"), [("test_resnet", "mlp:10:relu"), ("test_vit", "mlp:9,8:gelu"), ("test_convnext", "pool2-mlp:8")]
)
def test_a_folder_gives_the_same_logits_and_timm_refuses_it(name: str, head: str, tmp_path: Path) -> None:
    created = create(name, head, drop_rate=0.3)
    save_model_folder(
        tmp_path,
        model=created.model,
        model_name=created.name,
        state=created.model.state_dict(),
        classes=("a", "b", "c"),
        preprocessing=created.preprocessing,
        calibration=Calibration(1.0, None, "val", 9),
        extra={"head": head},
    )
    loaded = load_model_folder(tmp_path)
    images = torch.randn(2, 3, *created.preprocessing.size)
    with torch.no_grad():
        assert torch.equal(loaded.model(images), created.model.eval()(images))
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    card = (tmp_path / "README.md").read_text()
    assert f"`{head}`, which timm does not make" in card
    assert "load_model_folder" in card
    assert "create_transform" not in card


# --- what cannot be


@pytest.mark.parametrize(
    ("name", "head", "told", "hint"),
    [
        ("volo_d1_224", "mlp:5", "VOLO has several classifiers", "Leave --head out, or write  --head linear"),
        ("crossvit_tiny_240", "mlp:5", "CrossVit has several classifiers", "Leave --head out"),
        ("test_vit", "pool2-mlp:5", "VisionTransformer pools no feature map", "--head mlp:5"),
        ("mambaout_femto", "pool2-mlp:5:gelu", "MambaOut pools no feature map", "--head mlp:5:gelu"),
    ],
)
def test_a_network_that_cannot_have_the_head(name: str, head: str, told: str, hint: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    with pytest.raises(UsageError, match=told) as caught:
        set_head(model, head, 3)
    assert hint in caught.value.hint


def test_a_network_without_a_named_classifier(nameless: nn.Module) -> None:
    with pytest.raises(UsageError, match="Nameless has no linear classifier, so it cannot have the head 'mlp:5'"):
        set_head(nameless, "mlp:5", 3)


def test_layers_that_need_one_pixel_are_told() -> None:
    with pytest.raises(UsageError, match=r"caformer_s18.* with the head pool2-mlp:5 cannot take images of") as caught:
        create("caformer_s18", "pool2-mlp:5", image_size=64)
    assert "--head linear" in caught.value.hint


def test_a_head_of_several_layers_cannot_be_solved() -> None:
    with pytest.raises(UsageError, match="ResNet has a head of several layers; only a single linear head") as caught:
        head_layer(create("test_resnet", "mlp:10").model)
    assert "--set phases.head.solver=sgd" in caught.value.hint
