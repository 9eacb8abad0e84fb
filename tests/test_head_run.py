"""Whole runs under heads of several layers and of a network with gates: stopped, resumed, scored, asked."""

import os
import signal
from pathlib import Path

import pytest
import torch
from cli_run import Run as Command
from oracle import fingerprint, short_run
from pictures import MakeFolders

import imgkit
from imgkit import Run, checkpoint
from imgkit.models.folder import load_model_folder

pytest_plugins = ["cli_fixture"]

BY_SGD = ("phases.head.solver=sgd", "phases.head.lr=1e-2", "phases.head.steps=2")


def run_under(folder: Path, head: str) -> Run:
    return short_run(folder, *BY_SGD, f"model.head={head}", "model.drop_rate=0.2", "phases.all.epochs=1")


@pytest.mark.parametrize("head", ["mlp:12:relu", "pool2-mlp:9,7"])
def test_a_run_is_resumed_scored_and_asked(head: str, tmp_path: Path) -> None:
    whole = run_under(tmp_path / "whole", head)

    def polite(point: str) -> None:
        if point == "before prune" and checkpoint.steps(tmp_path / "stopped/runs/run/checkpoints")[-1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", polite)
        with pytest.raises(imgkit.ImgkitError, match="everything is saved"):
            run_under(tmp_path / "stopped", head)
    run = imgkit.resume("run", out=tmp_path / "stopped" / "runs")
    assert fingerprint(run) == fingerprint(whole)
    loaded = load_model_folder(run.folder.path / "model")
    assert loaded.config["imgkit"]["head"] == head
    assert "fc.fc2.weight" in loaded.model.state_dict()
    assert 0 <= run.evaluate(data="synthetic:3x4")["top1"] <= 1
    place = Path(run.folder.read_json("run.json")["data"]["root"])
    assert next(run.predict(next(place.rglob("*.png")))).label.startswith("class-")
    # The next training takes the trunk, under another head.
    file = run.folder.path / "model" / "model.safetensors"
    again = short_run(tmp_path / "again", f"model.weights={file}", "phases.all.epochs=1")
    assert again.folder.read_json("run.json")["weights"]["kind"] == "file"


def test_a_phase_on_features_asks_for_no_room_for_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr("imgkit.prepare.check_memory", lambda *given: tried.append(given[3]))
    short_run(tmp_path / "both", *BY_SGD, "phases.head.batch_size=16", "phases.head.views=2")
    assert set(tried) == {8}, "of the other phases alone"


def test_the_whole_head_trains_alone_and_the_last_layer_is_not_solved(
    imgkit: Command, tmp_path: Path, make_folders: MakeFolders
) -> None:
    data = make_folders({"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
    given = ["finetune", "test_resnet", "--data", str(data), "--weights", "none", "--image-size", "32"]
    given += ["--recipe", "probe", "--head", "mlp:12:relu", "--out", str(tmp_path / "runs"), "--name", "run"]
    code, _, err = imgkit(*given)
    assert code == 2
    said = " ".join(err.split())
    assert "phase 'head' is solved, which gives one linear layer; train it by gradients: --set" in said
    told = said.partition("train it by gradients: ")[2].split()
    code, _, err = imgkit(*given, *told, "--set", "run.workers=0", "--batch-size", "4")
    assert code == 0, err
    said = " ".join(err.split())
    assert "new head mlp:12:relu for 2 classes" in said
    assert "(imgkit loads it; plain timm has no such head)" in said
    state = load_model_folder(tmp_path / "runs" / "run" / "model").model.state_dict()
    assert state["fc.fc1.weight"].shape[0] == 12


def test_a_network_that_solves_no_head_says_so_before_training(tmp_path: Path) -> None:
    with pytest.raises(imgkit.ImgkitError, match="MlpResNet has a head of several layers; only a single linear head"):
        imgkit.finetune(
            "resnet50_mlp1000", recipe="probe", data="synthetic:2x8", weights="none", image_size=32,
            out=tmp_path / "runs",
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_gates_are_said_to_be_new_over_plain_weights(
    imgkit: Command, tmp_path: Path, make_folders: MakeFolders
) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet18", num_classes=4).state_dict(), tmp_path / "w.safetensors")
    data = make_folders({"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
    code, _, err = imgkit(
        *("finetune", "cbam_resnet18", "--data", str(data), "--weights", str(tmp_path / "w.safetensors")),
        *("--image-size", "32", "--recipe", "probe", "--out", str(tmp_path / "runs"), "--name", "run"),
        *("--set", "model.options.identity=true", "--set", "model.options.placement=stages", "--set", "run.workers=0"),
    )
    assert code == 0, err
    said = " ".join(err.split())
    gates = sum(2 * c * (c // 128) for c in (64, 128, 256, 512)) + 4 * 10
    assert f"{gates:,} parameters that the weights lack are new besides the head" in said
    assert "(parameters and buffers, float32): within 100MB (the network's own)" in said
    assert "(timm loads it once imgkit.models is imported)" in said
    folder = tmp_path / "runs" / "run"
    loaded = load_model_folder(folder / "model").model
    assert float(loaded.get_parameter("layer1.gate.spatial.weight").detach().abs().max()) == 0.0, "a solve leaves gates"
    assert torch.isfinite(loaded.fc.weight).all()
