from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from imgkit.errors import UsageError
from imgkit.models.create import create_model, find_source
from imgkit.models.freeze import classifier_names, set_trainable
from imgkit.models.heads import set_head
from imgkit.recipe.schema import ModelSettings

NAME = "resnet50_mlp1000"


@pytest.mark.parametrize("classes", [1, 100, 1000])
def test_published_counts(classes: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(NAME, num_classes=classes)
    set_trainable(model, "head")
    head = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert (head, total) == (2_049_000 + 1001 * classes, 23_508_032 + 2_049_000 + 1001 * classes)
    if classes == 1000:
        assert (head, total) == (3_050_000, 26_558_032)


def test_it_is_the_head_that_any_network_may_have() -> None:
    with torch.device("meta"):
        for act in ("none", "relu"):
            model, other = timm.create_model(NAME, num_classes=9, head_act=act), timm.create_model("resnet50")
            set_head(other, f"mlp:1000:{act}", 9)
            shapes = {name: value.shape for name, value in model.state_dict().items()}
            assert shapes == {name: value.shape for name, value in other.state_dict().items()}
            assert [*map(str, model.fc)] == [*map(str, other.fc)]


def test_the_activation_is_between() -> None:
    model = timm.create_model(NAME, num_classes=3, head_act="relu").eval()
    features = torch.randn(2, 2048, 1, 1)
    hidden = (features.flatten(1) @ model.fc.fc1.weight.T + model.fc.fc1.bias).clamp(min=0)
    expected = hidden @ model.fc.fc2.weight.T + model.fc.fc2.bias
    assert torch.allclose(model.forward_head(features), expected, atol=1e-5)


def test_the_head_is_reset_to_its_own_kind() -> None:
    with torch.device("meta"):
        model = timm.create_model(NAME, num_classes=3, head_act="relu")
        model.reset_classifier(5)
        assert [*map(str, model.fc)] == [
            "Linear(in_features=2048, out_features=1000, bias=True)",
            "ReLU()",
            "Linear(in_features=1000, out_features=5, bias=True)",
        ]
        model.reset_classifier(0)
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2048)


def test_the_weights_of_a_plain_resnet_go_underneath(tmp_path: Path) -> None:
    plain = timm.create_model("resnet50")
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    spec = str(tmp_path / "w.safetensors")
    settings = ModelSettings(name=NAME, weights=spec, image_size=64, options={"head_act": "relu"})
    created = create_model(settings, 3, 0)
    assert created.name == f"{NAME}.tv_in1k"
    assert created.additions == 0
    loaded = created.model.state_dict()
    head = set(classifier_names(created.model))
    assert {name for name in loaded if name not in state or not torch.equal(loaded[name], state[name])} == head
    # As timm itself loads them, and as the network's own weights are loaded.
    timms = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay={"file": spec})
    assert torch.equal(timms.layer4[2].conv3.weight, plain.layer4[2].conv3.weight)
    save_file(loaded, tmp_path / "own.safetensors")
    again = create_model(settings.model_copy(update={"weights": str(tmp_path / "own.safetensors")}), 3, 1).model
    changed = {name for name, value in again.state_dict().items() if not torch.equal(value, loaded[name])}
    assert changed == head


def test_another_activation_is_told() -> None:
    with pytest.raises(UsageError, match=r"head_act must be one of none, relu, got 'rleu' \(did you mean 'relu'"):
        find_source(ModelSettings(name=NAME, weights="none", options={"head_act": "rleu"}))
