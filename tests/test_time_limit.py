import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from oracle import short_run

from imgkit import checkpoint
from imgkit.duration import parse_seconds
from imgkit.errors import RecipeError
from imgkit.experiment import Experiment
from imgkit.recipe.load import Flag, load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.time_limit import TimeLimit


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2 h", 7200), ("1h 30m", 5400), ("0.5m", 30)]
)
def test_times_carry_their_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["10", "0s", "ten minutes", "5 m 3", "-3s", ""])
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(RecipeError, match=r"--time: time_limit: .* is not a time; write '90s', '10m'") as caught:
        load_recipe("finetune", flags={"time_limit": Flag("--time", text)})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("given", ["time_limit=10m", "save.average_best=3", "save.keep_best=2"])
def test_a_recipe_that_only_solves_reads_none_of_these(given: str) -> None:
    with pytest.raises(RecipeError, match=r"is not used: every phase of 'probe' is solved"):
        make_plan(load_recipe("probe", sets=[given]), 100)


def test_closing_the_run_is_reserved() -> None:
    limit = TimeLimit("1m", closings=2.5)
    assert limit.left_s(10.0, 0.0) == 50.0
    assert limit.left_s(10.0, 4.0) == 40.0
    assert TimeLimit(None, closings=1).left_s(1e9, 1e9) == math.inf


@pytest.mark.parametrize(("lr", "words"), [(1e-3, "its top 0.001"), (None, "phases that follow are left out")])
def test_what_it_means_for_the_schedule_is_said(lr: float | None, words: str) -> None:
    phase = SimpleNamespace(lr=lr)
    assert words in TimeLimit("1m", closings=1).unfinished(phase, 5e-4)  # type: ignore[arg-type]


def test_a_run_stops_in_time_on_the_same_path_and_ends_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = short_run(tmp_path / "whole", "save.every_steps=1", "save.keep=all")
    monkeypatch.setattr(Experiment, "_elapsed_s", lambda self: float(self.progress.step))
    cut = short_run(tmp_path / "cut", "time_limit=8s", "save.keep=all")
    status = cut.folder.read_json("status.json")
    assert (status["state"], status["step"]) == ("finished", 8)
    assert status["reason"] == "time limit of 8s: stopped at step 8 of 14"
    assert cut.folder.history()[-1]["step"] == 8, "within an epoch, and evaluated"
    assert (cut.folder.path / "model" / "model.safetensors").is_file()
    both = [checkpoint.read(run.folder.path / "checkpoints", 8) for run in (whole, cut)]
    assert all(torch.equal(both[0].model[name], both[1].model[name]) for name in both[0].model)
    log = (cut.folder.path / "log.txt").read_text()
    assert "the schedule is not at its" in log


def test_a_limit_that_is_long_enough_changes_nothing(tmp_path: Path) -> None:
    run = short_run(tmp_path, "time_limit=1h 30m")
    status = run.folder.read_json("status.json")
    assert (status["step"], status["reason"]) == (status["total_steps"], "")
