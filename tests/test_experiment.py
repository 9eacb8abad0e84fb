"""A whole training, small: what it chooses, keeps, says and refuses."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import fingerprint, short_run, write_recipe
from pictures import MakeFolders, square
from PIL import Image
from safetensors import SafetensorError

import imgkit
from imgkit import api, checkpoint, evaluations, setup
from imgkit.data.batches import Batch
from imgkit.errors import DataError, DeviceError, DiskError, DivergedError, UsageError, WeightsError
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.plan import PhasePlan
from imgkit.screen import Screen
from imgkit.shares import Shards
from imgkit.signals import hear_signals
from imgkit.trainer import Trainer, Update

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> imgkit.Run:
    """A finished run with a test split."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return short_run(tmp_path_factory.mktemp("done"), "data.test=0.2")


def test_every_epoch_is_evaluated_and_can_be_recomputed(done: imgkit.Run) -> None:
    history = done.folder.history()
    steps = [row["step"] for row in history]
    assert [row["phase"] for row in history][:1] == ["head"]
    assert {f"val@{step}" for step in steps} <= done.metrics.keys()
    for row in history:
        stored = done.metrics[f"val@{row['step']}"]
        assert all(row[f"val/{name}"] == stored[name] for name in MONITORS["single"] if name != "loss_calibrated")
        assert (row["train/top1"] is None) == row["solved"]
    assert 0 < history[-1]["train/top1"] <= history[-1]["train/topk"] <= 1
    script = [sys.executable, str(ROOT / "benchmarks" / "recompute_metrics.py")]
    for name in done.metrics:
        subprocess.run([*script, str(done.folder.path / "evaluations" / name)], check=True, capture_output=True)


def test_the_calibrated_loss_is_fitted_where_it_decides_and_at_the_end(done: imgkit.Run, tmp_path: Path) -> None:
    best = done.folder.read_json("checkpoints/best.json")["step"]
    fitted = {name for name, metrics in done.metrics.items() if "loss_calibrated" in metrics}
    assert fitted == {f"val@{best}", f"test@{best}"}
    assert not any("val/loss_calibrated" in row for row in done.folder.history())
    run = short_run(tmp_path, "monitor=val/loss_calibrated")
    assert all("loss_calibrated" in metrics for metrics in run.metrics.values())
    history = run.folder.history()
    least = min(row["val/loss_calibrated"] for row in history)
    assert run.folder.read_json("status.json")["best"]["value"] == least


def test_the_best_epoch_becomes_the_model_and_test_is_scored_once_with_it(done: imgkit.Run) -> None:
    history = done.folder.history()
    value = max(row["val/f1_macro"] for row in history)
    best = next(row["step"] for row in history if row["val/f1_macro"] == value)
    assert done.folder.read_json("checkpoints/best.json") == {"step": best}
    assert [name for name in done.metrics if name.startswith("test@")] == [f"test@{best}"]
    shutil.rmtree(done.folder.path / "evaluations" / f"val@{best}")  # else that of the training is shown
    again = done.evaluate(split="val")
    assert again["f1_macro"] == value
    assert again["loss"] == pytest.approx(next(row["val/loss"] for row in history if row["step"] == best), rel=1e-5)


def test_train_val_and_test_can_each_be_scored(done: imgkit.Run) -> None:
    sizes = done.folder.read_json("run.json")["data"]["n"]
    assert {split: done.evaluate(split=split)["n"] for split in ("train", "val", "test")} == sizes
    with pytest.raises(UsageError, match="no split 'holdout'"):
        done.evaluate(split="holdout")


def test_other_data_are_read_by_class_name(done: imgkit.Run, make_folders: MakeFolders) -> None:
    classes = done.folder.read_json("run.json")["classes"]
    metrics = done.evaluate(data=str(make_folders({classes[2]: 3, classes[1]: 2}, name="other", side_px=32)))
    assert metrics["n"] == 5
    assert metrics["classes_without_support"] == [classes[0]]
    with pytest.raises(DataError, match="unknown"):
        done.evaluate(data=str(make_folders({classes[0]: 2, "unknown": 2}, name="strange", side_px=32)))


def test_other_data_may_be_called_what_fits_no_longer_name(done: imgkit.Run, make_folders: MakeFolders) -> None:
    classes = done.folder.read_json("run.json")["classes"]
    called = "ä" * 120  # 240 bytes, of the 255 that a file system takes
    done.evaluate(data=str(make_folders({classes[2]: 3, classes[1]: 2}, name=called, side_px=32)))
    assert [name for name in done.metrics if name.startswith("ä" * 50 + "-")]


