"""The functions of Python: what they refuse, and what they take."""

import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from oracle import SHORT, short_run, write_recipe
from pictures import MakeFolders, TreeHash
from study_worker import forking

import imgkit
from imgkit import api
from imgkit.api_options import UserOptions
from imgkit.errors import DataError, UsageError, WeightsError
from imgkit.model_names import resolve_name
from imgkit.recipe.load import Loaded
from imgkit.recipe.schema import Recipe
from imgkit.screen import Screen


def test_a_misspelt_option_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"finetune has no option 'epoch' \(did you mean 'epochs'\?\)") as caught:
        imgkit.finetune("test_resnet", data="digits", epoch=3, out=tmp_path)  # type: ignore[call-arg]
    assert 'sets=["train.optimizer=sgd"]' in caught.value.hint
    told = caught.value.hint.removeprefix("Known: ").split(".")[0].split(", ")
    assert told == sorted([*UserOptions.__annotations__, "weights"]), "what a command hands over is not offered"


def test_common_values_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def prepare(loaded: Loaded, **_: object) -> None:
        seen.append(loaded.recipe)
        raise DataError("enough")

    monkeypatch.setattr("imgkit.prepare.prepare", prepare)
    for verb, more in ((imgkit.finetune, {"weights": tmp_path / "w.safetensors"}), (imgkit.scratch, {})):
        with pytest.raises(DataError, match="enough"):
            verb("test_resnet", data="digits", batch_size=7, image_size=48, seed=5, workers=0, **more)  # type: ignore[arg-type]
    assert [(recipe.train.batch_size, recipe.model.image_size, recipe.seed) for recipe in seen] == [(7, 48, 5)] * 2
    assert [recipe.run.workers for recipe in seen] == [0, 0]
    assert [recipe.model.weights for recipe in seen] == [str(tmp_path / "w.safetensors"), "none"]


def test_folds_are_those_of_the_command(
    make_folders: MakeFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Mapping[str, Any]] = []
    monkeypatch.setattr("imgkit.studies.work.in_a_process", forking(jobs))
    data, out = make_folders({"cat": 12, "dog": 12}), tmp_path / "runs"
    how: dict[str, Any] = {"recipe": "probe", "data": data, "image_size": 32, "workers": 0, "out": out, "seed": 4}
    folds = imgkit.scratch("test_resnet", folds=2, **how)
    assert folds.folder == out / "2fold-scratch-test_resnet-pictures"
    assert [run.folder.name for run in folds.runs] == ["fold1-seed4", "fold2-seed4"]
    assert folds.metrics["n"] == 24
    told = json.loads((folds.folder / "folds.json").read_text())
    assert [fold["scores"] for fold in told["folds"]] == list(folds.scores)
    assert told["pooled"] == folds.metrics
    for run, scores in zip(folds.runs, folds.scores, strict=True):
        (metrics,) = (one for one in run.metrics.values() if one["split"] == "test")
        assert metrics["f1_macro"] == scores["f1_macro"]
    assert imgkit.scratch("test_resnet", folds=2, **how) == dataclasses.replace(folds, runs=ANY)
    assert len(jobs) == 2, "what is finished is not done twice"
    with pytest.raises(UsageError, match="scratch has no option 'weights'"):
        imgkit.scratch("test_resnet", folds=2, weights="auto", **how)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="lr_find has no option 'track'"):
        imgkit.lr_find("test_resnet", data=data, track="tensorboard")


def test_a_wrong_value_is_named_as_it_was_written() -> None:
    with pytest.raises(UsageError, match="batch_size="):
        imgkit.finetune("test_resnet", data="digits", batch_size=0)
    with pytest.raises(UsageError, match="scratch has no option 'weights'"):
        imgkit.scratch("test_resnet", data="digits", weights="auto")  # type: ignore[call-arg]


def test_a_single_input_is_one_file_not_its_letters(tmp_path: Path) -> None:
    run = short_run(tmp_path)
    (answer,) = run.predict(str(tmp_path / "gone.png"))
    assert (answer.path, answer.error) == (str(tmp_path / "gone.png"), "No such file or directory")
    (answer,) = run.predict(tmp_path / "gone.png")
    assert answer.error
    (tmp_path / "t.csv").write_text("path\ngone.png\n")
    (answer,) = run.predict(tmp_path / "t.csv", root=tmp_path)
    assert (answer.path, answer.file) == ("gone.png", str(tmp_path / "gone.png"))


