from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.models import group_parameters
from timm.models.vgg import VGG
from torch import Tensor, nn

from imgkit.errors import UsageError
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable, train_mode
from imgkit.optimizers import make_optimizer
from imgkit.recipe.schema import TrainSettings

torch.set_num_threads(1)
MakeModel = Callable[[], nn.Module]


def small_vgg() -> nn.Module:
    """VGG with batch norm in three narrow layers, for 32 px (8 px at the end of the trunk)."""
    return VGG([8, "M", 8, "M", 16], num_classes=3, norm_layer=nn.BatchNorm2d, mlp_ratio=0.01, drop_rate=0.1)


def of_timm(name: str, **options: object) -> MakeModel:
    return lambda: timm.create_model(name, num_classes=3, **options)


FAMILIES: dict[str, MakeModel] = {
    "resnet": of_timm("test_resnet", drop_rate=0.1, drop_path_rate=0.2),
    "efficientnet": of_timm("test_efficientnet", drop_rate=0.1, drop_path_rate=0.2),
    "convnext": of_timm("test_convnext", drop_rate=0.1, drop_path_rate=0.2),
    "vit": of_timm("test_vit", img_size=32, drop_rate=0.1, drop_path_rate=0.2, pos_drop_rate=0.1),
    "vgg": small_vgg,
}
families = pytest.mark.parametrize("family", FAMILIES)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@families
def test_groups_are_a_partition_with_the_classifier_last(family: str) -> None:
    model = FAMILIES[family]()
    groups = layer_groups(model)
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(groups)
    assert groups[-1] == classifier_names(model)
    layer = model.get_classifier()
    assert {id(p) for p in layer.parameters()} == {id(dict(model.named_parameters())[name]) for name in groups[-1]}


@families
def test_groups_keep_timms_order(family: str) -> None:
    model = FAMILIES[family]()
    timms = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    ours = {name: depth for depth, group in enumerate(layer_groups(model)) for name in group}
    last, head = max(timms.values()), classifier_names(model)
    trunk = [name for name in timms if timms[name] < last]
    assert {name: ours[name] for name in trunk} == {name: timms[name] for name in trunk}
    for name in timms:
        if timms[name] == last and name not in head:
            assert ours[name] in {last, last - 1}
    assert all(ours[name] == max(ours.values()) for name in head)


@pytest.mark.parametrize(
    ("name", "parameter", "beside_head"),
    [("test_convnext", "head.norm.weight", 1), ("vgg", "pre_logits.fc2.weight", 1)],
)
def test_what_timm_leaves_beside_the_head(name: str, parameter: str, beside_head: int) -> None:
    groups = layer_groups(small_vgg() if name == "vgg" else timm.create_model(name))
    assert parameter in groups[-1 - beside_head]
    alone = all(other.startswith("pre_logits") for other in groups[-2])
    assert alone == (name == "vgg")  # norms belong to the layer before, weights are a layer of their own


@families
@pytest.mark.parametrize("what", ["head", "last:1", "last:2", "last:3", "all"])
def test_set_trainable_asks_for_those_gradients_only(family: str, what: str) -> None:
    model = FAMILIES[family]()
    set_trainable(model, "all")
    set_trainable(model, what)
    groups = layer_groups(model)
    count = {"head": 1, "all": len(groups)}.get(what) or int(what[-1])
    wanted = {name for group in groups[-count:] for name in group}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == wanted


def test_more_groups_than_there_are() -> None:
    model = timm.create_model("test_vit")
    count = len(layer_groups(model))
    set_trainable(model, f"last:{count}")
    with pytest.raises(UsageError, match=f"'last:{count + 1}': VisionTransformer has {count} groups") as caught:
        set_trainable(model, f"last:{count + 1}")
    assert f"N from 1 to {count}" in caught.value.hint


@families
@pytest.mark.parametrize("what", ["head", "last:2", "last:4"])
def test_the_frozen_part_stays_the_same_bit_for_bit(family: str, what: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]()
    set_trainable(model, what)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    trained = {name for name, _ in model.named_parameters()} - frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, TrainSettings(optimizer="adamw", weight_decay=0.5, decay_all=True), 0.01)
    for _ in range(3):
        train_mode(model, batch_norm="train")
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed >= trained
    # Buffers of a batch norm change only where its own scale and shift train.
    norms = {name.rsplit(".", 1)[0] for name in trained}
    assert {name for name in changed - trained if name.rsplit(".", 1)[0] not in norms} == set()
    assert not changed & frozen


