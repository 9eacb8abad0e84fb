"""Pictures decoded once: chosen where it pays, said, written into the recipe; and the same bits without the store."""

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import fingerprint, short_run, write_recipe

import imgkit
from imgkit import decode_once, pace
from imgkit.cache import LIMIT, store_folder
from imgkit.data import batches
from imgkit.data.builtin import cache_folder
from imgkit.data.prepared import about
from imgkit.errors import Interrupted, RecipeError
from imgkit.experiment import Experiment
from imgkit.pace import Times
from imgkit.prepare import prepare
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import PhasePlan
from imgkit.screen import Screen
from imgkit.setup import Setup

RECIPE = """
schema = 1
name = "whole"
seed = 3

[model]
name = "test_resnet"
weights = "none"
image_size = 32

[train]
batch_size = 8
precision = "float32"

[[phases]]
name = "all"
train = "all"
epochs = 3
lr = 1e-3
"""
SIDE = 66  # twice what pictures are resized to before the crop to 32 px
SLOW = Times(direct=10.0, prepared=1.0, make=2.0)
FAST = Times(direct=1e-3, prepared=9e-4, make=2e-3)


def decided(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *sets: str,
    times: Times = SLOW,
    smoke: bool = False,
    workers: tuple[str, ...] = ("run.workers=0",),
) -> tuple[Setup, str]:
    """The setup of a run, and what was said of it; a measurement gives `times`."""
    monkeypatch.setattr(decode_once, "picture_times", lambda *_: times)
    monkeypatch.setattr(decode_once, "LEAST_USES", 1)
    text = io.StringIO()
    given = ["data.path=synthetic:3x16", *workers, *sets]
    loaded = load_recipe(write_recipe(folder, RECIPE), sets=given)
    screen = Screen(file=text, width=400)
    setup, _ = prepare(loaded, verb="scratch", command="", smoke=smoke, dry_run=False, screen=screen)
    return setup, " ".join(text.getvalue().split())


def train(folder: Path, *sets: str, name: str = "run", recipe: str | None = None) -> tuple[imgkit.Run, str]:
    """The run, and what it said."""
    text = io.StringIO()
    run = imgkit.scratch(
        "test_resnet",
        recipe=recipe or write_recipe(folder, RECIPE),
        data="synthetic:3x16",
        out=folder / "runs",
        name=name,
        sets=["run.workers=0", *sets],
        screen=Screen(file=text, width=400),
    )
    return run, " ".join(text.getvalue().split())


def test_it_is_chosen_where_it_saves_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, said = decided(tmp_path, monkeypatch)
    assert setup.prepared == SIDE
    assert "training pictures are decoded once (shorter side ≤ 66 px, 117 KiB in " in said
    assert "which saves about" in said
    assert said.count("to turn it off: --set data.prepared=none") == 1
    assert setup.about["prepared"]["shorter_side"] == SIDE


def test_what_saves_little_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, said = decided(tmp_path, monkeypatch, times=FAST)
    assert setup.recipe.data.prepared is None
    assert setup.loaded.origins["data.prepared"] == "chosen (saves less than 30 s)"
    assert "decoded" not in said


@pytest.mark.parametrize(
    ("sets", "asked"),
    [
        (["data.prepared=none"], None),
        (["data.prepared=48"], 48),
        (["run.deterministic=true"], "auto"),
        (["phases.all.epochs=1"], "auto"),  # each picture is decoded once anyway
    ],
)
def test_where_nothing_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: Sequence[str], asked: object
) -> None:
    setup, said = decided(tmp_path, monkeypatch, *sets)
    assert setup.recipe.data.prepared == asked
    assert "prepared" not in setup.about
    assert "decoded" not in said


def test_a_smoke_run_chooses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, _ = decided(tmp_path, monkeypatch, smoke=True)
    assert setup.recipe.data.prepared == "auto"


def test_few_pictures_are_not_even_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_once, "picture_times", lambda *_: pytest.fail("measured"))
    loaded = load_recipe(write_recipe(tmp_path, RECIPE), sets=["data.path=synthetic:3x16"])
    screen = Screen(quiet=True)
    setup, _ = prepare(loaded, verb="scratch", command="", smoke=False, dry_run=False, screen=screen)
    assert setup.recipe.data.prepared == "auto"


def test_where_there_is_no_room_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "50kB")
    setup, said = decided(tmp_path, monkeypatch)
    assert setup.recipe.data.prepared is None
    assert "pictures are decoded in each epoch; to do it once would save about" in said
    assert f"but 117 KiB more would exceed {LIMIT} (49 KiB" in said


def test_what_is_there_already_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_recipe(write_recipe(tmp_path, RECIPE), sets=["data.path=synthetic:3x16", "run.workers=0"])
    text = io.StringIO()
    decode_once.prepare_pictures(loaded, Screen(file=text, width=400))
    said = " ".join(text.getvalue().split())
    assert "train: 39 of 39 pictures decoded once (shorter side ≤ 66 px), in " in said
    assert "val: 9 of 9 pictures decoded once (as evaluated), in " in said
    setup, said = decided(tmp_path, monkeypatch, times=FAST)
    assert setup.prepared == SIDE
    assert "training pictures are decoded already (shorter side ≤ 66 px," in said


