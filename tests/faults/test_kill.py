"""T-K: SIGKILL at any instant, with any number of workers: the resumed run ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from lives import POINTS, SAVE_EVERY, Blow, End, kill_again_and_again, life, newest, start_or_resume
from oracle import fingerprint, short_run, write_recipe
from tally import Tally, share

from imgkit import Run, checkpoint, open_run
from imgkit.report.collect import collect
from imgkit.run import RunFolder
from imgkit.scoring import store
from imgkit.trainer import Trainer

HITS = 5  # kills at each point
ROUNDS, KILLS = ("first", "second", "third", "fourth"), 36  # of kills at random instants, in each
FRESH_KILLS = 10
TESTED, TESTED_DATA = ("data.test=0.25",), "synthetic:3x24"


def check(seen: Counter[str], tally: Tally) -> None:
    """The figures of `kill_again_and_again` are good; count them."""
    assert (seen["mismatches"], seen["left"]) == (0, 0)
    assert seen["repeated"] <= SAVE_EVERY
    tally.most("T-K", repeated=seen.pop("repeated"))
    tally.count("T-K", **seen)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", share(POINTS, quick=("write train.safetensors", "before rename", "prune")))
def test_kills_at_each_point_of_a_save(tmp_path: Path, end: End, tally: Tally, whole: bool, point: str) -> None:
    draw, kills = random.Random(point), HITS if whole else 3
    seen = kill_again_and_again(tmp_path, end.print, draw, kills, lambda: ((point, draw.choice([1, 2, 3])), None))
    check(seen, tally)
    tally.count("T-K", inside=seen["kills"], points=seen["kills"] >= 3)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", share(ROUNDS, quick=ROUNDS[:1]))
def test_kills_at_random_instants(tmp_path: Path, end: End, tally: Tally, whole: bool, name: str) -> None:
    draw = random.Random(name)
    kills = KILLS if whole else 8

    def blow() -> Blow:
        return None, draw.uniform(0.1, end.seconds)

    check(kill_again_and_again(tmp_path, end.print, draw, kills, blow), tally)


def begin_beside(folder: Path, workers: int) -> Run:
    """A run that saves after every update, beside the next one."""
    return short_run(folder, "save.every_steps=none", "save.every_minutes=1e-9", workers=workers)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", share(("beside the first", "beside the second"), quick=("beside the first",)))
def test_kills_while_updates_are_made_beside_a_save(
    tmp_path: Path, end: End, tally: Tally, monkeypatch: pytest.MonkeyPatch, whole: bool, name: str
) -> None:
    """What is being written is lost, and one update more: the next save waits for it. That is no more than above."""
    monkeypatch.setattr(checkpoint, "reached", lambda point: time.sleep(0.003))
    draw = random.Random(name)

    def blow() -> Blow:
        return None, draw.uniform(0.1, 2 * end.seconds)

    check(kill_again_and_again(tmp_path, end.print, draw, KILLS if whole else 2, blow, begin_beside), tally)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", share(POINTS, quick=("write train.safetensors", "after rename")))
def test_kills_at_each_point_of_a_save_beside_updates(
    tmp_path: Path, end: End, tally: Tally, whole: bool, point: str
) -> None:
    draw, kills = random.Random(f"beside {point}"), HITS if whole else 2
    seen = kill_again_and_again(
        tmp_path, end.print, draw, kills, lambda: ((point, draw.randint(1, 9)), None), begin_beside
    )
    check(seen, tally)
    tally.count("T-K", inside=seen["kills"])


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", share(("moments", "removal of parts", "saves between epochs"), quick=("moments",)))
def test_the_check_notices_what_is_missing(
    tmp_path: Path, end: End, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "moments":
        restore = Trainer.restore
        monkeypatch.setattr(Trainer, "restore", lambda self, model, tensors, *rest: restore(self, model, {}, *rest))
    elif what == "removal of parts":
        monkeypatch.setattr(RunFolder, "clean", lambda self: None)
    else:
        monkeypatch.setattr("imgkit.experiment.Experiment._poll", lambda self, phase: None)
    point = "before rename" if what != "moments" else "after rename"
    seen = kill_again_and_again(tmp_path, end.print, random.Random(0), 1, lambda: ((point, 4), None))
    noticed = {"moments": "mismatches", "removal of parts": "left", "saves between epochs": "repeated"}[what]
    assert seen[noticed] > (SAVE_EVERY if noticed == "repeated" else 0)
    tally.count("mutants", caught=1, escaped=0)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_kills_while_a_run_begins_leave_its_name_free(tmp_path: Path, end: End, tally: Tally) -> None:
    folder, place = tmp_path / "killed", tmp_path / "killed" / "runs" / "run"
    places = ["RunFolder.write_text", "RunFolder.set_status", "RunFolder.write_json", "_name", "RunFolder.announce"]
    for number, name in enumerate(places):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"imgkit.run.{name}", die)
            assert life(partial(start_or_resume, folder, 0)) == -signal.SIGKILL
        assert place.exists() == (place / "run.json").exists() == (name == "RunFolder.announce")
        hidden = [entry.name for entry in place.parent.iterdir() if entry != place]
        assert len(hidden) == min(number + 1, 4), "one of each start that did not get to its name"
        assert all(entry.startswith(".run.tmp-") for entry in hidden)
        assert [run.name for run in collect(place.parent)] == ["run"] * place.exists()
    assert life(lambda: start_or_resume(folder, 0)) == 0
    assert fingerprint(open_run("run", place.parent)) == end.print
    tally.count("T-K", kills=len(places), mismatches=0)


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a test split that nobody disturbs."""
    return short_run(tmp_path_factory.mktemp("oracle"), *TESTED, data=TESTED_DATA)


