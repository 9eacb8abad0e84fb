"""A run goes on with the weights and images that it began with; and it begins as a whole or not at all."""

import hashlib
import os
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from oracle import fingerprint, short_run, write_recipe
from pictures import MakeFolders, square

import imgkit
from imgkit import api, evaluate, experiment
from imgkit.data import scan
from imgkit.data.index import Index
from imgkit.data.load import load_data
from imgkit.errors import DataError, DeviceError, DiskError, UsageError, WeightsError
from imgkit.evaluate import check_files
from imgkit.prepare import begin, prepare, reopen
from imgkit.recipe.load import Flag, load_recipe
from imgkit.recipe.losses import Bce
from imgkit.recipe.schema import DataSettings
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.setup import Setup, plan_lines

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def stop_in_the_solve(folder: Path, *sets: str, data: str = "synthetic:3x16") -> None:
    """A run that ends before its first checkpoint."""

    def stop(*_: object) -> None:
        raise imgkit.ImgkitError("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "solve_phase", stop)
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(folder, *sets, data=data)
    assert not list((folder / "runs" / "run" / "checkpoints").iterdir())


def write_weights(file: Path, seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(timm.create_model("test_resnet").state_dict(), file)


def test_other_weights_than_at_the_start_are_refused_before_the_first_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    write_weights(file, 0)
    mine = file.read_bytes()
    short = [hashlib.sha256(mine).hexdigest()[:12]]
    stop_in_the_solve(tmp_path, f"model.weights={file}")
    write_weights(file, 1)
    short.append(hashlib.sha256(file.read_bytes()).hexdigest()[:12])
    with pytest.raises(WeightsError) as caught:
        imgkit.resume("run", out=tmp_path / "runs")
    assert caught.value.message == f"{file} is not what the run began with: SHA-256 {short[1]}, not {short[0]}."
    assert caught.value.hint == "Put the file back as it was, or start a new run."
    file.write_bytes(mine)
    done = imgkit.resume("run", out=tmp_path / "runs")
    assert done.folder.read_json("run.json")["weights"]["sha256"] == hashlib.sha256(mine).hexdigest()
    assert fingerprint(done) == fingerprint(short_run(tmp_path, f"model.weights={file}", name="whole"))


def test_weights_do_not_matter_once_there_is_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    write_weights(file, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "finish", lambda *_: (_ for _ in ()).throw(imgkit.ImgkitError("stop")))
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(tmp_path, f"model.weights={file}")
    file.unlink()
    assert imgkit.resume("run", out=tmp_path / "runs").folder.read_json("status.json")["state"] == "finished"


def test_random_weights_have_no_digest_and_go_on(tmp_path: Path) -> None:
    stop_in_the_solve(tmp_path)
    done = imgkit.resume("run", out=tmp_path / "runs")
    assert done.folder.read_json("run.json")["weights"]["sha256"] is None
    assert fingerprint(done) == fingerprint(short_run(tmp_path, name="whole"))


def test_an_index_edited_before_the_first_checkpoint_is_refused(tmp_path: Path) -> None:
    stop_in_the_solve(tmp_path)
    file = tmp_path / "runs" / "run" / "data" / "index.csv"
    file.write_text(file.read_text().replace("class-0,train", "class-1,train", 1))
    with pytest.raises(DataError, match=r"index\.csv is not the data that the run began with"):
        imgkit.resume("run", out=tmp_path / "runs")


def change(file: Path) -> None:
    """Other content of the same length, at another time."""
    content, before = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_an_image_changed_to_the_same_length_is_refused_by_resume(tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"a": 12, "b": 12}, side_px=32)
    stop_in_the_solve(tmp_path, data=str(data))
    change(data / "b" / "0005.png")
    with pytest.raises(DataError) as caught:
        imgkit.resume("run", out=tmp_path / "runs")
    assert caught.value.message == (
        f"{data / 'b' / '0005.png'} has other content, of the same length: the data changed since the run began."
    )
    change(data / "b" / "0005.png")
    assert imgkit.resume("run", out=tmp_path / "runs").folder.read_json("status.json")["state"] == "finished"


def test_an_image_changed_to_the_same_length_is_refused_by_evaluate(
    tmp_path: Path, make_folders: MakeFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_folders({"a": 12, "b": 12}, side_px=32)
    done = short_run(tmp_path, "phases.all.epochs=1", data=str(data))
    change(data / "a" / "0003.png")
    with pytest.raises(DataError, match=r"0003\.png has other content, of the same length"):
        done.evaluate(split="train")
    assert done.evaluate(split="val")["n"] > 0
    told = " ".join(capsys.readouterr().err.split())
    assert "0003.png has other content, of the same length" in told, "scores that are stored are shown all the same"
    assert "The scores are of the images as they were then." in told
    assert done.evaluate(data=data)["n"] == 24, "as other data they may be scored"


def test_check_files_names_the_first_change(tmp_path: Path, make_folders: MakeFolders) -> None:
    data = make_folders({"a": 3, "b": 3})
    index = load_data(DataSettings(path=str(data))).index
    files = sorted(data.rglob("*.png"))
    seen: list[tuple[int, int]] = []
    check_files(index, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
    change(files[4])
    change(files[2])
    with pytest.raises(DataError, match=r"a/0002\.png has other content"):
        check_files(index)
    size = files[5].stat().st_size
    files[5].write_bytes(files[5].read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"b/0002\.png has {size + 4} bytes, not {size}: the data changed"):
        check_files(index)
    files[0].unlink()
    with pytest.raises(DataError, match=r"a/0000\.png is gone: the data changed since the run began"):
        check_files(index)


def test_check_files_reads_nothing_that_the_scan_read(make_folders: MakeFolders) -> None:
    index = load_data(DataSettings(path=str(make_folders({"a": 3, "b": 3})))).index
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_hash", lambda file: pytest.fail(f"{file} is read again"))
        check_files(index)


def test_check_files_tells_what_cannot_be_read(make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_folders({"a": 3, "b": 3})
    index = load_data(DataSettings(path=str(data))).index
    os.utime(data / "a" / "0001.png", ns=(0, 0))

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", broken)
    with pytest.raises(DataError, match=r"a/0001\.png cannot be read \(Input/output error\): the data changed"):
        check_files(index)


def test_a_start_that_fails_leaves_the_name_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskError("full")

    with monkeypatch.context() as patch:
        patch.setattr("imgkit.run.RunFolder.set_status", full)
        with pytest.raises(DiskError, match="full"):
            short_run(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []
    assert short_run(tmp_path, "phases.all.epochs=1").folder.name == "run"


@pytest.mark.parametrize("asked", ["auto", "cuda:99"])
def test_a_run_whose_device_is_not_here_is_told_what_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    stop_in_the_solve(tmp_path)
    folder = imgkit.open_run("run", tmp_path / "runs").folder
    folder.write_json("run.json", folder.read_json("run.json") | {"device": "cuda:99"})
    file = folder.path / "recipe.toml"
    file.write_text(re.sub(r"\n(# )?device = [^\n]*", f'\ndevice = "{asked}"', file.read_text()))
    assert load_recipe(file).recipe.run.device == asked
    monkeypatch.setattr("imgkit.prepare.plugin_words", lambda _: " --plugin own.py")
    with pytest.raises(DeviceError, match="--device cuda:99 was asked for") as caught:
        imgkit.resume("run", out=tmp_path / "runs")
    assert caught.value.hint == (
        "Resume it where there is such a device, or start a new run:  "
        f"imgkit finetune --recipe {folder.path / 'recipe.toml'} --device cpu --plugin own.py"
    )
    assert load_recipe(folder.path / "recipe.toml").recipe.model.name == "test_resnet", "so that no MODEL is needed"


def several_labels(folder: Path, *sets: str, smoke: bool = False) -> tuple[Setup, RunFolder]:
    """The setup and the folder of a multi-label run that has not made a step."""
    lines = ["path,odd,kind"]
    for number in range(24):
        square(number, code=number % 3, side_px=32).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{number % 2},{('', 'red', 'blue')[number % 3]}")
    (folder / "cells.csv").write_text("\n".join(lines))
    flags = {"model.name": Flag("MODEL", "test_resnet"), "data.path": Flag("--data", str(folder / "cells.csv"))}
    flags["data.label_col"] = Flag("--label-col", ["odd", "kind"])
    loaded = load_recipe(write_recipe(folder), flags=flags, sets=["run.workers=0", *sets])
    setup, data = prepare(loaded, verb="finetune", command="", smoke=smoke, dry_run=False, screen=Screen())
    return setup, begin(setup, data, out=folder / "runs", name=None)


def test_a_multilabel_run_is_read_back_as_it_began(tmp_path: Path) -> None:
    setup, folder = several_labels(tmp_path, "loss.label_smoothing=0.1")
    assert folder.read_json("run.json")["task"] == "multilabel"
    assert [phase.loss for phase in setup.plan.phases[1:]] == [Bce(name="bce", label_smoothing=0.1)] * 2
    again = reopen(folder, fresh=True, workers=None, screen=Screen())
    assert again.plan == setup.plan
    assert again.recipe == setup.recipe
    assert again.index.task == "multilabel"
    assert again.index.fingerprint == setup.index.fingerprint
    assert again.index.multi_hot().tolist() == setup.index.multi_hot().tolist()


def test_other_data_are_read_as_the_task_of_the_run(tmp_path: Path) -> None:
    setup, folder = several_labels(tmp_path)
    about, model = folder.read_json("run.json"), SimpleNamespace(classes=setup.index.classes)

    def other(**given: object) -> Index:
        settings = DataSettings.model_validate(given)
        return evaluate._other_data(
            folder, about, evaluate._inherited(about, setup.recipe.data, settings), model, Screen()
        )[0]

    same = other(path=str(tmp_path / "cells.csv"))
    assert (same.task, same.classes) == ("multilabel", setup.index.classes)
    assert same.multi_hot().tolist() == setup.index.multi_hot().tolist()
    (tmp_path / "tags.csv").write_text("path,tags\n00.png,red|odd\n01.png,\n")
    tagged = other(path=str(tmp_path / "tags.csv"), label_col="tags", label_delimiter="|")
    assert tagged.label_sets() == [(1, 2), ()]
    with pytest.raises(UsageError, match=r"data.task = 'multilabel', but .* is a folder of class folders"):
        other(path=str(tmp_path))


def test_the_plan_lists_the_images_of_each_label(tmp_path: Path) -> None:
    setup, _ = several_labels(tmp_path)
    assert [line for line in plan_lines(setup) if "label" in line] == [
        "label blue: train 6, val 2, test 0",
        "label odd: train 10, val 2, test 0",
        "label red: train 6, val 2, test 0",
        "no label: train 3, val 1, test 0",
    ]


def test_a_smoke_run_of_sets_keeps_some_of_each_label(tmp_path: Path) -> None:
    setup, _ = several_labels(tmp_path, smoke=True)
    assert len(setup.index) < 24
    for split in ("train", "val"):
        assert setup.index.counts(split).min() > 0
        assert len(setup.index.unlabelled(split)) > 0


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["monitor=val/top1"], r'monitor = "val/top1" \(--set\) is no score of a multi-label task'),
        (["loss.name=cross_entropy"], r'loss.name = "cross_entropy" \(--set\) is no loss of a multi-label task'),
        (["data.task=single"], r"data.task = 'single' means one label an image, but there are 2 label columns"),
    ],
)
def test_what_does_not_fit_the_task_is_told_before_an_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: list[str], told: str
) -> None:
    monkeypatch.setattr("imgkit.prepare.load_data", lambda *_, **__: pytest.fail("data are read"))
    with pytest.raises(UsageError, match=told) as caught:
        several_labels(tmp_path, *sets)
    assert caught.value.exit_code == 2


def test_the_seed_of_a_run_leaves_the_splits_alone(tmp_path: Path) -> None:
    """Runs of several seeds share their test set, and differ in the rest."""

    def made(*sets: str) -> Setup:
        loaded = load_recipe(
            write_recipe(tmp_path),
            flags={"data.path": Flag("--data", "synthetic:3x16"), "model.name": Flag("MODEL", "test_resnet")},
            sets=["data.test=0.2", *sets],
        )
        screen = Screen(quiet=True)
        return prepare(loaded, verb="finetune", command="", smoke=False, dry_run=True, screen=screen)[0]

    first, other_seed, other_split = made(), made("seed=4"), made("data.split_seed=4")
    assert first.index.fingerprint == other_seed.index.fingerprint != other_split.index.fingerprint
    assert first.index.rows("test").tolist() == other_seed.index.rows("test").tolist()
    weights = [next(setup.model.parameters()) for setup in (first, other_seed, other_split)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("recipe", "sets", "told"),
    [
        ("probe", ["train.batch_size=8"], "train.batch_size = 8 (--set) is not used"),
        ("finetune", ["train.micro_batch=64"], "is more than the batch_size of phase 'all'"),
        ("finetune", ["monitor=val/topk"], 'monitor = "val/topk" (--set) is always 1 with 3 classes: it counts labels'),
        (
            "finetune",
            ["phases.all.schedule.name=plateau", "phases.all.schedule.watch=val/topk"],
            'phases.all.schedule.watch = "val/topk" (--set) is always 1 with 3 classes',
        ),
    ],
)
def test_what_is_refused_is_told_before_weights_are_looked_for_or_an_image_is_read(
    monkeypatch: pytest.MonkeyPatch, recipe: str, sets: list[str], told: str
) -> None:
    for early in ("load_data", "find_source"):
        monkeypatch.setattr(f"imgkit.prepare.{early}", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UsageError) as caught:
        imgkit.finetune("test_resnet", recipe=recipe, data="synthetic:3x16", sets=sets)
    assert told in caught.value.message
    if "topk" in told:
        assert caught.value.hint.endswith("val/f1_macro")


@pytest.mark.parametrize(
    ("recipe", "sets", "keys"),
    [
        ("finetune", [], r"phase all\) and the weights are random: .* --set train.batch_norm=train$"),
        ("scratch", ["phases.all.batch_norm=frozen"], "--set phases.all.batch_norm=train$"),
        ("scratch", [], ""),
        ("finetune", ["train.batch_norm=train"], ""),
        ("finetune", ["phases.all.train=head"], ""),  # its trunk is never in training mode
    ],
)
def test_batch_norm_that_cannot_normalise_is_warned_of(recipe: str, sets: list[str], keys: str) -> None:
    text = StringIO()
    screen = Screen(file=text, width=1000)
    api.show_plan("scratch", "test_resnet", recipe=recipe, data="synthetic:3x16", sets=sets, screen=screen)
    said = [line for line in text.getvalue().splitlines() if "Batch norm is frozen" in line]
    assert len(said) == bool(keys)
    assert all(re.search(keys, line) for line in said)


@pytest.mark.parametrize(("given", "threads"), [(("run.threads=2",), 2), ((), 1)])
def test_threads_and_deterministic_algorithms_are_torchs_while_a_run_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], threads: int
) -> None:
    seen = []

    def look() -> tuple[int, bool, bool]:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), WORKSPACE in os.environ

    def finish(*arguments: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        seen.append(look())
        if len(seen) == 1:
            raise imgkit.ImgkitError("stop")
        return finished(*arguments, **options)

    monkeypatch.delenv(WORKSPACE, raising=False)
    finished = experiment.finish
    monkeypatch.setattr(experiment, "finish", finish)
    torch.set_num_threads(3)
    try:
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(tmp_path, "run.deterministic=true", "phases.all.epochs=1", *given)
        assert look() == (3, False, False)
        run = imgkit.resume("run", out=tmp_path / "runs")
        assert look() == (3, False, False)
    finally:
        torch.set_num_threads(1)
    assert seen == [(threads, True, True)] * 2
    assert run.folder.read_json("run.json")["threads"] == threads
    assert load_recipe(run.folder.path / "recipe.toml").recipe.run.threads == threads
    log = (run.folder.path / "recipe.toml").read_text()
    assert ("derived (run.deterministic)" in log) == (not given)
