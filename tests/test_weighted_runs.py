"""Runs with class weights and with a plateau, from the recipe to the checkpoint."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from oracle import fingerprint, short_run, write_recipe
from pictures import MakeFolders

from imgkit import checkpoint, head, resume
from imgkit.api import show_plan
from imgkit.errors import Interrupted, RecipeError
from imgkit.scaled import Floats
from imgkit.screen import Screen
from imgkit.solve import Solution

FAST = ("phases.top.steps=2", "phases.all.epochs=1")


@pytest.fixture
def rare_dogs(make_folders: MakeFolders) -> str:
    return str(make_folders({"train/cat": 12, "train/dog": 4, "val/cat": 3, "val/dog": 3}))


def test_weights_are_shown_kept_and_used_by_the_solve_and_the_updates(
    tmp_path: Path, rare_dogs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[Floats | None] = []

    def spy(*args: Any, weights: Floats | None, **given: Any) -> Solution:  # noqa: ANN401
        weighed.append(weights)
        return solve(*args, weights=weights, **given)

    solve = head.solve_head
    monkeypatch.setattr("imgkit.head.solve_head", spy)
    plain = short_run(tmp_path / "plain", *FAST, data=rare_dogs)
    found = short_run(tmp_path / "inverse", *FAST, "loss.class_weights=inverse", data=rare_dogs)
    by_class = {"cat": pytest.approx(2 / 3), "dog": pytest.approx(2.0)}
    about = found.folder.read_json("run.json")
    assert about["loss_weights"] == {"head": by_class, "top": by_class, "all": by_class}
    assert plain.folder.read_json("run.json")["loss_weights"] == {}
    assert weighed[0] is None
    assert weighed[1] is not None
    assert sorted(weighed[1]) == pytest.approx([2 / 3] * 12 + [2.0] * 4)
    assert fingerprint(plain) != fingerprint(found)
    only_late = short_run(tmp_path / "late", *FAST, "phases.all.loss.class_weights=inverse", data=rare_dogs)
    assert set(only_late.folder.read_json("run.json")["loss_weights"]) == {"all"}
    assert len({fingerprint(run) for run in (plain, found, only_late)}) == 3


def test_a_file_of_weights_is_kept_by_value(tmp_path: Path, rare_dogs: str) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("class,weight\ndog,6\ncat,2\n")
    sets = (*FAST, f"loss.class_weights={file}")
    whole = short_run(tmp_path / "whole", *sets, data=rare_dogs)
    assert whole.folder.read_json("run.json")["loss_weights"]["all"] == pytest.approx({"cat": 2 / 3, "dog": 2.0})

    def stop(point: str) -> None:
        if point == "before prune":
            raise Interrupted("stop", signal=15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", stop)
        with pytest.raises(Interrupted):
            short_run(tmp_path / "cut", *sets, data=rare_dogs)
    file.write_text("class,weight\ncat,1000\nmouse,1\n")
    assert fingerprint(resume("run", out=tmp_path / "cut" / "runs")) == fingerprint(whole)


def test_a_dry_run_shows_the_weights(tmp_path: Path, rare_dogs: str) -> None:
    text = StringIO()
    show_plan(
        "finetune",
        "test_resnet",
        recipe=write_recipe(tmp_path),
        data=rare_dogs,
        out=tmp_path / "runs",
        sets=["loss.class_weights=sqrt", "phases.all.loss.class_weights=effective"],
        screen=Screen(file=text),
    )
    lines = [line.strip() for line in text.getvalue().splitlines() if line.strip().startswith("weights: cat")]
    assert lines == ["weights: cat 0.845, dog 1.46"] * 2 + ["weights: cat 0.668, dog 2"]


def test_a_file_that_does_not_fit_stops_before_anything_is_written(tmp_path: Path, rare_dogs: str) -> None:
    file = tmp_path / "weights.json"
    file.write_text('{"cat": 1, "dogs": 2}')
    with pytest.raises(RecipeError) as caught:
        short_run(tmp_path, f"loss.class_weights={file}", data=rare_dogs)
    assert caught.value.exit_code == 2
    assert caught.value.message == (
        f"loss.class_weights = '{file}': the data have no class dogs (did you mean 'dog'?)."
    )
    assert not (tmp_path / "runs").exists()


def test_a_plateau_lowers_the_rate_between_epochs_and_says_so(tmp_path: Path) -> None:
    plateau = ("name=plateau", "patience=0", "factor=0.5", "threshold=0.9", "watch=val/top1")
    run = short_run(tmp_path, "phases.all.epochs=4", *(f"phases.all.schedule.{key}" for key in plateau))
    rows = [row for row in run.folder.history() if row["phase"] == "all"]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
    said = (run.folder.path / "log.txt").read_text()
    assert said.count("the score stands still: the rate is now") == 2
    assert "the rate is now 0.25 times the schedule's" in said
