"""Networks with gates: published counts, the gates against a second version, and plain weights underneath."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from imgkit.calibration import Calibration
from imgkit.errors import UsageError, WeightsError
from imgkit.features import check_solvable
from imgkit.models.create import Created, create_model, find_source
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.models.freeze import classifier_names, layer_groups, set_trainable, train_mode
from imgkit.models.networks.cbam import PLACEMENTS, CbamResNet, Gate
from imgkit.models.recompute import set_grad_checkpointing
from imgkit.optimizers import make_optimizer
from imgkit.recipe.schema import ModelSettings, TrainSettings

SIZES = {  # classes, placement: parameters, MiB, MB; None: a plain ResNet-50
    (100, None): (23_712_932, "90.66 MiB", "95.06 MB"),
    (100, "stages"): (23_800_012, "90.99 MiB", "95.41 MB"),
    (100, "stem+stages"): (23_800_022, "90.99 MiB", "95.41 MB"),
    (100, "blocks"): (24_027_460, "91.86 MiB", "96.32 MB"),
    (1000, None): (25_557_032, "97.70 MiB", "102.44 MB"),
}
placements = pytest.mark.parametrize("placement", PLACEMENTS)


def laid_out(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **options)
    return model


@pytest.mark.parametrize(("classes", "placement"), SIZES)
def test_published_counts_and_sizes(classes: int, placement: str | None) -> None:
    if placement is None:
        model = laid_out("resnet50", num_classes=classes)
    else:
        model = laid_out("cbam_resnet50", num_classes=classes, placement=placement)
    stored = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    found = (
        sum(parameter.numel() for parameter in model.parameters()),
        f"{size / 2**20:.2f} MiB",
        f"{size / 1e6:.2f} MB",
    )
    assert found == SIZES[classes, placement]


def test_blocks_is_the_default() -> None:
    names = list(laid_out("cbam_resnet50").state_dict())
    assert names == list(laid_out("cbam_resnet50", placement="blocks", reduction=128, kernel=3).state_dict())


# --- the gates


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def naive(gate: Gate, x: Tensor) -> Tensor:
    """Woo et al. 2018, equations 1 to 3, picture by picture and place by place."""
    scale = 2.0 if gate.identity else 1.0
    pooled = [x.flatten(2).mean(2), *([x.flatten(2).max(2).values] if gate.max_pool else [])]  # (B, C)
    if gate.channel is not None:
        first, second = gate.channel.fc1.weight[:, :, 0, 0], gate.channel.fc2.weight[:, :, 0, 0]
        logits = sum((p @ first.T).clamp(min=0) @ second.T for p in pooled)
        x = x * (scale * sigmoid(logits))[:, :, None, None]
    maps = torch.stack([x.mean(1), *([x.max(1).values] if gate.max_pool else [])], dim=1)  # (B, 1 or 2, H, W)
    kernel = gate.spatial.weight[0]
    reach, (height, width) = kernel.shape[-1] // 2, maps.shape[-2:]
    padded = torch.zeros(*maps.shape[:2], height + 2 * reach, width + 2 * reach)
    padded[..., reach : reach + height, reach : reach + width] = maps
    places = [
        [(padded[..., i : i + 2 * reach + 1, j : j + 2 * reach + 1] * kernel).sum((1, 2, 3)) for j in range(width)]
        for i in range(height)
    ]
    logits = torch.stack([torch.stack(row, dim=-1) for row in places], dim=-2) + gate.spatial.bias  # (B, H, W)
    return x * (scale * sigmoid(logits))[:, None]


@pytest.mark.parametrize("max_pool", [False, True])
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize(("reduction", "kernel"), [(4, 3), (2, 7), (16, 1)])
def test_a_gate_is_that_of_the_paper(max_pool: bool, identity: bool, reduction: int, kernel: int) -> None:
    torch.manual_seed(0)
    gate = Gate(8, reduction=reduction, max_pool=max_pool, kernel=kernel, identity=identity)
    gate.start()
    for parameter in gate.parameters():  # those of the identity too
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, 8, 6, 5)
    assert (gate.channel is None) == (reduction > 8)
    assert torch.allclose(gate(x), naive(gate, x), atol=1e-5)


def test_gates_begin_as_the_identity_or_at_a_quarter() -> None:
    x = torch.randn(4, 256, 7, 7)
    for max_pool in (False, True):
        gate = Gate(256, max_pool=max_pool, identity=True)
        gate.start()
        assert torch.equal(gate(x), x), "exactly"
        gate(x).square().sum().backward()
        last = gate.channel.fc2.weight, gate.spatial.weight
        assert all(float(parameter.grad.abs().max()) > 0 for parameter in last), "and it can leave that"
    fresh = Gate(256)
    fresh.start()
    assert 0.15 < float((fresh(x) / x).mean().detach()) < 0.35


def test_the_module_of_the_paper_by_options() -> None:
    model = laid_out("cbam_resnet50", num_classes=100, max_pool=True, reduction=16, kernel=7)
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    assert len(gates) == 16
    counted = sum(
        2 * c * (c // 16) + 2 * 49 + 1 for c, n in ((256, 3), (512, 4), (1024, 6), (2048, 3)) for _ in range(n)
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_712_932 + counted


# --- where they are


@pytest.mark.parametrize(
    ("name", "placement", "places"),
    [
        (
            "cbam_resnet50",
            "blocks",
            [f"layer{s}.{b}.se" for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(n)],
        ),
        ("cbam_resnet50", "stages", [f"layer{s}.gate" for s in (1, 2, 3, 4)]),
        ("cbam_resnet50", "stem+stages", ["maxpool.gate", *(f"layer{s}.gate" for s in (1, 2, 3, 4))]),
        ("cbam_resnet18", "blocks", [f"layer{s}.{b}.se" for s in (1, 2, 3, 4) for b in (0, 1)]),
    ],
)
def test_places(name: str, placement: str, places: list[str]) -> None:
    model = laid_out(name, placement=placement)
    assert sorted(place for place, module in model.named_modules() if isinstance(module, Gate)) == sorted(places)
    own = set(model.state_dict()) - set(laid_out(name.removeprefix("cbam_")).state_dict())
    assert set(model.additions()) == own
    assert all(key.startswith(tuple(f"{place}." for place in places)) for key in own)


def test_gates_in_blocks_come_before_the_add() -> None:
    """Gates that let nothing through leave the shortcut: the network answers, and the features are not crushed."""
    model = timm.create_model("cbam_resnet18").eval()
    seen: list[Tensor] = []
    block = model.layer1[0]
    block.se.register_forward_hook(lambda module, inputs, output: output * 0)
    block.register_forward_hook(lambda module, inputs, output: seen.extend([inputs[0].clone(), output.clone()]))
    model(torch.randn(1, 3, 64, 64))
    assert torch.equal(seen[1], seen[0].relu())


@pytest.mark.parametrize("placement", ["stages", "stem+stages"])
def test_gates_of_stages_come_after_the_add(placement: str) -> None:
    model = timm.create_model("cbam_resnet18", placement=placement).eval()
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        assert isinstance([*stage.children()][-1], Gate)
    images = torch.randn(1, 3, 64, 64)
    before = model(images)
    if placement == "stem+stages":
        stem = model.maxpool.pool(model.act1(model.bn1(model.conv1(images))))
        assert torch.equal(model.maxpool(model.act1(model.bn1(model.conv1(images)))), model.maxpool.gate(stem))
    nn.init.constant_(model.layer4.gate.spatial.bias, -100.0)
    assert not torch.equal(model(images), before)
    assert float(model.forward_features(images).detach().abs().max()) < 1e-30


# --- a network of timm like any other


@pytest.fixture(params=PLACEMENTS)
def small(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("cbam_resnet18", num_classes=3, placement=request.param, reduction=16)


def test_features_and_head_are_the_network(small: nn.Module) -> None:
    small.eval()
    for side in (64, 50):
        images = torch.randn(2, 3, side, side)
        features = small.forward_features(images)
        assert torch.equal(small.forward_head(features), small(images))
        assert small.forward_head(features, pre_logits=True).shape == (2, 512)
    small.reset_classifier(5)
    assert small(images).shape == (2, 5)
    check_solvable(small, images)


def test_other_numbers_of_channels() -> None:
    for channels in (1, 4):
        model = timm.create_model("cbam_resnet18", in_chans=channels, num_classes=2, placement="stem+stages")
        assert model(torch.randn(2, channels, 64, 64)).shape == (2, 2)


def test_gates_freeze_and_decay_with_their_stage(small: nn.Module) -> None:
    groups = layer_groups(small)
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in small.named_parameters())
    plain = layer_groups(timm.create_model("resnet18", num_classes=3))
    gates = set(small.additions())
    assert [[name for name in group if name not in gates] for group in groups] == plain
    for depth, group in enumerate(groups):
        stages = {name.split(".")[0] for name in plain[depth]}
        for name in set(group) & gates:
            assert name.startswith("maxpool.") if depth == 0 else name.split(".")[0] in stages
    set_trainable(small, "last:3")
    train_mode(small, batch_norm="frozen")
    trained = {name for name, parameter in small.named_parameters() if parameter.requires_grad}
    assert trained & gates == {name for name in gates if name.startswith("layer4.")}
    optimizer = make_optimizer(small, TrainSettings(layer_decay=0.5), 1.0)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    depths = {name: depth for depth, group in enumerate(groups) for name in group}
    assert all(rates[name] == 0.5 ** (len(groups) - 1 - depths[name]) for name in trained & gates)


def test_recomputed_activations_give_the_same_gradient(small: nn.Module) -> None:
    images = torch.randn(2, 3, 64, 64)
    small.eval()
    found = []
    for on in (False, True):
        set_grad_checkpointing(small, on)
        small.zero_grad()
        small(images).square().sum().backward()
        found.append({name: parameter.grad.clone() for name, parameter in small.named_parameters()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


# --- weights of a plain ResNet


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, str]:
    """A plain ResNet-50 whose every tensor is drawn, and its file."""
    torch.manual_seed(3)
    model = timm.create_model("resnet50", num_classes=5)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("bn3.weight"):
            value.uniform_(0.2, 0.4)  # timm begins with zeros: the branch, and its gate, would not show
        elif name.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
    file = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    save_file(model.state_dict(), file)
    return model.eval(), str(file)


def create(placement: str, weights: str = "none", name: str = "cbam_resnet50", **options: object) -> Created:
    settings = ModelSettings(
        name=name, weights=weights, image_size=64, options={"placement": placement, "identity": True, **options}
    )
    return create_model(settings, 5, 0)


@placements
@pytest.mark.parametrize("paper", [False, True])
def test_a_plain_resnet_50_with_identity_gates_is_itself(
    placement: str, paper: bool, plain: tuple[nn.Module, str]
) -> None:
    model, file = plain
    options = {"max_pool": True, "reduction": 16, "kernel": 7} if paper else {}
    created = create(placement, file, **options)
    gated: CbamResNet = created.model.eval()
    assert created.additions == sum(gated.get_parameter(name).numel() for name in gated.additions()) > 0
    gated.fc.load_state_dict(model.fc.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(images), gated(images)
    assert float(expected.std()) > 0.01
    assert float((found - expected).abs().max()) < 1e-5
    # The gates do something once they are not the identity.
    for module in gated.modules():
        if isinstance(module, Gate):
            nn.init.constant_(module.spatial.bias, 0.5)
    with torch.no_grad():
        assert float((gated(images) - expected).abs().max()) > 1e-3


@placements
def test_only_head_and_gates_are_new_and_they_depend_on_the_seed_alone(
    placement: str, plain: tuple[nn.Module, str]
) -> None:
    state = plain[0].state_dict()
    gated = create(placement, plain[1], identity=False).model
    loaded, random = gated.state_dict(), create(placement, identity=False).model.state_dict()
    new = {*gated.additions(), *classifier_names(gated)}
    assert {name for name in loaded if name not in state or not torch.equal(loaded[name], state[name])} == new
    assert all(torch.equal(loaded[name], random[name]) for name in new)


def test_timm_itself_puts_plain_weights_under_the_gates(plain: tuple[nn.Module, str]) -> None:
    model, file = plain
    gated = timm.create_model(
        "cbam_resnet50", pretrained=True, pretrained_cfg_overlay={"file": file, "num_classes": 5}, num_classes=5,
        identity=True,
    ).eval()  # fmt: skip
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(gated(images), model(images), atol=1e-5)


def test_weights_of_the_network_itself_bring_their_gates(tmp_path: Path) -> None:
    first = create("stages", name="cbam_resnet18", identity=False)
    save_file(first.model.state_dict(), tmp_path / "w.safetensors")
    again = create("stages", str(tmp_path / "w.safetensors"), name="cbam_resnet18")
    assert again.additions == 0
    state = again.model.state_dict()
    head = classifier_names(again.model)
    assert all(torch.equal(value, state[name]) for name, value in first.model.state_dict().items() if name not in head)


def test_half_of_the_gates_is_no_plain_resnet(tmp_path: Path) -> None:
    state = create("stages", name="cbam_resnet18").model.state_dict()
    del state["layer1.gate.spatial.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"- layer1\.gate\.spatial\.weight \(1, 1, 3, 3\)"):
        create("stages", str(tmp_path / "w.safetensors"), name="cbam_resnet18")
    with pytest.raises(WeightsError, match=r"\+ layer1\.gate\.spatial\.bias"):
        create("blocks", str(tmp_path / "w.safetensors"), name="cbam_resnet18")


@pytest.mark.parametrize(
    ("name", "tag", "hub"),
    [
        ("cbam_resnet50", "tv2_in1k", "timm/resnet50.tv2_in1k"),
        ("cbam_resnet50", "a1_in1k", "timm/resnet50.a1_in1k"),
        ("cbam_resnet18", "tv_in1k", "timm/resnet18.tv_in1k"),
    ],
)
def test_pretrained_weights_are_those_of_the_plain_network(name: str, tag: str, hub: str) -> None:
    config = timm.get_pretrained_cfg(f"{name}.{tag}")
    plain = timm.get_pretrained_cfg(f"{name.removeprefix('cbam_')}.{tag}")
    assert (config.hf_hub_id, config.architecture, config.license) == (hub, name, plain.license)
    assert timm.get_pretrained_cfg("cbam_resnet50").tag == "tv2_in1k"


# --- the model folder


@placements
def test_timm_loads_the_folder(placement: str, tmp_path: Path) -> None:
    created = create(placement, name="cbam_resnet18", identity=False, reduction=16)
    save_model_folder(
        tmp_path,
        model=created.model,
        model_name=created.name,
        state=created.model.state_dict(),
        classes=tuple("abcde"),
        preprocessing=created.preprocessing,
        calibration=Calibration(1.0, None, "val", 9),
        extra={},
    )
    images = torch.randn(2, 3, 64, 64)
    timms = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        expected = created.model.eval()(images)
        assert torch.equal(load_model_folder(tmp_path).model(images), expected)
        assert torch.equal(timms(images), expected)
    assert (
        "    import imgkit.models  # registers the network\n    model = timm.create_model("
        in (tmp_path / "README.md").read_text()
    )


# --- faults


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"placement": "stage"},
            r"placement must be one of blocks, stages, stem\+stages, got 'stage' \(did you mean 'stages'",
        ),
        ({"reduction": 0}, "reduction is at least 1, not 0"),
        ({"kernel": 4}, "kernel is an odd number of pixels, not 4"),
        ({"redcution": 16}, "does not take the option 'redcution'.*did you mean 'reduction'"),
    ],
)
def test_faults_are_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_source(ModelSettings(name="cbam_resnet50", weights="none", options=options))