def test_a_device_of_its_own_saves_only_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, _ = decided(tmp_path, monkeypatch, "data.prepared=none")
    seconds = pace.update_seconds(setup)
    assert 0 < seconds < 10
    times = Times(direct=4.0, prepared=1.0, make=0.0)
    on_gpu = replace(setup, device=torch.device("meta"), workers=2)
    for update, each in ((0.1, 1.5), (1.0, 1.0), (3.0, 0.0)):
        monkeypatch.setattr(pace, "update_seconds", lambda _, update=update: update)
        assert times.saved(on_gpu, 100, 0) == pytest.approx(100 * each)


def test_a_measurement_times_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = pace.picture_times
    setup, _ = decided(tmp_path, monkeypatch, "data.prepared=none")
    times = measure(setup, setup.index.rows("train"), SIDE)
    assert all(0 < value < 1 for value in (times.direct, times.prepared, times.make))


# Runs


@pytest.mark.parametrize("side", [SIDE, 16])
def test_a_run_has_the_same_bits_with_its_store_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    first, said = train(tmp_path, f"data.prepared={side}")
    assert f"trains on 39 of 39 pictures decoded once (shorter side ≤ {side} px)" in said
    folder = cache_folder() / "pictures"
    assert len(list(folder.glob("*/*.safetensors"))) == 2  # training's and validation's
    monkeypatch.setattr(batches, "prepare", lambda *_: pytest.fail("decoded again"))
    again, _ = train(tmp_path, f"data.prepared={side}", name="again")
    monkeypatch.undo()
    shutil.rmtree(folder)
    monkeypatch.setattr(decode_once, "keep_phase", lambda *_: None)
    monkeypatch.setattr("imgkit.trunk.keep_phase", lambda *_: None)
    without, _ = train(tmp_path, f"data.prepared={side}", name="without")
    assert not folder.exists()
    direct, _ = train(tmp_path, "data.prepared=none", name="direct")
    assert fingerprint(first) == fingerprint(again) == fingerprint(without)
    assert (fingerprint(direct) == fingerprint(first)) == (side == SIDE)  # these pictures of 32 px are shrunk to 16


def test_the_recipe_of_a_run_repeats_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_once, "picture_times", lambda *_: SLOW)
    monkeypatch.setattr(decode_once, "LEAST_USES", 1)
    chosen, _ = train(tmp_path)
    text = (chosen.folder.path / "recipe.toml").read_text()
    assert f"prepared = {SIDE}" in text
    assert "chosen (saves about" in text
    monkeypatch.setattr(decode_once, "picture_times", lambda *_: pytest.fail("measured again"))
    again, _ = train(tmp_path, name="again", recipe=str(chosen.folder.path / "recipe.toml"))
    assert again.folder.read_json("run.json").get("prepared") is None  # it was asked for
    assert fingerprint(again) == fingerprint(chosen)


@pytest.mark.parametrize("kept", [True, False])
def test_a_resume_goes_on_to_the_same_bits_although_the_store_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    sets = ("data.prepared=16", "save.every_steps=1")
    whole = fingerprint(short_run(tmp_path / "whole", *sets))
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step=9)
        with pytest.raises(Interrupted):
            short_run(tmp_path, *sets)
    folder = cache_folder() / "pictures"
    assert folder.is_dir()
    if not kept:
        shutil.rmtree(folder)
        monkeypatch.setenv(LIMIT, "1kB")
    done = imgkit.resume("run", out=tmp_path / "runs")
    assert folder.is_dir() == kept or not list(folder.iterdir())
    assert fingerprint(done) == whole


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """A run is asked to stop after that many updates."""
    poll = Experiment._poll

    def asked(self: Experiment, phase: PhasePlan) -> None:
        if self.progress.step == step:
            self._request.stop = 15
        poll(self, phase)

    patch.setattr(Experiment, "_poll", asked)


def test_a_side_that_no_phase_reads_is_refused(tmp_path: Path) -> None:
    solved = RECIPE.replace("epochs = 3\nlr = 1e-3", 'solver = "logistic"').replace('train = "all"', 'train = "head"')
    with pytest.raises(RecipeError, match=r"data\.prepared"):
        train(tmp_path, "data.prepared=64", recipe=write_recipe(tmp_path, solved))


def test_features_of_shrunk_views_are_others(tmp_path: Path) -> None:
    views = RECIPE.replace('train = "all"', 'train = "head"\nviews = 1').replace("epochs = 3", "epochs = 2")
    recipe = write_recipe(tmp_path, views)
    found = [
        fingerprint(train(tmp_path, f"data.prepared={side}", name=f"run{side}", recipe=recipe)[0])
        for side in ("none", SIDE, 16)
    ]
    assert found[0] == found[1] != found[2]


def test_the_store_lies_in_the_cache_by_its_rule() -> None:
    assert store_folder("pictures", about(64)).parent == cache_folder() / "pictures"
    assert np.char.isalnum(store_folder("pictures", about(64)).name)
