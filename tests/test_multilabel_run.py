"""A multi-label task from a CSV with many empty sets to scores, predictions and a report."""

import csv
import importlib.util
import io
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from multilabel_data import LABELS, write_patches
from oracle import fingerprint, short_run, write_recipe
from rich.console import Console

import imgkit
from imgkit.calibration import Calibration, calibrate
from imgkit.cli.look import print_metrics
from imgkit.evaluate import read_index
from imgkit.evaluations import read_logits
from imgkit.finish import calibration_lines
from imgkit.models.folder import load_model_folder
from imgkit.report.collect import collect
from imgkit.report.leaderboard import csv_text, markdown
from imgkit.report.table import print_run, print_runs
from imgkit.screen import Screen

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sets")
    write_patches(folder / "data", n=200)
    return folder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def said(place: Path) -> str:
    """What a run says from the first line to the last."""
    text = io.StringIO()
    imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(place),
        data=place / "data" / "patches.csv",
        out=place / "runs",
        name="run",
        sets=["data.label_delimiter=;", "run.workers=0", "phases.all.lr=3e-3", "phases.head.views=1"],
        screen=Screen(file=text, width=200),
    )
    return text.getvalue()


@pytest.fixture(scope="module")
def run(place: Path, said: str) -> imgkit.Run:
    return imgkit.open_run("run", place / "runs")


def test_the_screens_speak_of_sets(said: str, run: imgkit.Run) -> None:
    epoch = next(line for line in said.splitlines() if line.startswith("Epoch 1: "))
    assert {"val/loss", "val/map", "val/f1_macro"} <= {word.partition("=")[0] for word in epoch.split()}
    table = Terminal()
    Screen(file=table, width=100, color=False).epoch(run.folder.history()[-1], left_s=1.0)
    head = next(line for line in table.getvalue().splitlines() if line.startswith(" epoch"))
    assert head.split() == ["epoch", "train", "loss", "val", "loss", "mAP", "macro", "F1", "img/s", "time", "left"]
    test = next(line for line in said.splitlines() if line.startswith("  test"))
    assert "  test    mAP " in test
    assert " · exact sets " in test
    assert "always answering no label gives" in test
    assert "Calibrated by temperature" in said
    assert "% before, " in said
    assert "Thresholds of the labels stay 0.5: on val no other has more F1 than chance gives" in said


def test_thresholds_are_told_from_the_lowest_to_the_highest(run: imgkit.Run) -> None:
    test = next(one for name, one in run.metrics.items() if name.startswith("test@"))

    def told(**values: object) -> str:
        return "\n".join(calibration_lines({"test": test | {"calibration": test["calibration"] | values}}))

    assert "Thresholds of the labels, by F1 on val: 0.20 to 0.50" in told(thresholds={"a": 0.5, "b": 0.2})
    assert "Thresholds of the labels, by F1 on val: 0.30" in told(thresholds={"a": 0.3})
    assert "Thresholds" not in told(n=29)
    assert "Thresholds" not in told(thresholds=None)


def test_only_the_best_is_calibrated_and_on_val(run: imgkit.Run) -> None:
    best = run.folder.read_json("status.json")["best"]["step"]
    found = run.metrics
    assert {name for name, one in found.items() if "calibration" in one} == {f"val@{best}", f"test@{best}"}
    for row in run.folder.history():
        one = found[f"val@{row['step']}"]
        plain = one["uncalibrated"] if row["step"] == best else one
        assert row["val/loss"] == pytest.approx(plain["loss"], rel=1e-6)
        assert row["val/map"] == pytest.approx(one["map"]), "a temperature ranks the same"
        if row["step"] != best:
            assert set(one["thresholds"].values()) == {0.5}
    loaded = load_model_folder(run.folder.path / "model")
    assert loaded.task == loaded.config["imgkit"]["task"] == run.folder.read_json("run.json")["task"] == "multilabel"
    assert found[f"test@{best}"]["calibration"] == loaded.calibration.to_dict()
    logits = read_logits(run.folder.path / "evaluations" / f"val@{best}")
    targets = targets_of(run, "val")
    assert logits is not None
    assert loaded.calibration == calibrate(logits, targets, LABELS)
    assert loaded.calibration.temperature != 1.0
    assert found[f"val@{best}"]["f1_macro"] >= found[f"val@{best}"]["uncalibrated"]["f1_macro"]


@pytest.fixture(scope="module")
def moved(run: imgkit.Run) -> imgkit.Run:
    """The same run with thresholds of its own."""
    folder = run.folder.path.parent.with_name("moved") / "run"
    shutil.copytree(run.folder.path, folder)
    file = folder / "model" / "calibration.json"
    thresholds = dict(zip(LABELS, (0.2, 0.7, 0.5), strict=True))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"thresholds": thresholds}))
    return imgkit.open_run("run", folder.parent)


def targets_of(run: imgkit.Run, split: str) -> npt.NDArray[np.float32]:
    index = read_index(run.folder, run.folder.read_json("run.json"))
    return index.select(index.rows(split)).multi_hot()


