"""Workers of a sweep: no trial is lost, none is doubled, whoever is killed."""

import io
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pretended_sweeps import go, in_a_fork, none_lost_or_doubled, pretending, record_in, wait_for, write_sweep

from imgkit.errors import DataError, ImgkitError, Interrupted, UsageError
from imgkit.run import RunFolder
from imgkit.signals import Request
from imgkit.studies.work import Outcome
from imgkit.sweeps.plan import Aim, Asked, ask
from imgkit.sweeps.storage import JOURNAL, shown_url
from imgkit.sweeps.work import Watch


def asked_in(folder: Path, trials: int = 4, more: str = "", **over: Any) -> Asked:  # noqa: ANN401
    return ask(write_sweep(folder, trials, more), out=folder / "out", **over)


def test_three_workers_of_which_one_is_killed(tmp_path: Path) -> None:
    asked = asked_in(tmp_path, 9)
    workers = [in_a_fork(lambda: go(asked, pretending(epoch_s=0.06))) for _ in range(3)]
    wait_for(tmp_path, 3)
    os.kill(workers[1], signal.SIGKILL)
    ends = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    assert ends == [0, -signal.SIGKILL, 0]
    none_lost_or_doubled(tmp_path, 9)


def test_all_workers_are_killed_and_the_same_call_goes_on(tmp_path: Path) -> None:
    asked = asked_in(tmp_path, 5)
    workers = [in_a_fork(lambda: go(asked, pretending(epoch_s=0.1))) for _ in range(2)]
    wait_for(tmp_path, 2)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    said = io.StringIO()
    go(asked, pretending(), said)
    assert said.getvalue().count("left by another worker") == 2
    none_lost_or_doubled(tmp_path, 5)


def test_a_kill_between_the_draw_and_the_run_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_in(tmp_path, 3)

    def killed() -> None:
        monkeypatch.setattr("imgkit.sweeps.work.suggest", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        go(asked, pretending())

    assert os.waitstatus_to_exitcode(os.waitpid(in_a_fork(killed), 0)[1]) == -signal.SIGKILL
    go(asked, pretending())
    none_lost_or_doubled(tmp_path, 3)


def test_one_seed_gives_one_search_and_a_longer_one_begins_with_it(tmp_path: Path) -> None:
    for name, parts in (("once", [6]), ("twice", [3, 6])):
        for trials in parts:
            go(asked_in(tmp_path / name, trials, 'pruner = "none"\nstartup_trials = 2'), pretending())
    once, twice = (record_in(tmp_path / name) for name in ("once", "twice"))
    assert [row.params for row in once.rows] == [row.params for row in twice.rows]
    assert len({row.params["phases.head.lr"] for row in once.rows}) == 6, "no two trials are one point"
    best = min(once.rows, key=lambda row: row.params["phases.head.lr"])
    assert once.best is not None
    assert once.best.number == best.number


def test_a_run_is_pruned_where_it_is_below_the_median_and_says_so(tmp_path: Path) -> None:
    scores = iter([0.9, 0.8, 0.7, 0.1])
    of: dict[str, float] = {}

    def score(values: Any, epoch: int) -> float:  # noqa: ANN401
        return (
            of.setdefault(values["phases.head.lr"], 0.0)
            or of.__setitem__(values["phases.head.lr"], next(scores))
            or of[values["phases.head.lr"]]
        )

    go(asked_in(tmp_path, 4, "startup_trials = 3\nwarmup_epochs = 1"), pretending(score))
    rows = record_in(tmp_path).rows
    assert [row.state for row in rows] == ["finished", "finished", "finished", "pruned"]
    status = RunFolder(tmp_path / "out" / rows[3].run).read_json("status.json")
    assert (status["state"], status["step"]) == ("stopped", 2), "the first evaluation never prunes"
    assert status["reason"] == rows[3].reason
    assert status["reason"].startswith("pruned: val/f1_macro 0.1 at epoch 2 is worse than the median")
    assert rows[3].epochs == [0.1, 0.1]


def test_a_trial_that_is_taken_up_is_judged_by_its_newest_epoch(tmp_path: Path) -> None:
    known = SimpleNamespace(intermediate_values={0: 0.9, 1: 0.1})
    trial: Any = SimpleNamespace(_cached_frozen_trial=known, should_prune=lambda: True)
    trials: Any = SimpleNamespace(asked=asked_in(tmp_path), beat=lambda _: None)
    folder = RunFolder(tmp_path)
    folder.write_json("status.json", {"total_steps": 9})
    epochs = [{"epoch": 1, "step": 1, "val/f1_macro": 0.9}, {"epoch": 2, "step": 2, "val/f1_macro": 0.1}]
    (tmp_path / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in epochs))
    watch = Watch(trials, trial, Aim("val/f1_macro", "single"), folder, Request())
    watch.look()
    assert watch.pruned == epochs[1]


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/x", "postgresql://host/x?password=secret&user=me"])
def test_no_password_is_shown(url: str) -> None:
    assert "secret" not in shown_url(url)
    assert "me" in shown_url(url)


