import json
import math
import re
from dataclasses import replace

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import get_optimizer_info, list_optimizers
from torch import Tensor, nn
from torch.nn import functional

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import RecipeError, UsageError
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable
from imgkit.optimizers import make_optimizer, set_rates
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.recipe.schema import TrainSettings
from imgkit.trainer import Trainer, _placed

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


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lion", "lamb"])
def test_one_kernel_updates_all_where_torch_has_one(name: str) -> None:
    """The same weights to rounding as torch's loop over parameters, which the others have."""
    models = [timm.create_model("test_convnext", num_classes=3).to(memory_format=torch.channels_last) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours, theirs = (make_optimizer(model, TrainSettings(optimizer=name), 0.01) for model in models)
    assert bool(ours.param_groups[0].get("fused")) == (name in ("adam", "adamw"))
    for group in theirs.param_groups:
        group["fused"] = False
    for step in range(5):
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            for number, parameter in enumerate(model.parameters()):
                generator = torch.Generator().manual_seed(1000 * step + number)
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.grad = torch.empty_like(parameter).copy_(drawn)
            optimizer.step()
    for ours_, theirs_ in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-4, atol=1e-6)


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


def trainer(model: nn.Module) -> Trainer:
    grey = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((4, 4), 1.0, "bilinear", grey, grey, "crop")
    return Trainer(
        model,
        preprocessing=preprocessing,
        device=torch.device("cpu"),
        autocast=None,
        seed=0,
        loss_of=lambda phase: functional.cross_entropy,
    )


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))


def weights_after(steps: list[int], optimizer: str) -> dict[str, Tensor]:
    """The tiny network's weights after five updates, which were cut, saved and restored after each of `steps`."""
    torch.manual_seed(0)
    (*_, phase) = make_plan(load_recipe("scratch", sets=["train.batch_size=2", "phases.all.steps=5"]), 4).phases
    chosen = phase.settings.model_copy(update={"optimizer": optimizer, "ema": 0.5})
    phase = replace(phase, settings=chosen, train="all", lr=0.01)
    draw = torch.Generator().manual_seed(1)
    pictures = torch.randint(256, (5, 2, 3, 4, 4), dtype=torch.uint8, generator=draw)
    done, now = 0, trainer(tiny())
    now.begin(phase)
    for stop in [*steps, 5]:
        batches = iter([Batch(images, torch.tensor([0, 1]), torch.tensor([0, 1])) for images in pictures[done:]])
        for _ in zip(range(stop - done), now.train(phase, batches, done), strict=False):
            pass
        done = stop
        if done < 5:
            saved = (now.model.state_dict(), now.tensors(), json.loads(json.dumps(now.numbers())))
            model, tensors = ({name: value.clone() for name, value in part.items()} for part in saved[:2])
            now = trainer(tiny())
            now.restore(model, tensors, saved[2], phase)
    found = {f"model/{name}": value for name, value in now.model.state_dict().items()} | now.tensors()
    assert all(torch.isfinite(value).all() for value in found.values())
    return found


@pytest.mark.parametrize("name", list_optimizers())
def test_each_of_timms_optimizers_works_and_is_restored_exactly_or_is_refused(name: str) -> None:
    if name in refused():
        with pytest.raises(RecipeError, match=f"The optimizer '{name}'") as caught:
            make_optimizer(tiny(), TrainSettings(optimizer=name), 0.01)
        assert caught.value.hint
        return
    whole, cut = weights_after([], name), weights_after([2, 4], name)
    assert whole.keys() == cut.keys()
    assert [key for key in whole if not torch.equal(whole[key], cut[key])] == []
    torch.manual_seed(0)
    assert any(not torch.equal(value, whole[f"model/{key}"]) for key, value in tiny().state_dict().items())


@pytest.mark.parametrize("name", ["adamw", "lamb", "adan", "muon", "adafactor"])
def test_betas_and_eps(name: str) -> None:
    betas = (0.5, 0.6, 0.7)[: get_optimizer_info(name).num_betas]
    group = make_optimizer(nn.Linear(2, 2), TrainSettings(optimizer=name, betas=betas, eps=1e-3), 0.1).param_groups[0]
    assert "betas" not in group or tuple(group["betas"]) == betas
    assert group["eps"] == 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"optimizer": "sgd", "betas": (0.9, 0.99)},
            "The optimizer 'sgd' has no betas, but train.betas is [0.9, 0.99].",
        ),
        ({"optimizer": "lion", "eps": 1e-6}, "The optimizer 'lion' has no eps, but train.eps is 1e-6."),
        (
            {"optimizer": "adan", "betas": (0.9, 0.99)},
            "The optimizer 'adan' has 3 betas, but train.betas is [0.9, 0.99].",
        ),
    ],
)
def test_values_that_an_optimizer_does_not_have(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_optimizer(nn.Linear(2, 2), TrainSettings.model_validate(values), 0.1)
    assert caught.value.message == message
    assert caught.value.hint
    assert caught.value.exit_code == 2


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


@pytest.mark.parametrize("fused", [True, False])
def test_a_count_of_updates_lies_where_the_kernel_reads_it(fused: bool) -> None:
    elsewhere = nn.Parameter(torch.empty(3, device="meta"))
    count = _placed("step", torch.tensor(7.0), elsewhere, {"fused": fused})
    assert isinstance(count, Tensor)
    assert count.device.type == ("meta" if fused else "cpu")


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_moment_of_one_number_lies_where_its_parameter_does(shape: tuple[int, ...]) -> None:
    """Of nvnovograd, or of a parameter of one number."""
    moment = _placed("exp_avg_sq", torch.tensor(7.0), nn.Parameter(torch.empty(shape, device="meta")), {})
    assert isinstance(moment, Tensor)
    assert (moment.device.type, moment.shape) == ("meta", ())