@families
def test_frozen_statistics_stay_even_where_all_trains(family: str) -> None:
    model = FAMILIES[family]()
    set_trainable(model, "all")
    before = {name: value.clone() for name, value in model.named_buffers()}
    train_mode(model, batch_norm="frozen")
    model(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    train_mode(model, batch_norm="train")
    model(torch.randn(4, 3, 32, 32))
    changed = any(not torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert changed == bool(batch_norms(model))


@families
def test_a_frozen_trunk_gives_the_same_features_twice(family: str) -> None:
    """Dropout and drop path act only in what trains."""
    model = FAMILIES[family]()
    images = torch.randn(2, 3, 32, 32)
    set_trainable(model, "head")
    train_mode(model, batch_norm="train")
    assert torch.equal(model.forward_features(images), model.forward_features(images))
    assert not torch.equal(model(images), model(images))  # the dropout before the head is at work
    model.eval()
    exact = model.forward_features(images)
    train_mode(model, batch_norm="train")
    assert torch.equal(model.forward_features(images), exact)


@families
def test_modes_against_a_naive_rule(family: str) -> None:
    for what in ("head", "last:2", "last:3", "all"):
        model = FAMILIES[family]()
        set_trainable(model, what)
        train_mode(model, batch_norm="train")
        for module in model.modules():
            states = [parameter.requires_grad for parameter in module.parameters()]
            if states:
                assert module.training == any(states)
        # A drop path lies in a block whose parameters train together.
        for module in model.modules():
            inside = [child for child in module.children() if isinstance(child, DropPath)]
            states = [parameter.requires_grad for parameter in module.parameters()]
            if inside and states and len(set(states)) == 1:
                assert all(child.training == states[0] for child in inside)


def test_drop_path_works_in_trained_blocks_only() -> None:
    model = timm.create_model("test_vit", drop_path_rate=0.5, pos_drop_rate=0.1, drop_rate=0.1)
    set_trainable(model, "last:2")
    train_mode(model, batch_norm="frozen")
    assert [block.drop_path1.training for block in model.blocks] == [False] * (len(model.blocks) - 1) + [True]
    assert not model.pos_drop.training
    assert model.head_drop.training
    assert model.training
    set_trainable(model, "all")
    train_mode(model, batch_norm="frozen")
    assert model.pos_drop.training


def test_a_batch_norm_keeps_its_own_activation_and_dropout() -> None:
    model = timm.create_model("test_efficientnet")
    train_mode(model, batch_norm="frozen")
    assert all(not module.training for module in batch_norms(model))
    norm = next(module for module in model.modules() if isinstance(module, BatchNormAct2d))
    assert all(child.training for child in norm.children())


def test_norms_without_statistics_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4))
    train_mode(model, batch_norm="frozen")
    assert [module.training for module in model] == [True, True, False]


def test_all_frozen_is_all_evaluation() -> None:
    model = timm.create_model("test_resnet").requires_grad_(False)
    train_mode(model, batch_norm="train")
    assert not any(module.training for module in model.modules())


class Split(nn.Sequential):
    """Layers that train apart, in one container."""


def test_dropout_goes_with_what_it_feeds() -> None:
    model = nn.Sequential(
        Split(nn.Dropout(), nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2), nn.Dropout()), nn.Dropout(), nn.Identity()
    )
    model[0][1].requires_grad_(False)
    train_mode(model, batch_norm="train")
    assert [module.training for module in model[0]] == [False, False, True, True, True]
    assert [module.training for module in model] == [True, True, True]
    for parameter in model[0][1].parameters():
        parameter.requires_grad_(True)
    model[0][3].requires_grad_(False)
    train_mode(model, batch_norm="train")
    assert [module.training for module in model[0]] == [True, True, False, False, False]
    assert [module.training for module in model] == [True, False, False]


def test_a_model_that_does_not_know_its_layers(nameless: nn.Module) -> None:
    model = timm.create_model("pit_ti_224", num_classes=2)  # has no group_matcher
    with pytest.raises(UsageError, match="no group_matcher") as caught:
        set_trainable(model, "last:2")
    assert caught.value.hint.startswith('Use train = "head" or "all"')
    set_trainable(model, "head")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(classifier_names(model))
    set_trainable(model, "all")
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(UsageError, match="which layer is its classifier"):
        set_trainable(nameless, "head")


def test_a_second_classifier_belongs_to_the_head() -> None:
    with torch.device("meta"):
        model = timm.create_model("volo_d1_224")
    assert {name.split(".")[0] for name in classifier_names(model)} == {"head", "aux_head"}


def test_forward_of_tensors_is_untouched() -> None:
    """`train_mode` sets flags, nothing else."""
    model = timm.create_model("test_resnet")
    before: dict[str, Tensor] = {name: value.clone() for name, value in model.state_dict().items()}
    train_mode(model, batch_norm="frozen")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
