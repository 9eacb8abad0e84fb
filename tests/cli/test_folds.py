"""`finetune` and `scratch --folds K` as they are typed; what they do is in tests/studies/test_folds.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from pictures import MakeFolders
from study_worker import forking

pytest_plugins = ["cli_fixture"]
SMALL = ("--image-size", "32", "--epochs", "1", "--workers", "0", "--set", "train.precision=float32")


def said(text: str) -> str:
    return " ".join(text.split())


def test_a_dry_run_shows_the_folds_and_one_plan_and_writes_nothing(
    imgkit: Run, make_folders: MakeFolders, tmp_path: Path
) -> None:
    root, out = make_folders({"cat": 12, "dog": 12}), tmp_path / "runs"
    words = ("scratch", "test_resnet", "--data", str(root), *SMALL, "--folds", "3", "--out", str(out), "--dry-run")
    code, _, err = imgkit(*words)
    assert code == 0
    assert "fold3-seed0: train 12 · val 4, of the other folds · scored on 8" in said(err)
    assert "24 images in 3 folds (by class, split seed 0)." in said(err)
    assert "class cat: train 6, val 2, test 4" in said(err)
    assert not out.exists()


def test_the_same_command_goes_on_and_tells_what_all_folds_come_to(
    imgkit: Run, make_folders: MakeFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Mapping[str, Any]] = []
    monkeypatch.setattr("imgkit.studies.work.in_a_process", forking(jobs))
    root, out = make_folders({"cat": 12, "dog": 12}), tmp_path / "runs"
    words = ("scratch", "test_resnet", "--data", str(root), *SMALL, "--folds", "2", "--out", str(out))
    code, text, _ = imgkit(*words)
    assert code == 0
    assert "2 trainings, each scored once on the fold that it did not see; 24 images, each answered once." in said(text)
    assert "accuracy of the folds: " in text
    place = out / "2fold-scratch-test_resnet-pictures"
    assert sorted(entry.name for entry in place.iterdir() if not entry.name.startswith(".")) == [
        *("fold1-seed0", "fold2-seed0", "folds.csv", "folds.json", "folds.md", "latest", "oof.csv")
    ]
    code, again, _ = imgkit(*words)
    assert (code, again, len(jobs)) == (0, text, 2)
    code, _, err = imgkit(*words, "--split-seed", "1")
    assert code == 2
    assert "folds.csv has other folds" in said(err)
    code, _, err = imgkit(*words, "--smoke")
    assert code == 2
    assert "fold1-seed0 was trained with other values: smoke false there, true here" in said(err)
    assert "Choose another --name for a cross-validation anew, or remove these folders." in said(err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--print-recipe"], "--print-recipe prints one recipe, and --folds makes several runs."),
        (["--name", "../x"], "--name '../x' cannot be the name of a folder."),
        (["--folds", "13"], "Class 'cat' has 12 images, and each of 13 folds needs one to be scored on."),
        (["--folds", "1"], "With --folds 1 nothing is left to train on"),
    ],
)
def test_what_cannot_be_done_is_told(
    imgkit: Run, make_folders: MakeFolders, tmp_path: Path, words: list[str], told: str
) -> None:
    root = make_folders({"cat": 12, "dog": 12})
    command = ("scratch", "test_resnet", "--data", str(root), "--folds", "3", "--out", str(tmp_path / "runs"), *words)
    code, _, err = imgkit(*command)
    assert code in (2, 3)
    assert told in said(err)
    assert not (tmp_path / "runs").exists()