def test_predictions_keep_the_order_and_name_unreadable_files(done: imgkit.Run, tmp_path: Path) -> None:
    root = Path(done.folder.read_json("run.json")["data"]["root"])
    with (done.folder.path / "data" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:5]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG but no more")
    paths = [*(str(root / row["path"]) for row in rows), str(broken)]
    answers = list(done.predict(paths, top_k=3))
    assert [answer.path for answer in answers] == paths
    assert all(
        len(answer.top) == 3 and sum(prob for _, prob in answer.top) == pytest.approx(1) for answer in answers[:5]
    )
    assert answers[5].error
    assert not answers[5].label


def test_the_recipe_in_the_folder_repeats_the_run(done: imgkit.Run, tmp_path: Path) -> None:
    again = imgkit.finetune("test_resnet", recipe=str(done.folder.path / "recipe.toml"), out=tmp_path, name="again")
    assert fingerprint(again) == fingerprint(done)


def test_early_stop_counts_epochs_without_gain_and_still_finishes(tmp_path: Path) -> None:
    # A rate this small changes no answer, so no epoch after the first evaluation is better.
    run = short_run(tmp_path, "early_stop=3", "phases.top.lr=1e-30", "phases.all.lr=1e-30", "monitor=val/top1")
    assert [row["phase"] for row in run.folder.history()] == ["head", "top", "top", "all"], "counted over phases"
    assert run.folder.history()[-1]["epoch"] == 3, "one of the last phase's two epochs is left out"
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert (run.folder.path / "model" / "model.safetensors").is_file()


def test_a_loss_that_is_not_finite_names_step_phase_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        setup, "make_loss", lambda settings, labels: lambda logits, targets: logits.sum() * float("nan")
    )
    with pytest.raises(DivergedError, match=r"The loss is nan at step 2 of phase 'top', lr .*") as caught:
        short_run(tmp_path)
    assert "--set phases.top.lr=" in caught.value.hint
    place = tmp_path / "runs" / "run"
    assert json.loads((place / "status.json").read_text())["state"] == "failed"
    assert checkpoint.read(place / "checkpoints", 1).step == 1, "what was saved before is whole"


def test_a_full_disk_in_the_middle_is_a_warning_and_at_the_end_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(name: str) -> None:
        if name == "before mkdir":
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "reached", full)
    with pytest.raises(imgkit.ImgkitError, match="No space left on device") as caught:
        short_run(tmp_path)
    assert caught.value.exit_code == 7
    assert "Training goes on" in " ".join(capsys.readouterr().err.split())


def test_an_evaluation_that_does_not_fit_on_the_disk_costs_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file, whole = evaluations.save_file, short_run(tmp_path / "whole")

    def full(tensors: object, file: Path) -> None:
        raise SafetensorError("No space left on device")

    def full_once(tensors: object, file: Path) -> None:
        monkeypatch.setattr(evaluations, "save_file", save_file)
        full(tensors, file)

    monkeypatch.setattr(evaluations, "save_file", full_once)
    run = short_run(tmp_path / "first")
    assert "No space left on device. Training goes on." in " ".join(capsys.readouterr().err.split())
    assert fingerprint(run) == fingerprint(whole), "the epoch and its weights are kept"
    best = run.folder.read_json("checkpoints/best.json")["step"]
    assert f"val@{best}" in run.metrics, "scored again at the end where it lacks"

    monkeypatch.setattr(evaluations, "save_file", full)
    with pytest.raises(imgkit.ImgkitError, match="Cannot write the evaluation") as caught:
        short_run(tmp_path / "all")
    assert caught.value.exit_code == 7
    assert "imgkit resume" in caught.value.hint
    monkeypatch.setattr(evaluations, "save_file", save_file)
    run = imgkit.resume("run", out=tmp_path / "all" / "runs")
    assert fingerprint(run) == fingerprint(whole)
    assert run.metrics[f"val@{best}"]["f1_macro"] == whole.metrics[f"val@{best}"]["f1_macro"]


