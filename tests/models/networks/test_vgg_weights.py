"""Deeper VGGs start from seven layers of a trained A, and from nothing else of it."""

import json
from pathlib import Path

import pytest
import timm
import torch
from cli_run import Run
from oracle import SHORT
from pictures import MakeFolders
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imgkit.errors import WeightsError
from imgkit.models.create import Created, create_model, find_source
from imgkit.models.networks.vgg import Vgg
from imgkit.models.networks.vgg_weights import start_of_deeper
from imgkit.recipe.schema import ModelSettings

pytest_plugins = ["cli_fixture"]
pytestmark = pytest.mark.usefixtures("narrow")

# The layers of A, and the same ones in each deeper network: ReLU and pools counted by hand on table 1.
FROM_A = ("features.0", "features.3", "features.6", "features.8")
PLACES = ("features.0", "features.5", "features.10", "features.12")
PLACES_BN = ("features.0", "features.7", "features.14", "features.17")
FC = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")


def trained(folder: Path, name: str = "vgg_a", **options: object) -> dict[str, Tensor]:
    """Random tensors in place of trained ones, in a.safetensors."""
    torch.manual_seed(5)
    model = timm.create_model(name, num_classes=3, img_size=64, **options)
    state = {
        key: torch.rand(value.shape) if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    save_file(state, folder / "a.safetensors")
    return state


def started(name: str, weights: str, **values: object) -> Created:
    options = {"init": "paper"} if name.startswith("vgg") else {}
    given = {"name": name, "weights": weights, "image_size": 64, "options": options, **values}
    return create_model(ModelSettings.model_validate(given), 3, seed=2)


@pytest.mark.parametrize("name", ["vgg_b", "vgg_c", "vgg_d", "vgg_e"])
def test_seven_layers_are_those_of_a_and_the_rest_is_the_papers(name: str, tmp_path: Path) -> None:
    a = trained(tmp_path)
    created = started(name, f"part:{tmp_path / 'a.safetensors'}")
    fresh = started(name, "none").model.state_dict()
    layers = dict(zip((*PLACES, *FC), (*FROM_A, *FC), strict=True))
    taken = {f"{layer}.{what}": a[f"{of}.{what}"] for layer, of in layers.items() for what in ("weight", "bias")}
    assert len(taken) == 14
    for key, value in created.model.state_dict().items():
        assert torch.equal(value, taken.get(key, fresh[key])), key
    rest = [value for key, value in fresh.items() if key not in taken]
    assert all(value.std().item() == pytest.approx(0.1, rel=0.05) for value in rest if value.dim() > 1)
    assert not any(value.any() for value in rest if value.dim() == 1)
    said_taken, said_new = created.notes[-2:]
    shown = f"from file {tmp_path / 'a.safetensors'}: 7 layers, {', '.join((*PLACES, *FC))} "
    assert said_taken == f"{shown}({sum(value.numel() for value in taken.values()):,} parameters)"
    new = [key.removesuffix(".weight") for key in fresh if key.endswith(".weight") and key not in taken]
    count = sum(value.numel() for value in rest)
    assert said_new == f"as they begin (init = paper): {len(new)} layers, {', '.join(new)} ({count:,} parameters)"


def test_batch_norms_go_with_their_convolutions(tmp_path: Path) -> None:
    a = trained(tmp_path, "vgg_a_bn")
    created = started("vgg_d_bn", f"part:{tmp_path / 'a.safetensors'}")
    own = created.model.state_dict()
    for layer, of in zip(PLACES_BN, ("features.0", "features.4", "features.8", "features.11"), strict=True):
        norms = [f"features.{int(one.rpartition('.')[2]) + 1}" for one in (layer, of)]
        assert torch.equal(own[f"{layer}.weight"], a[f"{of}.weight"])
        for what in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(own[f"{norms[0]}.{what}"], a[f"{norms[1]}.{what}"])
    assert all(torch.equal(own[f"{layer}.weight"], a[f"{layer}.weight"]) for layer in FC)
    fresh = started("vgg_d_bn", "none").model.state_dict()
    assert torch.equal(own["features.3.weight"], fresh["features.3.weight"])
    assert "features.17, pre_logits.fc1" in created.notes[-2]
    assert " and batch norms (" in created.notes[-2]
    assert ", each with its batch norm (" in created.notes[-1]


def test_a_narrow_one_starts_from_an_a_of_its_width(tmp_path: Path) -> None:
    a = trained(tmp_path, width=0.125)
    file = tmp_path / "a.safetensors"
    own = started("vgg_d", f"part:{file}", options={"width": 0.125}).model.state_dict()
    for layer, of in zip((*PLACES, *FC), (*FROM_A, *FC), strict=True):
        assert own[f"{layer}.weight"].shape == a[f"{of}.weight"].shape
        assert torch.equal(own[f"{layer}.weight"], a[f"{of}.weight"])
    for options, wanted in (({}, "64, 128, 256"), ({"width": 0.25}, "16, 32, 64")):
        told = rf"no configuration A, whose convolutions have {wanted}, .* but has convolutions of 8, 16, 32, 32, 64,"
        with pytest.raises(WeightsError, match=told):
            started("vgg_d", f"part:{file}", options=options)


def test_an_a_of_other_names(tmp_path: Path) -> None:
    a = trained(tmp_path, head="paper")
    model = started("vgg_d", "none", options={"head": "paper"}).model
    torchs = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    renamed = {}
    for key, value in a.items():
        layer, what = key.rpartition(".")[::2]
        flat = value.flatten(1) if what == "weight" and layer.startswith("pre_logits") else value
        renamed[f"{torchs.get(layer, layer)}.{what}"] = flat
    assert isinstance(model, Vgg)
    taken = start_of_deeper(renamed, model)
    assert len(taken) == 14
    assert all(torch.equal(value, start_of_deeper(a, model)[key]) for key, value in taken.items())
    lrn = timm.create_model("vgg_a_lrn", num_classes=3, img_size=64).state_dict()
    assert torch.equal(start_of_deeper(lrn, model)["features.5.weight"], lrn["features.4.weight"])


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (
            "vgg_b",
            "vgg_d",
            r"vgg_d\S* cannot start from file .*: it is no configuration A, whose convolutions have 64, 128, ",
        ),
        ("vgg_a", "vgg_d_bn", r"vgg_d_bn\S* cannot start .*: only one of the two networks has batch norms"),
        ("vgg_a_bn", "vgg_d", r"vgg_d\S* cannot start .*: only one of the two networks has batch norms"),
        ("vgg_a", "resnet18", r"resnet18\S* takes no part of the weights of other networks\.\n.*--weights FILE"),
    ],
)
def test_what_is_no_start(source: str, name: str, message: str, tmp_path: Path) -> None:
    trained(tmp_path, source)
    with pytest.raises(WeightsError, match=message):
        started(name, f"part:{tmp_path / 'a.safetensors'}")


