"""A run that starts from a checkpoint of another one: what it takes over, what it keeps, and what it refuses."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from oracle import fingerprint, write_recipe

from imgkit import Run, api, checkpoint, finetune, open_run, resume
from imgkit.branch import parent_of
from imgkit.errors import DataError, DiskError, ImgkitError, Interrupted, UsageError, WeightsError
from imgkit.report.table import print_run
from imgkit.run import RunFolder
from imgkit.screen import Screen

PARENT = """
schema = 1
name = "parent"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
optimizer = "sgd"
momentum = 0.9
batch_norm = "train"
precision = "float32"

[schedule]
name = "constant"

[[phases]]
name = "first"
train = "all"
epochs = 4
lr = 0.01
"""
CHILD = PARENT.replace('"parent"', '"child"').replace("image_size = 32\n", "").replace('weights = "none"\n', "")
CHILD = CHILD.replace('name = "first"', 'name = "later"').replace("epochs = 4\nlr = 0.01", "epochs = 2\nlr = 4e-4")
DATA = "synthetic:3x16"
Told = Callable[..., str]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of four epochs of four updates, with its last two checkpoints and that of its best epoch."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = write_recipe(folder, PARENT)
        sets = ["run.workers=0", "monitor=val/loss", "model.crop_pct=0.8", "model.mean=[0.3,0.3,0.3]"]
        return finetune("test_resnet", recipe=recipe, data=DATA, out=folder / "runs", name="a", sets=sets)


def child(folder: Path, start: str, *sets: str, data: str = DATA, model: str = "test_resnet", **more: object) -> Run:
    """Two epochs from a checkpoint."""
    folder.mkdir(exist_ok=True)
    recipe, given = write_recipe(folder, CHILD), ["run.workers=0", *sets]
    place = folder / "runs"
    return finetune(model, recipe=recipe, data=data, out=place, name="b", sets=given, weights=f"run:{start}", **more)  # type: ignore[arg-type]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """What the plan of such a run says."""

    def of(start: str, *sets: str, data: str = DATA, model: str = "test_resnet", body: str = CHILD) -> str:
        text, recipe = io.StringIO(), write_recipe(tmp_path, body)
        screen = Screen(file=text, width=1000)
        api.show_plan("finetune", model, recipe=recipe, data=data, weights=f"run:{start}", sets=sets, screen=screen)
        return text.getvalue()

    return of


def weights_of(run: Run, step: int) -> checkpoint.Checkpoint:
    return checkpoint.read(run.folder.path / "checkpoints", step)


def stopping_at(step: int) -> Callable[[str], None]:
    """A polite stop before the checkpoint of `step`, or of a later one, is written."""

    def reached(point: str) -> None:
        if point == "before rename" and next(left) == step:
            raise Interrupted("stop", signal=15)

    left = iter(range(99))
    return reached


def test_a_run_starts_from_a_checkpoint_and_says_so(parent: Run, tmp_path: Path) -> None:
    start = f"{parent.folder.path}@4"
    run = child(tmp_path, start, "save.keep=all")
    before, first = weights_of(parent, 16), weights_of(run, 0)
    assert all(torch.equal(first.model[name], value) for name, value in before.model.items())
    assert first.train.keys() == before.train.keys() != set()
    assert all(torch.equal(first.train[name], value) for name, value in before.train.items()), "the moments"
    file = parent.folder.path / "checkpoints" / "step-00000016" / "model.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    about = run.folder.read_json("run.json")
    assert about["parent"] == {"run": "a", "step": 16, "epoch": 4, "sha256": sha256}
    assert (about["weights"]["kind"], about["weights"]["sha256"]) == ("run", sha256)
    assert [(row["epoch"], row["step"]) for row in run.folder.history()] == [(1, 4), (2, 8)], "its own epochs"
    log = (run.folder.path / "log.txt").read_text()
    assert "later: lr 0.01 → 0.0004" in log
    assert "Checkpoint loaded" not in log
    recipe = (run.folder.path / "recipe.toml").read_text()
    assert f'weights = "run:{parent.folder.path}@4"' in recipe
    assert "image_size = 32" in recipe
    text = io.StringIO()
    print_run(run.folder, Screen(file=text, width=200))
    assert f"Parent  a · epoch 4 (step 16) · weights with SHA-256 {sha256[:12]}…" in text.getvalue()
    # Its first update goes on with the buffer: momentum * buffer + gradient.
    name = "opt/fc.weight/momentum_buffer"
    anew = child(tmp_path / "reset", start, "save.keep=all", "phases.later.optimizer_state=reset")
    assert fingerprint(anew) != fingerprint(run)
    assert name in before.train


def test_the_same_bits_after_a_stop_although_the_parent_is_gone(parent: Run, tmp_path: Path) -> None:
    expected = fingerprint(child(tmp_path / "whole", f"{parent.folder.path}@4"))
    runs = tmp_path / "cut" / "runs"
    shutil.copytree(parent.folder.path, runs / "a")
    for passing in (2, 1):  # the first is that of the start
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "reached", stopping_at(passing))
            with pytest.raises(Interrupted):
                child(tmp_path / "cut", f"{runs / 'a'}@4")
        assert checkpoint.steps(runs / "b" / "checkpoints") == [0, 4][:passing]
        moved = (runs / "a").rename(tmp_path / "gone")
        run = resume("b", out=runs)
        assert fingerprint(run) == expected
        moved.rename(runs / "a")
        shutil.rmtree(runs / "b")


def test_a_checkpoint_of_another_network_other_classes_or_another_task_is_refused(parent: Run, told: Told) -> None:
    start = f"{parent.folder.path}@4"
    with pytest.raises(UsageError, match=r"a is a test_resnet.r160_in1k, and test_vit was asked for") as caught:
        told(start, model="test_vit")
    assert caught.value.hint.startswith("Leave MODEL out")
    with pytest.raises(
        DataError, match=r"The classes of a go on by name, and these data have class-3 besides"
    ) as found:
        told(start, data="synthetic:4x8")
    assert f"--weights {parent.folder.path}/checkpoints/step-00000016/model.safetensors" in found.value.hint
    with pytest.raises(DataError, match=r"these data lack class-2\."):
        told(start, data="synthetic:2x8")
    with pytest.raises(WeightsError, match=r"run a, epoch 4 \(step 16\) does not fit test_resnet") as odd:
        told(start, "model.head=mlp:8")
    assert "\n  - fc" in odd.value.message


def test_images_that_the_parent_was_trained_on_are_told(parent: Run, told: Told) -> None:
    start = f"{parent.folder.path}@4"
    assert "were trained on" not in told(start)
    said = told(start, "data.split_seed=5")
    assert "images of val were trained on by a, so their score flatters" in said


def test_the_network_sees_pictures_as_the_parent_did(parent: Run, tmp_path: Path) -> None:
    seen, before = (
        json.loads((run.folder.path / "model" / "preprocessing.json").read_text())
        for run in (child(tmp_path, f"{parent.folder.path}@4"), parent)
    )
    assert seen == before
    assert before["mean"] == [0.3, 0.3, 0.3]


def test_what_does_not_go_on_is_told(parent: Run, told: Told) -> None:
    start = f"{parent.folder.path}@4"
    quiet = told(start)
    assert "weights: run a, epoch 4 (step 16) · its head for 3 classes" in quiet
    assert "starts anew" not in quiet
    said = told(start, "train.optimizer=adamw", "train.momentum=none")
    assert "note: the optimizer's state starts anew: a has that of sgd, and phase 'later' takes adamw" in said
    solved = CHILD.replace("[[phases]]", '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n\n[[phases]]')
    assert "note: phase 'head' solves a new head: that of a is replaced" in told(start, body=solved)


def test_places_of_a_run(parent: Run, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    place = parent.folder.path
    best = parent.folder.read_json("checkpoints/best.json")["step"]
    monkeypatch.chdir(place.parent.parent)
    for start, words in (
        ("a@step-16", "epoch 4 (step 16)"),
        ("a@step-00000012", "epoch 3 (step 12)"),
        ("a@last", "epoch 4 (step 16)"),
        ("a", "epoch 4 (step 16)"),
        ("latest@3", "epoch 3 (step 12)"),
        ("runs/a@best", f"epoch {best // 4} (step {best})"),
    ):
        assert f"weights: run a, {words}" in told(start)
    with pytest.raises(UsageError, match=r"There is no run called 'b@3x' in runs"):
        told("b@3x")
    with pytest.raises(UsageError, match=r"'3x' is no place in a\."):
        told("a@3x")
    with pytest.raises(UsageError, match=r"a has no epoch 9: its epochs are 1 to 4\."):
        told("a@9")
    assert parent_of("run:a@7")[1] == "7"


def test_a_checkpoint_that_was_removed_is_told_with_those_there_are(parent: Run, told: Told, tmp_path: Path) -> None:
    shutil.copytree(parent.folder.path, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    for step in (12, 16):
        name = f"step-{step:08d}"
        shutil.copytree(parent.folder.path / "checkpoints" / name, tmp_path / "a" / "checkpoints" / name)
    with pytest.raises(UsageError) as caught:
        told(f"{tmp_path / 'a'}@1")
    assert caught.value.message == (
        "a has no checkpoint of epoch 1: a run keeps the newest ones and the best. There are: @3 (step 12), "
        "@4 (step 16)."
    )
    assert caught.value.hint == (
        f"Take one of them:  --from {tmp_path / 'a'}@4\nTo keep all of a new run:  --set save.keep=all"
    )
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    with pytest.raises(UsageError, match=r"a has no checkpoint\."):
        told(f"{tmp_path / 'a'}@1")


def test_a_damaged_start_makes_no_run(parent: Run, tmp_path: Path) -> None:
    shutil.copytree(parent.folder.path, tmp_path / "a")
    file = tmp_path / "a" / "checkpoints" / "step-00000016" / "train.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(DiskError, match=r"train\.safetensors is damaged"):
        child(tmp_path, f"{tmp_path / 'a'}@4")
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == []


def test_a_run_whose_checkpoints_were_removed_does_not_start_from_random_weights(parent: Run, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", stopping_at(1))
        with pytest.raises(ImgkitError, match="stop"):
            child(tmp_path, f"{parent.folder.path}@4")
    folder = RunFolder.open("b", tmp_path / "runs")
    shutil.rmtree(folder.path / "checkpoints" / "step-00000000")
    with pytest.raises(DiskError, match="b has no checkpoint any more, and a, where it started"):
        resume("b", out=tmp_path / "runs")
    assert open_run("b", tmp_path / "runs").folder.read_json("run.json")["parent"]["run"] == "a"