def test_a_failed_trial_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    jobs: list[Any] = []
    well = pretending(jobs=jobs)

    def worker(job: Any, request: Any, meanwhile: Any) -> Outcome:  # noqa: ANN401
        if job["do"] == "command" and "trial0001-seed0" in job["words"]:
            return Outcome(6, message="the loss is no longer finite")
        return well(job, request, meanwhile)

    go(asked_in(tmp_path), worker)
    rows = record_in(tmp_path).rows
    assert [row.state for row in rows] == ["finished", "failed", "finished", "finished"]
    assert rows[1].reason == "failed with exit code 6: the loss is no longer finite"
    hopeless = lambda job, request, meanwhile: Outcome(0, {}) if job["do"] == "look" else Outcome(6, message="no")  # noqa: E731
    with pytest.raises(ImgkitError, match="None of 3 trials has ended well; the last one: failed with exit code 6: no"):
        go(asked_in(tmp_path / "all", 9), hopeless)


def test_what_is_no_fault_of_a_trial_leaves_it_to_be_taken_up(tmp_path: Path) -> None:
    asked = asked_in(tmp_path)
    gone = lambda job, *_: Outcome(0, {}) if job["do"] == "look" else Outcome(3, kind="DataError", message="x is gone")  # noqa: E731
    with pytest.raises(DataError, match="x is gone"):
        go(asked, gone)

    def interrupted(job: Any, request: Any, meanwhile: Any) -> Outcome:  # noqa: ANN401
        if job["do"] != "look":
            os.kill(os.getpid(), signal.SIGINT)
        return Outcome(130) if job["do"] != "look" else Outcome(0, {})

    with pytest.raises(Interrupted, match="Stopped in trial 0"):
        go(asked, interrupted)
    go(asked, pretending())
    none_lost_or_doubled(tmp_path, 4)


def test_test_is_scored_once_of_the_chosen_trial_alone(tmp_path: Path) -> None:
    jobs: list[Any] = []
    asked = asked_in(tmp_path)
    done = go(asked, pretending(jobs=jobs, tested=True))
    assert done.record is not None
    assert done.record.best is not None
    (scored,) = [job["words"] for job in jobs if job["do"] == "command" and job["words"][0] == "evaluate"]
    assert scored[1] == done.record.best.run
    assert all(
        "score_test=false" in job["words"] for job in jobs if job["do"] == "command" and job["words"][0] == "finetune"
    )
    jobs.clear()
    go(asked, pretending(jobs=jobs, tested=True))
    assert jobs == [], "what is done is not done again, and not looked at"


def test_another_space_under_the_same_name_is_refused(tmp_path: Path) -> None:
    go(asked_in(tmp_path), pretending())
    file = tmp_path / "small.toml"
    file.write_text(file.read_text().replace("1e-1", "1e-2"))
    with pytest.raises(UsageError, match="holds trials of another sweep 'small': space differ"):
        go(ask(file, out=tmp_path / "out"), pretending())
    with pytest.raises(UsageError, match="--set differ") as caught:
        go(asked_in(tmp_path, sets=["train.clip_norm=2"]), pretending())
    assert "It began with:  without --set" in caught.value.hint
    (tmp_path / "out" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="is a run, and a sweep is a folder of runs"):
        go(ask(file, out=tmp_path / "out"), pretending())


def test_a_journal_that_was_cut_is_mended(tmp_path: Path) -> None:
    go(asked_in(tmp_path, 2), pretending())
    with (tmp_path / "out" / JOURNAL).open("a") as stream:
        stream.write('{"op_code": 4, "wor')
    go(asked_in(tmp_path, 4), pretending())
    none_lost_or_doubled(tmp_path, 4)


def test_without_optuna_one_line_says_how_it_is_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        go(asked_in(tmp_path), pretending())
    assert caught.value.hint == 'Install it:  pip install "imgkit-timm[sweep]"'
