import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from imgkit.calibration import Calibration
from imgkit.errors import UsageError
from imgkit.models.create import create_model, find_source
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.models.options import takes
from imgkit.recipe.schema import ModelSettings


def settings(name: str, options: dict[str, object], **values: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": name, "weights": "none", "options": options, **values})


def refusal(name: str, options: dict[str, object], **values: object) -> UsageError:
    """What is said before weights are looked for, images read, and the network made."""
    with pytest.raises(UsageError) as caught:
        find_source(settings(name, options, **values))
    return caught.value


def test_options_reach_the_network_and_its_folder(tmp_path: Path) -> None:
    chosen = {"global_pool": "max", "channels": (8, 8, 8, 8), "stem_width": 8}
    created = create_model(settings("test_resnet", chosen, image_size=32), 3, 0)
    assert created.model.global_pool.pool_type == "max"
    assert created.model.fc.in_features == 8
    save_model_folder(
        tmp_path,
        model=created.model,
        model_name=created.name,
        state=created.model.state_dict(),
        classes=("a", "b", "c"),
        preprocessing=created.preprocessing,
        calibration=Calibration(1.0, None, "val", 3),
        extra={},
    )
    arguments = json.loads((tmp_path / "config.json").read_text())["model_args"]
    assert {key: arguments[key] for key in chosen} == {**chosen, "channels": [8, 8, 8, 8]}
    images = torch.randn(2, 3, 32, 32)
    plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    created.model.eval()
    with torch.no_grad():
        expected = created.model(images)
        assert torch.equal(load_model_folder(tmp_path).model(images), expected)
        assert torch.equal(plain(images), expected)


def test_an_option_that_the_network_does_not_take() -> None:
    error = refusal("test_resnet", {"globalpool": "max"})
    assert error.message == (
        "test_resnet does not take the option 'globalpool' (model.options.globalpool) (did you mean 'global_pool'?)."
    )
    assert error.hint.startswith("Its options: ")
    assert {"global_pool", "stem_type", "act_layer"} <= set(error.hint[13:-1].split(", "))
    assert not {"num_classes", "drop_rate", "in_chans", "self"} & set(error.hint[13:-1].split(", "))


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("num_classes", "the data say how many"),
        ("in_chans", "model.in_chans=1"),
        ("img_size", "--image-size"),
        ("drop_rate", "--set model.drop_rate=X"),
        ("drop_path_rate", "--set model.drop_path=X"),
        ("pretrained", "--weights"),
        ("features_only", "gives logits"),
        ("device", "imgkit sets it"),
    ],
)
def test_what_has_a_key_of_its_own_is_no_option(option: str, hint: str) -> None:
    error = refusal("test_resnet", {option: 1})
    assert error.message == f"model.options.{option} is not an option of a network."
    assert hint in error.hint


def test_a_value_that_the_network_cannot_be_made_with() -> None:
    error = refusal("test_vit", {"embed_dim": 30, "num_heads": 7})
    assert error.message.startswith("test_vit ")
    error = refusal("test_resnet", {"act_layer": "no_such", "stem_width": 8})
    assert error.message.startswith(
        'test_resnet cannot be made with model.options (act_layer = "no_such", stem_width = 8): '
    )
    assert error.hint.startswith("Its options: ")


def test_a_value_of_the_wrong_kind_is_told_in_words() -> None:
    error = refusal("test_resnet", {"block_args": (1, 2)})
    assert "(block_args = [1, 2]): a value is of a kind that the option does not take (TypeError: " in error.message
    assert error.hint.startswith("Its options: ")


def test_what_the_network_sets_itself() -> None:
    error = refusal("vgg11_bn", {"norm_layer": "layernorm"})
    assert error.message == "vgg11_bn sets norm_layer itself: model.options.norm_layer cannot change it."


def test_an_image_size_is_not_blamed_on_the_options() -> None:
    with pytest.raises(UsageError, match="cannot take images of 10 px"):
        create_model(settings("test_maxvit", {"global_pool": "avg"}, image_size=10), 2, 0)


def test_a_function_that_drops_what_it_does_not_know(registered: str) -> None:
    error = refusal(registered, {"widht": 3})
    assert error.message == f"{registered} does not take the option 'widht' (model.options.widht)."
    assert error.hint == f"{registered} has no options: leave them out."


class Asks(nn.Module):
    """Told its image size, and a width."""

    def __init__(self, num_classes: int, side: int, width: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * side * side, num_classes)
        self.wide = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(images.flatten(1))
        return logits

    def get_classifier(self) -> nn.Module:
        return self.fc


def imgkit_test_asks(
    pretrained: bool = False, num_classes: int = 7, img_size: int = 8, width: int = 4, **_: object
) -> Asks:
    return Asks(num_classes, img_size, width)


def test_a_network_that_asks_for_the_image_size_is_told() -> None:
    if not timm.is_model("imgkit_test_asks"):
        timm.models.register_model(imgkit_test_asks)
    assert takes("imgkit_test_asks", "img_size")
    assert not takes("test_resnet.r160_in1k", "img_size")
    created = create_model(settings("imgkit_test_asks", {"width": 9}, image_size=16), 3, 0)
    assert (created.model.fc.in_features, created.model.wide) == (3 * 16 * 16, 9)
    assert "Its options: width" in refusal("imgkit_test_asks", {"wide": 9}).hint
