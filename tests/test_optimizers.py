import math
import re

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import list_optimizers
from torch import nn

from imgkit.errors import RecipeError, UsageError
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable
from imgkit.optimizers import make_optimizer, set_rates
from imgkit.recipe.schema import TrainSettings

torch.set_num_threads(1)
FAMILIES = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "test_maxvit"]


def by_name(optimizer: torch.optim.Optimizer, key: str) -> dict[str, float]:
    return {name: group[key] for group in optimizer.param_groups for name in group["names"]}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer_decay", [1.0, 0.75, 0.5])
def test_each_group_has_its_rate(name: str, layer_decay: float) -> None:
    model = timm.create_model(name, num_classes=3)
    optimizer = make_optimizer(model, TrainSettings(layer_decay=layer_decay), 0.1)
    for lr in (0.1, 0.025, 0.0):
        if lr != 0.1:
            set_rates(optimizer, lr)
        rates = by_name(optimizer, "lr")
        assert set(rates) == {parameter for parameter, _ in model.named_parameters()}
        groups = layer_groups(model)
        for below_head, group in enumerate(reversed(groups)):
            for parameter in group:
                assert math.isclose(rates[parameter], lr * math.prod([layer_decay] * below_head), rel_tol=1e-12)
        assert all(rates[parameter] == lr for parameter in classifier_names(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_rates_agree_with_timms_groups(name: str) -> None:
    """Where timm leaves nothing beside the classifier in its last group, the scales are timm's."""
    model = timm.create_model(name, num_classes=3)
    depth = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    last = max(depth.values())
    beside = {parameter for parameter in depth if depth[parameter] == last} - set(classifier_names(model))
    scales = by_name(make_optimizer(model, TrainSettings(layer_decay=0.5), 1.0), "lr_scale")
    assert {n: s for n, s in scales.items() if n not in beside} == {
        n: 0.5 ** (last - d) for n, d in depth.items() if n not in beside
    }


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("decay_all", [False, True])
def test_what_decays(name: str, decay_all: bool) -> None:
    model = timm.create_model(name, num_classes=3)
    decays = by_name(make_optimizer(model, TrainSettings(weight_decay=0.3, decay_all=decay_all), 0.1), "weight_decay")
    listed = getattr(model, "no_weight_decay", set)()
    for parameter, value in model.named_parameters():
        spared = value.ndim <= 1 or parameter.endswith("bias") or parameter in listed
        assert decays[parameter] == (0.0 if spared and not decay_all else 0.3)
    if name == "test_vit":
        assert "pos_embed" in listed


def test_a_bias_of_two_dimensions_does_not_decay() -> None:
    model = nn.ParameterDict({"weight": nn.Parameter(torch.ones(2, 2)), "bias": nn.Parameter(torch.ones(2, 2))})
    layer = nn.ModuleDict({"layer": model})
    decays = by_name(make_optimizer(layer, TrainSettings(weight_decay=0.3), 0.1), "weight_decay")
    assert decays == {"layer.weight": 0.3, "layer.bias": 0.0}


def test_only_what_trains_is_optimized_and_depth_counts_from_the_head() -> None:
    model = timm.create_model("test_vit", num_classes=3)
    full = by_name(make_optimizer(model, TrainSettings(layer_decay=0.5), 0.1), "lr")
    set_trainable(model, "last:3")
    optimizer = make_optimizer(model, TrainSettings(layer_decay=0.5), 0.1)
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert by_name(optimizer, "lr") == {name: full[name] for name in wanted}
    parameters = dict(model.named_parameters())
    for group in optimizer.param_groups:
        assert [id(parameter) for parameter in group["params"]] == [id(parameters[name]) for name in group["names"]]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "lamb", "muon"])
def test_a_step_moves_each_layer_by_its_rate(optimizer: str) -> None:
    """With rate 0 for all but the head, only the head moves."""
    torch.manual_seed(0)
    model = timm.create_model("test_convnext", num_classes=3)
    made = make_optimizer(model, TrainSettings(optimizer=optimizer, layer_decay=1e-300), 0.1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    made.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(classifier_names(model))


def refused() -> set[str]:
    no_device = {name for name in list_optimizers() if name.startswith(("bnb", "fused"))}
    return {"adahessian", "kron", "kronc", "kronw"} | (set() if torch.cuda.is_available() else no_device)


@pytest.mark.parametrize("name", list_optimizers())
def test_each_of_timms_optimizers_works_or_is_refused(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    settings = TrainSettings(optimizer=name)
    if name in refused():
        with pytest.raises(RecipeError, match=f"The optimizer '{name}'") as caught:
            make_optimizer(model, settings, 0.01)
        assert caught.value.hint
        return
    optimizer = make_optimizer(model, settings, 0.01)
    before = [value.clone() for value in model.parameters()]
    for _ in range(2):
        model(torch.randn(2, 3, 4, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.isfinite(value).all() for value in model.parameters())
    assert any(not torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True))
    # All that an optimizer remembers is in its slots, or a step count in the group.
    for slots in optimizer.state.values():
        assert all(isinstance(value, torch.Tensor | int | float) for value in slots.values())


def test_momentum() -> None:
    model = nn.Linear(2, 2)
    for momentum, expected in ((None, 0.9), (0.5, 0.5), (0.0, 0.0)):
        settings = TrainSettings(optimizer="momentum", momentum=momentum)
        assert make_optimizer(model, settings, 0.1).param_groups[0]["momentum"] == expected
    with pytest.raises(RecipeError, match=r"'adamw' has no momentum, but train\.momentum is 0\.5"):
        make_optimizer(model, TrainSettings(optimizer="adamw", momentum=0.5), 0.1)


@pytest.mark.parametrize(("name", "guess"), [("adamww", " (did you mean 'adamw'?)"), ("lookahead_adamw", "")])
def test_an_unknown_optimizer(name: str, guess: str) -> None:
    with pytest.raises(RecipeError, match=rf"Unknown optimizer '{name}'{re.escape(guess)}\.") as caught:
        make_optimizer(nn.Linear(2, 2), TrainSettings(optimizer=name), 0.1)
    assert "adamw, sgd" in caught.value.hint


def test_layer_decay_of_a_model_that_does_not_know_its_layers() -> None:
    model = nn.Linear(2, 2)
    assert set(by_name(make_optimizer(model, TrainSettings(), 0.1), "lr").values()) == {0.1}
    with pytest.raises(UsageError, match="no group_matcher") as caught:
        make_optimizer(model, TrainSettings(layer_decay=0.5), 0.1)
    assert "layer_decay = 1" in caught.value.hint