@pytest.mark.parametrize(
    "place",
    [
        "experiment.store",
        "finish.export_best",
        "finish.calibrate",
        "finish.save_model_folder",
        "finish.store",
        "finish._say_result",
    ],
)
def test_kills_between_the_last_update_and_the_end(tmp_path: Path, tally: Tally, tested: Run, place: str) -> None:
    work = partial(short_run, tmp_path / "killed", *TESTED, data=TESTED_DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"imgkit.{place}", die)
        assert life(work) == -signal.SIGKILL
    assert life(lambda: start_or_resume(tmp_path / "killed", 0)) == 0
    killed = open_run("run", tmp_path / "killed" / "runs")
    check_ends(tested, killed)
    tally.count("T-K", kills=1, mismatches=0)


def check_ends(undisturbed: Run, killed: Run) -> None:
    """Both have the same checkpoint, scores and model."""
    assert fingerprint(killed) == fingerprint(undisturbed)
    assert killed.metrics == undisturbed.metrics
    tensors = [run.folder.path / "model" / "model.safetensors" for run in (undisturbed, killed)]
    assert tensors[0].read_bytes() == tensors[1].read_bytes()


LIMIT = ("time_limit=8s", "save.average_best=3", "monitor=val/loss")


@pytest.mark.parametrize(
    "place", ["experiment.store", "average.store", "finish.export_best", "finish.save_model_folder"]
)
def test_kills_where_the_time_is_up_and_the_best_are_averaged(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("imgkit.experiment.Experiment._elapsed_s", lambda self: float(self.progress.step))
    whole = short_run(tmp_path / "oracle", *LIMIT)
    reached = whole.folder.read_json("status.json")["step"]
    assert reached == 8

    def kill(folder: Path, *arguments: object, **options: object) -> dict[str, object]:
        if place != "experiment.store" or folder.name == f"val@{reached}":
            os.kill(os.getpid(), signal.SIGKILL)
        return store(folder, *arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"imgkit.{place}", kill)
        assert life(partial(short_run, tmp_path / "killed", *LIMIT)) == -signal.SIGKILL
    # However quick the next life is, the end stays where it was.
    monkeypatch.setattr("imgkit.experiment.Experiment._elapsed_s", lambda self: 0.0)
    assert life(lambda: start_or_resume(tmp_path / "killed", 0)) == 0
    killed = open_run("run", tmp_path / "killed" / "runs")
    check_ends(whole, killed)
    statuses = [run.folder.read_json("status.json") for run in (whole, killed)]
    assert [(status["step"], status["reason"], status["best"]) for status in statuses[1:]] == [
        (statuses[0]["step"], statuses[0]["reason"], statuses[0]["best"])
    ]
    tally.count("T-K", kills=1, mismatches=0)


def test_kills_while_a_damaged_checkpoint_is_replaced(tmp_path: Path, end: End, tally: Tally, whole: bool) -> None:
    place, kills = tmp_path / "runs" / "run", 3 if whole else 1
    for number in range(kills):
        # Before the first kill, "before prune" of the fourth save; later, one that goes on from the replaced one.
        assert life(partial(start_or_resume, tmp_path, 0, ("before prune", 1 if number else 4))) == -signal.SIGKILL
        damaged = place / "checkpoints" / f"step-{newest(place):08d}" / "model.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert life(partial(start_or_resume, tmp_path, 0, ("replace", 1))) == -signal.SIGKILL
    assert life(partial(start_or_resume, tmp_path, 0)) == 0
    assert fingerprint(open_run("run", place.parent)) == end.print
    tally.count("T-K", kills=kills, inside=kills, points=1, mismatches=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fresh_processes_with_two_threads_on_lite0(tmp_path: Path, tally: Tally) -> None:
    """The same promise for a real network, in processes that share nothing, killed while they train."""
    runs = str(tmp_path / "runs")
    begin = ["finetune", "tf_efficientnet_lite0", "--recipe", write_recipe(tmp_path), "--data", "synthetic:3x16"]
    begin += ["--out", runs]
    begin += ["--set", "run.threads=2", "--set", "save.every_steps=1", "--set", "phases.all.epochs=8"]

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "imgkit", *arguments]
        return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)

    assert start(*begin, "--name", "oracle").wait(600) == 0
    draw = random.Random(1)
    kills = 0
    place = tmp_path / "runs" / "killed"
    while kills < FRESH_KILLS:
        known = (place / "run.json").is_file()
        resumed = ("resume", "killed", "--runs", runs, "--workers", str(draw.choice([0, 1, 2])))
        before = newest(place)
        process = start(*(resumed if known else (*begin, "--name", "killed")))
        # Let it get one checkpoint further, then kill it a random moment later.
        while process.poll() is None and newest(place) <= before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        assert process.poll() is None, "the run is long enough for every kill"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert start("resume", "killed", "--runs", runs).wait(600) == 0
    oracle, killed = (open_run(name, tmp_path / "runs") for name in ("oracle", "killed"))
    assert fingerprint(oracle) == fingerprint(killed)
    tally.count("T-K", kills=kills, mismatches=0)
