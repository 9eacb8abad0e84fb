"""What holds of each of imgkit's own networks: the interface of timm, freezing, the solved head, the model folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from imgkit.calibration import Calibration
from imgkit.errors import UsageError
from imgkit.features import check_solvable, head_layer, left_by_a_solve, load_solution, pooled
from imgkit.model_names import OWN
from imgkit.models.create import Created, create_model
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable, train_mode
from imgkit.models.recompute import set_grad_checkpointing, statistics_kept
from imgkit.optimizers import make_optimizer
from imgkit.recipe.schema import ModelSettings, TrainSettings
from imgkit.solve import solve_head

OPTIONS: dict[str, dict[str, Any]] = {"multilabel_cnn": {"fc": (32, 16)}}
SIZES = {"lsvrc_residual": (96, 128), "multilabel_cnn": (64, 80)}
"""Small images that a network can take, pixels."""
FIXED = ("lsvrc_residual", "multilabel_cnn")
"""Networks that are built for one size."""
STAGES = {"lsvrc_residual": 5, "vgg19_res3": 3, "cbam_resnet18": 9, "cbam_resnet50": 17, "resnet50_mlp1000": 17}
"""Groups of layers in the trunk; 5 of the others, too. Those of ResNets are the stem and the blocks."""
RESNETS = ("cbam_resnet18", "cbam_resnet50", "resnet50_mlp1000")
"""Networks that are timm's ResNet and more: dropout is a function there, and branches begin at zero."""

registered = pytest.mark.parametrize("name", OWN)
networks = pytest.mark.parametrize("name", [name for name in OWN if name not in RESNETS])
kinds = pytest.mark.parametrize(
    "name", ["lsvrc_residual", "multilabel_cnn", "vgg11_compact", "vgg19_res3", "vgg_a_lrn", "vgg_c_bn"]
)
"""One of each kind, where the others differ in a line of a table alone."""
pytestmark = pytest.mark.usefixtures("narrow")


def sizes(name: str) -> tuple[int, int]:
    return SIZES.get(name, (64, 96))


def make(name: str, seed: int = 0, size: int | None = None, **options: object) -> Created:
    given = {**OPTIONS.get(name, {}), **options}
    values = {"name": name, "weights": "none", "image_size": size or sizes(name)[0], "options": given}
    return create_model(ModelSettings.model_validate(values), 3, seed)


