"""imgkit's own networks through whole runs: trained with options, stopped, resumed, scored, asked, loaded elsewhere."""

import json
import os
import signal
from pathlib import Path

import pytest
import timm
import torch
from cli_run import Run
from oracle import SHORT, fingerprint, write_recipe
from pictures import MakeFolders
from safetensors.torch import save_file
from timm.models.vgg import VGG, cfgs

import imgkit
from imgkit import checkpoint
from imgkit.models.networks import lsvrc, vgg

pytest_plugins = ["cli_fixture"]

OPTIONS = """
[model.options]
widths = [6, 8, 8]
kernels = [3, 3, 1]
pools = [2, 2, 0]
fc = [16]
"""


def small_run(folder: Path) -> imgkit.Run:
    folder.mkdir()
    return imgkit.finetune(
        "multilabel_cnn",
        recipe=write_recipe(folder, SHORT.replace("[train]", f"{OPTIONS}\n[train]")),
        data="synthetic:3x16",
        out=folder / "runs",
        name="run",
        sets=["run.workers=0", "model.options.fc=[12]"],
    )


def test_a_run_with_options_is_resumed_scored_and_asked(tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole")

    def polite(point: str) -> None:
        if point == "before prune" and checkpoint.steps(tmp_path / "stopped/runs/run/checkpoints")[-1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", polite)
        with pytest.raises(imgkit.ImgkitError, match="everything is saved"):
            small_run(tmp_path / "stopped")
    run = imgkit.resume("run", out=tmp_path / "stopped" / "runs")
    assert fingerprint(run) == fingerprint(whole)
    assert "fc = [12]" in (run.folder.path / "recipe.toml").read_text()
    arguments = json.loads((run.folder.path / "model" / "config.json").read_text())["model_args"]
    assert (arguments["widths"], arguments["fc"]) == ([6, 8, 8], [12])
    assert 0 <= run.evaluate(data="synthetic:3x4")["top1"] <= 1
    assert next(run.predict(next(Path(run.folder.read_json("run.json")["data"]["root"]).rglob("*.png")))).label


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully connected layers of VGG that cost nothing."""
    heads = {"paper": vgg.Head(7, (24, 16), pooled=False), "compact": vgg.Head(2, (24, 16))}
    monkeypatch.setattr(vgg, "HEADS", heads)
    monkeypatch.setattr(lsvrc, "POOLED_5X5", vgg.Head(5, (24, 16)))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", ["vgg11_compact", "vgg_a"])
def test_a_new_head_is_trained_on_a_frozen_trunk_from_a_file(
    name: str, imgkit: Run, tmp_path: Path, make_folders: MakeFolders
) -> None:
    state = {key: torch.rand_like(value) / 99 for key, value in VGG(cfgs["vgg11"], mlp_ratio=0.01).state_dict().items()}
    save_file(state, tmp_path / "vgg11.safetensors")
    data = make_folders({"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
    given = ("--data", str(data), "--weights", str(tmp_path / "vgg11.safetensors"), "--image-size", "32")
    kept = ("--out", str(tmp_path / "runs"), "--name", "run", "--recipe", "probe", "--batch-size", "4")
    sets = ("run.workers=0", "phases.head.solver=sgd", "phases.head.lr=1e-2", "phases.head.epochs=1")
    code, _, err = imgkit("finetune", name, *given, *kept, *(word for one in sets for word in ("--set", one)))
    assert code == 0, err
    said = "so the head reads 2×2 (head = compact)" in " ".join(err.split())
    assert said == (name == "vgg_a")

    folder = tmp_path / "runs" / "run" / "model"
    trained = timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trained.items() if key.startswith("features."))
    assert {key.rpartition(".")[0] for key in trained if not key.startswith("features.")} == {
        *("pre_logits.fc1", "pre_logits.fc2", "head.fc")
    }


@pytest.mark.usefixtures("narrow")
def test_a_solve_under_three_new_layers_is_said(imgkit: Run, tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
    given = ("--weights", "none", "--image-size", "32", "--recipe", "probe", "--set", "run.workers=0")
    code, _, err = imgkit("finetune", "vgg11_compact", "--data", str(data), *given, "--dry-run")
    assert code == 0, err
    assert (
        "note: phase 'head': only the last layer is solved, on what pre_logits.fc1 and pre_logits.fc2 make of the "
        "features, which are new too. To train all of the head: --set phases.head.solver=sgd --set phases.head.lr=1e-3 "
        "--set phases.head.epochs=2"
    ) in " ".join(err.split())


def test_names_and_options_are_told_on_the_command_line(imgkit: Run, tmp_path: Path) -> None:
    code, out, _ = imgkit("models", "vgg_c_b")
    assert (code, out.splitlines()[1].split()) == (0, ["vgg_c_bn", "133.6", "M", "509.8", "224×224", "no", "weights"])
    code, _, err = imgkit("scratch", "lsvrc_residul", "--data", "digits")
    assert (code, "Did you mean lsvrc_residual?" in " ".join(err.split())) == (2, True)
    code, _, err = imgkit("scratch", "multilabel_cnn", "--data", "digits", "--set", "model.options.kernel=[3]")
    assert code == 2
    assert "does not take the option 'kernel' (model.options.kernel) (did you mean 'kernels'?)" in " ".join(err.split())


@pytest.mark.usefixtures("narrow")
def test_the_plan_of_a_solve_counts_the_last_layer_alone(imgkit: Run) -> None:
    plan = ("--data", "synthetic:3x16", "--image-size", "32", "--dry-run")
    code, _, err = imgkit("scratch", "vgg_a", *plan, "--recipe", "probe")
    assert code == 0
    assert "trains head: 51 of " in " ".join(err.split()), "16 features and a bias for each of 3 classes"