def test_an_a_of_other_classes_or_another_head_is_told(tmp_path: Path) -> None:
    trained(tmp_path)
    settings = {"name": "vgg_d", "weights": f"part:{tmp_path / 'a.safetensors'}", "image_size": 64}
    with pytest.raises(WeightsError, match=r"- head\.fc\.weight \(4, 16\)\n[^+]*\+ head\.fc\.bias \(3,\)\n") as told:
        create_model(ModelSettings.model_validate(settings), 4, seed=2)
    assert "classes, --head and model.options.head must be those" in told.value.hint
    with pytest.raises(WeightsError, match=r"- pre_logits\.fc1\.weight \(24, 512, 7, 7\)"):
        create_model(ModelSettings.model_validate({**settings, "options": {"head": "paper"}}), 3, seed=2)
    with pytest.raises(WeightsError, match=r"\+ head\.fc\.weight"):
        create_model(ModelSettings.model_validate({**settings, "head": "mlp:8"}), 3, seed=2)


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "model.safetensors").touch()
    for spec, hint in (
        (f"part:{tmp_path / 'gone'}", "part:FILE"),
        (f"part:{tmp_path / 'run'}", "run/model/model.safetensors"),
    ):
        with pytest.raises(WeightsError, match="There is no file of weights") as told:
            find_source(ModelSettings(name="vgg_d", weights=spec))
        assert hint in told.value.hint


def test_a_run_that_starts_from_a_run(
    imgkit: Run, tmp_path: Path, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = make_folders({"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
    Path("short.toml").write_text(SHORT)
    common = ("--data", str(data), "--recipe", "short.toml", "--image-size", "32", "--workers", "0")
    common = (
        *common,
        "--set",
        "phases.all.epochs=1",
        "--set",
        "phases.top.steps=1",
        "--set",
        "model.options.init=paper",
    )
    assert imgkit("scratch", "vgg_a", *common, "--name", "a")[0] == 0
    file = "runs/a/model/model.safetensors"
    code, _, err = imgkit("finetune", "vgg_b", *common, "--name", "b", "--weights", f"part:{file}")
    said = " ".join(err.split())
    assert code == 0, err
    assert (
        "from file runs/a/model/model.safetensors: 7 layers, features.0, features.5, features.10, features.12," in said
    )
    assert "as they begin (init = paper): 6 layers, features.2, features.7, features.15," in said
    assert "· head for 2 classes" in said
    about = json.loads(Path("runs/b/run.json").read_text())["weights"]
    assert (about["kind"], about["detail"]) == ("part", f"file {file}")
    assert (
        load_file("runs/b/model/model.safetensors").keys()
        == timm.create_model("vgg_b", img_size=32).state_dict().keys()
    )
    assert isinstance(timm.create_model("local-dir:runs/b/model", pretrained=True), nn.Module), "it needs A no more"
