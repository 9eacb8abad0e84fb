"""The three commands of the README, typed literally by a new user, in a folder with ./data and without network."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from pictures import MakeFolders, TreeHash
from safetensors.torch import save_file

RECOMPUTE = Path(__file__).parents[1] / "benchmarks" / "recompute_metrics.py"


def type_in(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `imgkit WORDS` in `folder` as a process of its own."""
    command = [sys.executable, "-m", "imgkit", *words]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def plant_weights(home: Path) -> None:
    """A hub cache that holds resnet50's default weights, as a download leaves it (the numbers are random)."""
    place = home / "hub" / "models--timm--resnet50.a1_in1k"
    snapshot = place / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    save_file(timm.create_model("resnet50").state_dict(), snapshot / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_finetune_resnet50_classes_100_and_report(
    tmp_path: Path, make_folders: MakeFolders, tree_hash: TreeHash
) -> None:
    data = make_folders({f"class_{number:03d}": 2 for number in range(100)}, name="data", side_px=32)
    before = tree_hash(data)
    plant_weights(tmp_path / "hf")
    done = type_in(tmp_path, "finetune", "resnet50", "--classes", "100", IMGKIT_SMOKE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    assert "data/ (the default, since neither" in done.stderr, "it says which data it used"
    assert "100 classes" in done.stderr
    assert "resnet50.a1_in1k" in done.stderr
    assert tree_hash(data) == before, "the user's data are never written"

    (run,) = (tmp_path / "runs").glob("*-finetune-resnet50-*")
    assert json.loads((run / "run.json").read_text())["parameters"] == 23_508_032 + 2049 * 100
    evaluation = next(run.glob("evaluations/val@*"))
    subprocess.run([sys.executable, str(RECOMPUTE), str(evaluation)], check=True, capture_output=True)

    done = type_in(tmp_path, "report", "runs/")
    assert done.returncode == 0, done.stderr
    assert run.name[:20] in done.stdout, "80 columns wrap the rest"
    assert "resnet50" in (tmp_path / "runs" / "report.md").read_text()
    with (tmp_path / "runs" / "leaderboard.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["run"] == run.name


def test_the_plan_of_scratch_vgg19(tmp_path: Path, make_folders: MakeFolders) -> None:
    make_folders({"a": 4, "b": 4}, name="data", side_px=32)
    done = type_in(tmp_path, "scratch", "vgg19", "--dry-run", IMGKIT_SMOKE="1")
    assert done.returncode == 0, done.stderr
    assert "vgg19.tv_in1k · 139.58 M parameters · 224×224" in " ".join(done.stderr.split())
    assert "random weights · new head for 2 classes" in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow  # most of a minute goes into 1.7 GB of weights and moments, of which the plan needs none
@pytest.mark.timeout(900)
def test_scratch_vgg19(tmp_path: Path, make_folders: MakeFolders) -> None:
    make_folders({"a": 4, "b": 4}, name="data", side_px=32)
    done = type_in(tmp_path, "scratch", "vgg19", IMGKIT_SMOKE="1")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").glob("*-scratch-vgg19-*")
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert json.loads((run / "run.json").read_text())["weights"]["kind"] == "none"


def test_wrong_number_of_classes_stops_before_training(tmp_path: Path, make_folders: MakeFolders) -> None:
    make_folders({"a": 4, "b": 4}, name="data")
    plant_weights(tmp_path / "hf")
    done = type_in(tmp_path, "finetune", "resnet50", "--classes", "100", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 3
    assert "--classes 100" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