def test_fine_tuning_below_its_own_probe_says_so_and_keeps_the_probe(tmp_path: Path) -> None:
    text = StringIO()
    run = imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data="synthetic:3x16",
        out=tmp_path / "runs",
        sets=["data.split_seed=3", "phases.top.lr=3", "phases.all.lr=3", "train.ema=0", "run.workers=0"],
        screen=Screen(file=text),
    )
    said = " ".join(text.getvalue().split())
    assert "Fine-tuning ended worse than its own solved head" in said
    assert "--recipe probe" in said
    assert run.folder.read_json("checkpoints/best.json") == {"step": 1}


def test_sigterm_saves_and_resume_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = short_run(tmp_path / "whole")
    folder = tmp_path / "stopped"

    def polite(point: str) -> None:
        if point == "before prune" and checkpoint.steps(folder / "runs" / "run" / "checkpoints")[-1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", polite)
        with pytest.raises(imgkit.ImgkitError, match="everything is saved") as caught:
            short_run(folder)
    assert caught.value.exit_code == 143
    assert json.loads((folder / "runs" / "run" / "status.json").read_text())["state"] == "stopped"
    assert fingerprint(imgkit.resume("run", out=folder / "runs")) == fingerprint(whole)


def test_sigusr1_saves_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    def ask(
        self: Trainer,
        phase: PhasePlan,
        batches: Iterator[Batch],
        start: int,
        lowered: Callable[[], float],
        shards: Shards,
    ) -> Iterator[Update]:
        for update in train(self, phase, batches, start, lowered, shards):
            if update.step == 4:
                os.kill(os.getpid(), signal.SIGUSR1)
            yield update

    def note(folder: Path, found: checkpoint.Checkpoint, **options: Any) -> Path:  # noqa: ANN401
        saved.append(found.step)
        return save(folder, found, **options)

    train, save = Trainer.train, checkpoint.save
    monkeypatch.setattr(checkpoint, "save", note)
    quiet = short_run(tmp_path / "quiet", "save.every_steps=none")
    usual, saved = saved, []
    monkeypatch.setattr(Trainer, "train", ask)
    asked = short_run(tmp_path / "asked", "save.every_steps=none")
    assert sorted([*usual, 4]) == saved
    assert fingerprint(asked) == fingerprint(quiet)


@pytest.mark.parametrize("label", ["features", "solving the head", "scoring val", "scoring test"])
def test_a_signal_is_heard_between_two_batches_of_any_stage(label: str, tmp_path: Path) -> None:
    class Impatient(Screen):
        @contextmanager
        def progress(self, shown: str) -> Iterator[Callable[[int, int], None]]:
            if shown == label:
                os.kill(os.getpid(), signal.SIGTERM)
            yield lambda done, total: None

    place = tmp_path / "runs"
    with pytest.raises(imgkit.ImgkitError, match="everything is saved") as caught:
        imgkit.finetune(
            "test_resnet",
            recipe=write_recipe(tmp_path),
            data="synthetic:3x16",
            out=place,
            name="run",
            sets=["data.test=0.2", "run.workers=0"],
            screen=Impatient(quiet=True),
        )
    assert caught.value.hint == f"Go on: imgkit resume {place / 'run'}", "a run that is not in runs/ has a path"
    assert "test@" not in "".join(imgkit.open_run("run", place).metrics)
    whole = short_run(tmp_path / "whole", "data.test=0.2")
    assert fingerprint(imgkit.resume("run", out=place)) == fingerprint(whole)


def test_weights_that_could_not_be_saved_are_not_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = []

    def full_once(name: str) -> None:
        if name == "before mkdir" and not failures:
            failures.append(name)
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "reached", full_once)
    run = short_run(tmp_path, "monitor=val/top1")
    history = run.folder.history()
    assert (history[0]["step"], history[0]["best"]) == (1, False)
    assert run.folder.read_json("checkpoints/best.json")["step"] in checkpoint.steps(run.folder.path / "checkpoints")
    assert run.folder.read_json("status.json")["state"] == "finished"