def images(name: str, size: int | None = None) -> torch.Tensor:
    side = size or sizes(name)[0]
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@registered
def test_the_registered_network_at_its_own_size(name: str) -> None:
    """Forward and backward on the meta device: all shapes, no numbers."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3, in_chans=5)  # no layer inside has as few
        config = model.pretrained_cfg
        batch = torch.empty(2, 5, *config["input_size"][1:])
    maps = model.forward_features(batch)
    assert maps.shape[:2] == (2, model.num_features)
    assert model.forward_head(maps, pre_logits=True).shape == (2, model.head_hidden_size)
    logits = model(batch)
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    modules = dict(model.named_modules())
    first, last = (
        [names] if isinstance(names, str) else names for names in (config["first_conv"], config["classifier"])
    )
    assert all(modules[conv].in_channels == 5 for conv in first)
    assert sum(getattr(module, "in_channels", None) == 5 for module in modules.values()) == len(first)
    assert modules[last[0]] is model.get_classifier()
    model.reset_classifier(5)
    assert (model(batch).shape, model.num_classes) == ((2, 5), 5)
    model.reset_classifier(0)
    assert model(batch).shape == (2, model.head_hidden_size)
    assert model.get_classifier() is modules.get("") or isinstance(model.get_classifier(), nn.Identity)
    with torch.device("meta"):
        assert timm.create_model(name, num_classes=0)(batch[:, :3]).shape == (2, model.head_hidden_size)


@networks
def test_small_images_and_another_size(name: str) -> None:
    created, (own, other) = make(name), sizes(name)
    model = created.model
    assert created.preprocessing.size == (own, own)
    model(images(name)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    model.eval()
    with torch.no_grad():
        together = model(images(name))
        assert torch.equal(model.forward_head(model.forward_features(images(name))), together)
        bigger = make(name, size=other).model.eval() if name in FIXED else model
        assert bigger(images(name, other)).shape == (2, 3)


@registered
def test_groups_and_the_head(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    groups = layer_groups(model)
    assert sorted(name for group in groups for name in group) == sorted(name for name, _ in model.named_parameters())
    hidden = 0 if name in ("vgg11_compact", *RESNETS) else 1  # its hidden layers are part of its classifier
    assert len(groups) == STAGES.get(name, 5) + hidden + 1
    assert groups[-1] == classifier_names(model)
    assert set(model.group_matcher(coarse=True)) == set(model.group_matcher())
    rates = {group["lr_scale"] for group in make_optimizer(model, TrainSettings(layer_decay=0.5), 1.0).param_groups}
    assert rates == {0.5**depth for depth in range(len(groups))}


@kinds
@pytest.mark.parametrize("what", ["head", "last:3"])
def test_what_is_frozen_of_each_kind(name: str, what: str) -> None:
    see_frozen(name, what)


@networks
def test_what_is_frozen_stays_bit_for_bit(name: str) -> None:
    see_frozen(name, "last:2")


def see_frozen(name: str, what: str) -> None:
    model = make(name).model
    set_trainable(model, what)
    train_mode(model, batch_norm="train")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    optimizer = make_optimizer(model, TrainSettings(optimizer="sgd", weight_decay=0.1), 0.1)
    model(images(name)).square().sum().backward()
    optimizer.step()
    after = model.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    weights = {key for key, _ in model.named_parameters()}
    assert changed & weights == trained
    layers = {key.rpartition(".")[0] for key in trained}
    assert {key.rpartition(".")[0] for key in changed - weights} <= layers, "statistics of what trains, and no others"
    assert {key for key, module in model.named_modules() if isinstance(module, nn.Dropout) and module.training} == {
        *(["head.drop"] if "head.drop" in dict(model.named_modules()) else ["drop"]),
        *(["pre_logits.drop"] if any(key.startswith("pre_logits.fc2") for key in trained) else []),
    }


@kinds
def test_its_last_layer_can_be_solved(name: str) -> None:
    model = make(name).model
    check_solvable(model, images(name))
    assert isinstance(head_layer(model), nn.Linear)
    compact = name.startswith("vgg")
    assert left_by_a_solve(model) == (["pre_logits.fc1", "pre_logits.fc2"] if compact else [])
    with torch.no_grad():
        features = pooled(model, torch.cat([images(name), -images(name), images(name) + 1]))
        solution = solve_head(features, torch.tensor([0, 1, 2, 0, 1, 2]), classes=3, seed=0)
        load_solution(model, solution)
        expected = features[:2] @ solution.weight.T + solution.bias
        assert torch.allclose(model(images(name)), expected, rtol=1e-3, atol=1e-5)


@registered
def test_the_folder_is_loaded_by_imgkit_and_by_timm(name: str, tmp_path: Path) -> None:
    created = make(name)
    model = created.model.eval()
    save_model_folder(
        tmp_path,
        model=model,
        model_name=created.name,
        state=model.state_dict(),
        classes=("a", "b", "c"),
        preprocessing=created.preprocessing,
        calibration=Calibration(1.0, None, "val", 3),
        extra={},
    )
    loaded = load_model_folder(tmp_path)
    plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    others = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5).eval()
    with torch.no_grad():
        expected = model(images(name))
        assert torch.equal(loaded.model(images(name)), expected)
        assert torch.equal(plain(images(name)), expected)
        assert torch.equal(others.forward_features(images(name)), model.forward_features(images(name)))
    config = json.loads((tmp_path / "config.json").read_text())
    arguments = config["model_args"]
    assert arguments.get("head") == ("compact" if name.startswith("vgg") and name != "vgg11_compact" else None)
    assert {key: tuple(arguments[key]) for key in OPTIONS.get(name, {})} == OPTIONS.get(name, {})
    assert config["pretrained_cfg"]["input_size"] == [3, *created.preprocessing.size]
    assert "    import imgkit.models  # registers the network\n    model = timm" in (tmp_path / "README.md").read_text()


def test_plain_timm_knows_them_once_the_package_is_imported(tmp_path: Path) -> None:
    created = make("lsvrc_residual")
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
    code = "import sys, timm\n{}print(timm.create_model('local-dir:' + sys.argv[1], pretrained=True).num_classes)"

    def answer(first: str) -> tuple[int, str]:
        command = [sys.executable, "-c", code.format(first), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert answer("import imgkit.models\n") == (0, "3\n")
    failed, said = answer("")
    assert failed
    assert "Unknown model (lsvrc_residual)" in said


@kinds
def test_recomputed_activations_change_nothing(name: str) -> None:
    found = []
    for on in (False, True):
        model = make(name).model
        train_mode(model, batch_norm="train")
        set_grad_checkpointing(model, on)
        loss = model(images(name)).square().mean()
        with statistics_kept(model):
            loss.backward()
        found.append((loss.detach(), [weight.grad for weight in model.parameters()], list(model.state_dict().values())))
    (loss, grads, state), (again, grads_again, state_again) = found
    assert torch.equal(loss, again)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(grads, grads_again, strict=True))
    assert all(map(torch.equal, state, state_again))


@pytest.mark.parametrize("name", ["vgg_a", "vgg11_compact", "vgg19_res3"])
def test_images_too_small_for_five_pools_are_told_the_smallest(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot take images of 31 px") as told:
        make(name, size=31)
    assert told.value.hint == "It takes images from 32 px:  --image-size 32"