def test_scratch_takes_random_weights_whatever_the_recipe(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, SHORT.replace('weights = "none"', ""))
    file = io.StringIO()
    api.show_plan(
        "scratch", "test_resnet", recipe=recipe, data="synthetic:3x16", screen=Screen(file=file, width=200)
    )  # without a network, pretrained weights would be an error
    assert "random weights" in file.getvalue()
    with pytest.raises(UsageError, match='is "none" by imgkit scratch and "auto" by --set'):
        api.show_plan("scratch", "test_resnet", recipe=recipe, data="synthetic:3x16", sets=["model.weights=auto"])


def test_a_missing_folder_is_told_before_torch_is_imported() -> None:
    script = (
        "import sys, imgkit\n"
        "from imgkit import api\n"
        "for verb in ((imgkit.finetune,), (api.show_plan, 'finetune')):\n"
        "    try:\n        verb[0](*verb[1:], 'resnet50', recipe='finetune', data='no-such-folder')\n"
        "    except imgkit.ImgkitError:\n        print('torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\nFalse\n"


def test_the_data_folder_is_never_written_to(
    make_folders: MakeFolders, tree_hash: TreeHash, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_folders({"cat": 8, "dog": 8})
    before = tree_hash(data)
    monkeypatch.chdir(data)
    with pytest.raises(UsageError, match="never written to") as caught:
        imgkit.finetune("test_resnet", data=".")
    assert caught.value.exit_code == 2
    assert tree_hash(data) == before


def test_a_misspelt_model_is_told_before_torch_is_imported() -> None:
    script = (
        "import sys, imgkit\n"
        "try:\n    imgkit.finetune('resnet5O', data='digits')\n"
        "except imgkit.ImgkitError as error:\n    print(error.message, 'torch' in sys.modules)\n"
    )
    # The first time, timm is asked and its names are kept.
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first.startswith("Unknown model 'resnet5O'. Did you mean resnet50")
    assert second == first.replace("True", "False")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("name='taken'", "There is a run called 'taken' in"),
        ("name='a/b'", "cannot be the name of a folder"),
        ("name='new', out='file/runs'", "file is a file"),
    ],
)
def test_a_bad_place_is_told_before_torch_is_imported(tmp_path: Path, options: str, message: str) -> None:
    resolve_name("resnet50")  # keeps the names
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    script = (
        "import sys, imgkit\n"
        f"try:\n    imgkit.finetune('resnet50', data='digits', {options})\n"
        "except imgkit.ImgkitError as error:\n    print(error.message, 'torch' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert message in run.stdout
    assert run.stdout.endswith("False\n")


def test_a_misspelt_optimizer_is_told_before_the_images_are_read(tmp_path: Path) -> None:
    broken = tmp_path / "pictures" / "cat"
    broken.mkdir(parents=True)
    (broken / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"Unknown optimizer 'adamv' \(did you mean 'adam'\?\)"):
        imgkit.finetune("resnet50", data=tmp_path / "pictures", out=tmp_path, sets=["phases.all.optimizer=adamv"])


@pytest.mark.parametrize(
    ("model", "sets", "message"),
    [
        ("test_resnet", ["phases.all.train=last:99"], "last:99"),
        ("test_resnet", ["train.optimizer=fusedadam"], "'fusedadam' cannot be made here"),
        ("deit_tiny_distilled_patch16_224", [], "only a single linear head can be solved"),
    ],
)
def test_what_a_phase_asks_of_the_network_is_checked_before_the_run_begins(
    tmp_path: Path, model: str, sets: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        imgkit.finetune(model, weights="none", data="synthetic:2x4", out=tmp_path / "runs", sets=sets)
    assert not (tmp_path / "runs").exists()


def test_a_model_that_cannot_be_had_is_told_before_the_images_are_read(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        broken = tmp_path / "pictures" / name
        broken.mkdir(parents=True)
        (broken / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="Unknown model 'resnet5O'"):
        imgkit.finetune("resnet5O", data=tmp_path / "pictures", out=tmp_path)
    with pytest.raises(WeightsError, match="Cannot get the pretrained weights of resnet50"):
        imgkit.finetune("resnet50", data=tmp_path / "pictures", out=tmp_path)
    with pytest.raises(DataError):
        imgkit.scratch("resnet50", data=tmp_path / "pictures", out=tmp_path)