def test_a_fault_after_a_checkpoint_has_its_name_changes_no_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a resume would read from the disk is what the run that goes on believes."""
    whole = short_run(tmp_path / "whole")

    def broken(name: str) -> None:
        if name == "before prune":
            raise OSError(5, os.strerror(5))

    monkeypatch.setattr(checkpoint, "reached", broken)
    run = short_run(tmp_path / "broken")
    assert "is saved, but what follows could not be done" in " ".join(capsys.readouterr().err.split())
    assert fingerprint(run) == fingerprint(whole)
    assert [row["best"] for row in run.folder.history()] == [row["best"] for row in whole.folder.history()]


def test_a_damaged_best_checkpoint_is_named_with_the_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = short_run(tmp_path / "whole")
    best = whole.folder.read_json("checkpoints/best.json")["step"]
    folder = tmp_path / "runs" / "run"
    damaged = folder / "checkpoints" / f"step-{best:08d}" / "model.safetensors"

    def damage(name: str) -> None:
        if name == "before prune" and checkpoint.steps(folder / "checkpoints")[-1] > best:
            damaged.write_bytes(b"x" * damaged.stat().st_size)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "reached", damage)
        with pytest.raises(DiskError, match=rf"step-{best:08d}: model\.safetensors is damaged") as caught:
            short_run(tmp_path)
    assert caught.value.exit_code == 7
    _, remove, again = caught.value.hint.split("\n")
    assert again == f"imgkit resume {folder}"
    subprocess.run(shlex.split(remove), check=True)  # what the hint says to type
    assert fingerprint(imgkit.resume("run", out=tmp_path / "runs")) == fingerprint(whole)


def too_much() -> None:
    torch.empty(1 << 50)


def too_much_for_python() -> None:
    bytearray(1 << 60)


@pytest.mark.parametrize("ask", [too_much, too_much_for_python])
def test_out_of_memory_on_the_cpu_advises_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(setup, "make_loss", lambda settings, labels: lambda logits, targets: ask())
        with pytest.raises(DeviceError, match="Out of memory on cpu with 4 images of 32×32 at once") as caught:
            short_run(tmp_path / "step")
    assert caught.value.exit_code == 5
    assert caught.value.hint.startswith("Add --micro-batch 2:")
    assert (
        json.loads((tmp_path / "step" / "runs" / "run" / "status.json").read_text())["reason"] == caught.value.message
    )
    with monkeypatch.context() as patch:
        patch.setattr("imgkit.head.solve_head", lambda *_, **__: ask())
        with pytest.raises(DeviceError, match="Out of memory on cpu while the head was solved") as caught:
            short_run(tmp_path / "solve")
    assert "phases.head.solver=sgd" in caught.value.hint
    monkeypatch.setattr("imgkit.scoring.EvalReader.batches", lambda *_, **__: (ask() for _ in range(1)))
    with pytest.raises(DeviceError, match="Out of memory on cpu while 32 images at a time were scored"):
        short_run(tmp_path / "score")


def stop_before_the_first_checkpoint(tmp_path: Path, point: str) -> None:
    def stop(name: str) -> None:
        if name == point:
            raise imgkit.ImgkitError("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", stop)
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(tmp_path)


def test_a_run_killed_before_its_first_checkpoint_logs_no_step_twice(tmp_path: Path) -> None:
    stop_before_the_first_checkpoint(tmp_path, "before mkdir")
    run = imgkit.resume("run", out=tmp_path / "runs")
    steps = [row["step"] for row in run.folder.rows("steps.jsonl")]
    assert steps == sorted(set(steps))


def test_resume_refuses_an_index_that_was_edited(tmp_path: Path) -> None:
    stop_before_the_first_checkpoint(tmp_path, "before prune")
    file = tmp_path / "runs" / "run" / "data" / "index.csv"
    file.write_text(file.read_text().replace("class-0,train", "class-1,train", 1))
    with pytest.raises(DataError, match=r"index\.csv is not the data that the checkpoint was trained on"):
        imgkit.resume("run", out=tmp_path / "runs")


def test_resume_says_which_versions_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop_before_the_first_checkpoint(tmp_path, "before prune")
    folder = imgkit.open_run("run", tmp_path / "runs").folder
    about = folder.read_json("run.json")
    folder.write_json("run.json", about | {"versions": about["versions"] | {"timm": "0.1"}})
    imgkit.resume("run", out=tmp_path / "runs")
    assert "not bit-identical to one without a stop: timm 0.1 is now" in " ".join(capsys.readouterr().err.split())


def test_resume_says_that_the_machine_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_before_the_first_checkpoint(tmp_path, "before prune")
    here = imgkit.open_run("run", tmp_path / "runs").folder.read_json("run.json")["machine"]
    monkeypatch.setattr("imgkit.device.processor", lambda: "Another Processor")
    imgkit.resume("run", out=tmp_path / "runs")
    said = " ".join(capsys.readouterr().err.split())
    assert f"not bit-identical to one without a stop: machine {here} is now CPU, 1 thread (Another Processor" in said


def test_the_model_says_which_step_it_is_from(tmp_path: Path) -> None:
    run = short_run(tmp_path)
    step = run.folder.read_json("checkpoints/best.json")["step"]
    # As after a kill between the last checkpoint and best.json.
    run.folder.write_json("checkpoints/best.json", {"step": 0})
    run.folder.set_status("running", step=step, total_steps=step)
    assert run.evaluate(split="train")["step"] == step
    run = imgkit.resume("run", out=tmp_path / "runs")
    assert run.folder.read_json("checkpoints/best.json") == {"step": step}


def test_a_run_from_a_table_can_be_scored_on_a_folder(tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"a": 12, "b": 12}, side_px=32)
    rows = "".join(f"{file.relative_to(data)};{file.parent.name}\n" for file in sorted(data.rglob("*.png")))
    (data / "table.csv").write_text(f"foto;kind\n{rows}")
    run = short_run(tmp_path, "data.image_col=foto", "data.label_col=kind", data=str(data / "table.csv"))
    text = StringIO()
    assert run.evaluate(data=str(data), screen=Screen(file=text))["n"] == 24
    assert "PNG 24" in text.getvalue(), "what was found is said"


def test_resume_refuses_data_that_changed(tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"a": 12, "b": 12}, side_px=32)

    def stop(point: str) -> None:
        if point == "before prune":
            raise imgkit.ImgkitError("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", stop)
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(tmp_path, data=str(data))
    next((data / "a").iterdir()).write_bytes(b"other")
    with pytest.raises(DataError, match="the data changed since the run began"):
        imgkit.resume("run", out=tmp_path / "runs")


def test_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    from imgkit.api import show_plan

    text = StringIO()
    show_plan(
        "finetune",
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data="synthetic:3x16",
        out=tmp_path / "runs",
        screen=Screen(file=text),
    )
    said = text.getvalue()
    assert "lr 0.001" in said
    assert "class class-0" in said
    assert "augmentation: none" in said  # of the solved phase
    assert "augmentation: crop [0.5, 1.0] · hflip 0.5 · jitter [0.2, 0.2, 0.2, 0.1] · jitter_p 0.5" in " ".join(
        said.split()
    )
    assert "fit crop" in said
    assert not (tmp_path / "runs").exists()


def test_one_rule_of_fit_for_training_model_and_prediction(tmp_path: Path) -> None:
    run = short_run(tmp_path, "model.fit=letterbox", "phases.all.epochs=1", "phases.top.steps=1")
    rules = run.folder.read_json("run.json")["preprocessing"], run.folder.read_json("model/preprocessing.json")
    assert rules[0] == rules[1]
    assert (rules[0]["fit"], rules[0]["crop_pct"]) == ("letterbox", 1.0)
    assert run.folder.read_json("model/config.json")["pretrained_cfg"]["crop_mode"] == "border"
    wide = tmp_path / "wide.png"
    Image.new("RGB", (90, 30), (200, 0, 0)).save(wide)
    (answer,) = run.predict([wide])
    assert not answer.error


def test_greys_are_read_in_training_evaluation_and_prediction(tmp_path: Path) -> None:
    run = short_run(tmp_path, "model.in_chans=1", "phases.all.epochs=1", "phases.top.steps=1")
    assert "32×32 of greys" in (run.folder.path / "log.txt").read_text()
    rules = run.folder.read_json("run.json")["preprocessing"], run.folder.read_json("model/preprocessing.json")
    assert rules[0] == rules[1]
    assert len(rules[0]["mean"]) == len(rules[0]["std"]) == 1
    assert run.folder.read_json("model/config.json")["pretrained_cfg"]["input_size"] == [1, 32, 32]
    picture = square(4, side_px=40, code=1)
    picture.save(tmp_path / "colours.png")
    picture.convert("L").save(tmp_path / "greys.png")
    first, second = run.predict([tmp_path / "colours.png", tmp_path / "greys.png"])
    assert first.top == second.top
    assert run.evaluate(split="train")["n"] == len(run.folder.read_json("run.json")["classes"]) * 13
    out = tmp_path / "sheet.png"
    api.preview("test_resnet", data="synthetic:3x8", rows=2, sets=["model.in_chans=1", "model.image_size=32"], out=out)
    with Image.open(out) as sheet:
        assert np.ptp(np.asarray(sheet), axis=2).max() == 0


def test_pictures_that_the_crop_cuts_are_warned_of(tmp_path: Path) -> None:
    from imgkit.api import show_plan

    for number in range(24):
        (tmp_path / "data" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 60), (9 * number, 0, 0)).save(tmp_path / "data" / str(number % 2) / f"{number}.png")
    for fit, warned in (("crop", True), ("letterbox", False)):
        text, recipe = StringIO(), write_recipe(tmp_path)
        show_plan("finetune", "test_resnet", recipe=recipe, data=tmp_path / "data", fit=fit, screen=Screen(file=text))
        assert ("warning: The crop to a square cuts 50% off the median image" in text.getvalue()) == warned


def test_one_image_a_class_cannot_be_split(tmp_path: Path, make_folders: MakeFolders) -> None:
    with pytest.raises(DataError, match="no validation split") as caught:
        short_run(tmp_path, data=str(make_folders({"cat": 1, "dog": 1})))
    assert "two images at least" in caught.value.hint
    with pytest.raises(DataError, match="no validation split") as caught:
        short_run(tmp_path, "data.val=0", data=str(make_folders({"cat": 4, "dog": 4}, name="more")))
    assert caught.value.hint == "Give a share:  --val 0.2"


def test_a_test_split_that_was_never_made(tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1")
    with pytest.raises(UsageError, match="no split 'test'") as caught:
        run.evaluate(split="test")
    assert "--set data.test=0.2" in caught.value.hint
    assert run.folder.read_json("run.json")["data"]["where"] == "synthetic:3x16"


def test_a_finished_run_without_its_model_folder_writes_it_again(tmp_path: Path) -> None:
    run = short_run(tmp_path)
    file = run.folder.path / "model" / "model.safetensors"
    before = file.read_bytes()
    file.unlink()
    with pytest.raises(UsageError, match="has no finished model yet"):
        run.evaluate()
    again = imgkit.resume("run", out=tmp_path / "runs")
    assert file.read_bytes() == before
    assert again.metrics == run.metrics
    assert run.folder.read_json("status.json")["state"] == "finished"


def test_what_to_type_next_names_the_run_unless_it_is_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        short_run(Path(), name=name)
        (Path("runs") / name / "model" / "config.json").unlink()
    for name, said in (("one", "imgkit predict one PHOTOS/"), ("two", "imgkit predict latest PHOTOS/")):
        text = StringIO()
        imgkit.resume(name, screen=Screen(file=text))
        assert said in text.getvalue()


def test_a_dry_run_goes_without_weights_that_cannot_be_had(tmp_path: Path) -> None:
    text = StringIO()
    api.show_plan("finetune", "resnet18", recipe="probe", data="synthetic:2x4", screen=Screen(file=text, width=1000))
    assert "warning: Cannot get the pretrained weights of resnet18" in text.getvalue()
    assert "The plan is made without them; a training would stop here.\n" in text.getvalue()
    assert "Plan    head: train head, solved" in text.getvalue()
    (tmp_path / "model.safetensors").touch()
    text, options = StringIO(), {"recipe": "probe", "data": "synthetic:2x4", "weights": str(tmp_path)}
    with pytest.raises(WeightsError, match="There is no file of weights") as stopped:
        imgkit.finetune("resnet18", out=tmp_path / "runs", **options)
    api.show_plan("finetune", "resnet18", screen=Screen(file=text, width=1000), **options)
    assert f"         {stopped.value.hint}\n" in text.getvalue(), "what to type is told as a training tells it"
    assert stopped.value.hint == f"It is a folder; write its file:  {tmp_path / 'model.safetensors'}"


def test_signals_that_were_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with hear_signals() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.stop == signal.SIGTERM
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with hear_signals() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.stop == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("minutes", "every"), [("1e-9", True), ("15", False)])
def test_a_checkpoint_comes_when_the_minutes_are_over(tmp_path: Path, minutes: str, every: bool) -> None:
    sets = ("save.every_steps=none", f"save.every_minutes={minutes}", "save.keep=all")
    run = short_run(tmp_path, *sets)
    saved = checkpoint.steps(run.folder.path / "checkpoints")
    ends = [row["step"] for row in run.folder.history()]
    assert saved == (list(range(1, ends[-1] + 1)) if every else ends)