def test_it_learns(run: imgkit.Run) -> None:
    """Patches of three colours are easy: far above what guessing gives."""
    test = next(one for name, one in run.metrics.items() if name.startswith("test@"))
    assert test["empty"] > 0.3
    assert test["map"] > 2 * test["chance"]["map"]
    assert test["subset_accuracy"] > test["chance"]["subset_accuracy"]


def test_every_number_is_computed_again(run: imgkit.Run, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("recompute", ROOT / "benchmarks" / "recompute_metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for folder in (run.folder.path / "evaluations").iterdir():
        assert module.main([str(folder)]) == 0, capsys.readouterr().out


def test_evaluate_uses_the_calibration(moved: imgkit.Run, place: Path) -> None:
    calibration = json.loads((moved.folder.path / "model" / "calibration.json").read_text())
    for found in (moved.evaluate(split="train"), moved.evaluate(data=place / "data" / "patches.csv")):
        assert found["calibration"] == calibration
        assert found["thresholds"] == calibration["thresholds"]
        text = io.StringIO()
        print_metrics(found, Screen(file=text, width=120))
        for words in (
            "3 labels",
            "mAP",
            "Macro F1",
            "Exact sets",
            "Cal. error",
            "without the temperature",
            "answered from",
        ):
            assert words in text.getvalue()


def test_predict_answers_sets(moved: imgkit.Run, place: Path) -> None:
    calibration = Calibration.from_dict(json.loads((moved.folder.path / "model" / "calibration.json").read_text()))
    assert calibration.thresholds is not None
    answers = {Path(one.path).name: one for one in moved.predict(place / "data", top_k=2, precision="float32")}
    assert len(answers) == 200
    best = moved.folder.read_json("status.json")["best"]["step"]
    with (moved.folder.path / "evaluations" / f"test@{best}" / "predictions.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            one = answers[row["path"]]
            assert one.probs == pytest.approx([float(row[f"p:{name}"]) for name in LABELS], abs=1e-4)
            assert len(one.top) == 2
            assert set(one.labels) == {
                name for name, prob in zip(LABELS, one.probs, strict=True) if prob >= calibration.thresholds[name]
            }
    assert {one.labels for one in answers.values()} > {()}


def test_reports_keep_tasks_apart(run: imgkit.Run, place: Path) -> None:
    short_run(place, name="single")
    found = collect(place / "runs")
    text = markdown(found)
    assert ", multi-label)" in text
    titles = [line for line in text.splitlines() if line.startswith("| rank")]
    assert sorted("mAP | exact sets" in line for line in titles) == [False, True]
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(csv_text(found)))}
    assert [rows[name]["rank"] for name in ("run", "single")] == ["1", "1"]
    assert [rows[name]["task"] for name in ("run", "single")] == ["multilabel", "single"]
    assert (rows["run"]["top1"], rows["single"]["map"]) == ("", "")
    console = Console(file=io.StringIO(), width=200)
    print_runs(found, console)
    assert isinstance(console.file, io.StringIO)
    assert "mAP" in console.file.getvalue()
    one = io.StringIO()
    print_run(run.folder, Screen(file=one, width=200))
    assert "mAP" in one.getvalue()


def test_a_lost_model_is_made_again_to_the_same_bytes(run: imgkit.Run, place: Path) -> None:
    before = {file.name: file.read_bytes() for file in (run.folder.path / "model").iterdir()}
    metrics, bits = run.metrics, fingerprint(run)
    (run.folder.path / "model" / "calibration.json").unlink()
    again = imgkit.resume("run", out=place / "runs")
    assert {file.name: file.read_bytes() for file in (run.folder.path / "model").iterdir()} == before
    assert (again.metrics, fingerprint(again)) == (metrics, bits)
    best = run.folder.read_json("status.json")["best"]["step"]
    for name in (f"val@{best}", f"test@{best}"):  # without stored logits the pictures are scored again
        shutil.rmtree(run.folder.path / "evaluations" / name)
    shutil.rmtree(run.folder.path / "model")
    again = imgkit.resume("run", out=place / "runs")
    assert {file.name: file.read_bytes() for file in (run.folder.path / "model").iterdir()} == before
    assert again.metrics == metrics


def test_a_tiny_validation_fits_nothing_and_says_so(place: Path, tmp_path: Path) -> None:
    data, text = write_patches(tmp_path / "data", n=60), io.StringIO()
    found = imgkit.finetune(
        "test_resnet",
        recipe="probe",
        data=data,
        out=tmp_path / "runs",
        sets=["data.label_delimiter=;", "model.weights=none", "model.image_size=32", "run.workers=0"],
        screen=Screen(file=text, width=300),
    )
    assert "Not calibrated: the temperature stays 1: 12 images are too few to fit it (fewer than 30)" in text.getvalue()
    calibration = json.loads((found.folder.path / "model" / "calibration.json").read_text())
    assert (calibration["temperature"], set(calibration["thresholds"].values())) == (1.0, {0.5})
