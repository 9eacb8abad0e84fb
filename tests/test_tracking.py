"""Trackers: what they are told, that a resume doubles nothing, and that none of them can stop a run."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from oracle import fingerprint, short_run

from imgkit import resume
from imgkit.errors import Interrupted, UsageError
from imgkit.experiment import Experiment
from imgkit.run import RunFolder
from imgkit.tracking import PACKAGED, TRACKERS, Tracking, check_trackers


class Told:
    """A tracker that writes down what it is told, over all lives of a run."""

    calls: list[tuple[Any, ...]]
    fails_at = ""

    def __call__(self) -> "Told":
        return self

    def __init__(self) -> None:
        self.calls = []

    def _hear(self, *call: object) -> None:
        if call[0] == self.fails_at:
            raise ConnectionError("nobody\nthere")
        self.calls.append(call)

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        self._hear("start", run_dir, dict(config))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._hear("log", step, dict(scalars))

    def image(self, step: int, name: str, path: Path) -> None:
        assert path.is_file()
        self._hear("image", step, name)

    def finish(self, status: str) -> None:
        self._hear("finish", status)

    def numbers(self) -> dict[tuple[str, int], float]:
        """The last value of each name and step."""
        return {(name, call[1]): value for call in self.calls if call[0] == "log" for name, value in call[2].items()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()
    monkeypatch.setitem(TRACKERS._things, "told", found)
    return found


def killed_run(folder: Path, monkeypatch: pytest.MonkeyPatch, *track: str) -> RunFolder:
    """A run that ended three updates after its last checkpoint and was gone on with."""

    def stop(self: Experiment, phase: object) -> None:
        if self.progress.step == 11:
            raise Interrupted("stop")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_poll", stop)
        with pytest.raises(Interrupted):
            short_run(folder, f"run.track={json.dumps(track)}")
    return resume("run", out=folder / "runs").folder


def test_a_run_is_not_called_finished_before_its_trackers_heard_the_end(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[str] = []
    status = tmp_path / "runs" / "run" / "status.json"
    monkeypatch.setattr(
        told, "finish", lambda word: states.append(f"{word}: {json.loads(status.read_text())['state']}")
    )
    folder = short_run(tmp_path, 'run.track=["told"]').folder
    assert states == ["finished: running"], "a kill in between is made good by a resume"
    assert folder.read_json("status.json")["state"] == "finished"
    assert any(name.startswith("final/") for name, _ in told.numbers())


def rows_of(folder: RunFolder) -> dict[tuple[str, int], float]:
    """The numbers of history.jsonl and steps.jsonl, as trackers name them."""
    found = {}
    for group, rows in (("step", folder.rows("steps.jsonl")), ("epoch", folder.history())):
        for row in rows:
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                    found[f"{group}/{name}", row["step"]] = value
    assert len(found) > 50
    return found


def records_of(content: bytes) -> Iterator[bytes]:
    """The records of a file of wandb: after 7 bytes, LevelDB's log, whose blocks of 32 KiB cut records into pieces."""
    at, part = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768  # what is left of a block cannot hold a header
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield part
            part = b""


@pytest.mark.parametrize("name", PACKAGED)
def test_a_missing_package_is_told_before_anything_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"{name} is not installed") as caught:
        short_run(tmp_path, f'run.track=["{name}"]')
    assert f'pip install "imgkit-timm[{name}]"' in caught.value.hint
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_tracker_is_told() -> None:
    with pytest.raises(UsageError, match=r"unknown tracker 'tensorbord' \(did you mean 'tensorboard'\?\)"):
        check_trackers(["tensorbord"])


def test_a_tracker_is_told_all_rows_the_scores_and_the_end(tmp_path: Path, told: Told) -> None:
    run = short_run(tmp_path, 'run.track=["told"]')
    first, last = told.calls[0], told.calls[-1]
    assert first[:2] == ("start", run.folder.path)
    for key, value in {"name": "run", "seed": 3, "train.batch_size": 8, "phases.all.lr": 1e-3}.items():
        assert first[2][key] == value
    assert last == ("finish", "finished")
    found, rows = told.numbers(), rows_of(run.folder)
    final = {key: value for key, value in found.items() if key[0].startswith("final/")}
    assert {key: value for key, value in found.items() if key not in final} == rows
    metrics = run.metrics[f"val@{run.folder.read_json('status.json')['best']['step']}"]
    assert {name: value for (name, _), value in final.items()}["final/val/f1_macro"] == metrics["f1_macro"]


def test_a_life_after_a_kill_has_the_same_id_and_tells_all_again(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = killed_run(tmp_path, monkeypatch, "told")
    starts = [number for number, call in enumerate(told.calls) if call[0] == "start"]
    assert len(starts) == 2
    assert told.calls[starts[0]][2]["id"] == told.calls[starts[1]][2]["id"]
    assert told.calls[starts[1] - 1] == ("finish", "stopped")
    told.calls = told.calls[starts[1] :]
    found = told.numbers()
    assert rows_of(folder).items() <= found.items()


@pytest.mark.parametrize("method", ["start", "log", "image", "finish"])
def test_a_tracker_that_fails_is_told_once_and_stops_nothing(
    tmp_path: Path, told: Told, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fingerprint(short_run(tmp_path / "plain"))
    told.fails_at = method
    monkeypatch.setattr("imgkit.tracked._mistakes", lambda place: [next((place / "images").iterdir()).name])
    run = short_run(tmp_path, 'run.track=["told"]')
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert fingerprint(run) == plain
    log = (run.folder.path / "log.txt").read_text()
    assert log.count("the tracker told failed and is off from here on (ConnectionError:") == 1
    assert ("finish", "finished") not in told.calls


def test_one_that_fails_leaves_the_others(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other, warnings = Told(), list[str]()
    monkeypatch.setitem(TRACKERS._things, "other", other)
    told.fails_at = "log"
    tracking = Tracking(["told", "other"], warnings.append)
    tracking.start(tmp_path, {"id": "1"})
    for step in (1, 2):
        tracking.row("step", {"step": step, "loss": 0.5, "bad": float("nan"), "name": "x", "yes": True, "none": None})
    tracking.finish("failed")
    assert [call[0] for call in told.calls] == ["start"]
    assert other.calls[1:] == [("log", 1, {"step/loss": 0.5}), ("log", 2, {"step/loss": 0.5}), ("finish", "failed")]
    assert len(warnings) == 1
    tracking.finish("finished")
    assert other.calls[-1] == ("finish", "failed"), "nothing follows an end"


@pytest.mark.filterwarnings("ignore")
def test_events_are_the_rows_and_a_resume_doubles_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = killed_run(tmp_path, monkeypatch, "tensorboard")
    found = reading.EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    points = [
        (name, event.step, event.value)
        for name in found.Tags()["scalars"]
        if not name.startswith("final/")
        for event in found.Scalars(name)
    ]
    assert len(points) == len({point[:2] for point in points}), "no step twice"
    assert {point[:2]: point[2] for point in points} == pytest.approx(rows_of(folder), rel=1e-5)
    assert any(name.startswith("final/val/") for name in found.Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_rows_once_in_one_run_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    folder = killed_run(tmp_path, monkeypatch, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder.path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("imgkit").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["train.batch_size"] == "8"
    points = [
        (name, point.step, point.value)
        for name in run.data.metrics
        if not name.startswith("final/")
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    assert len(points) == len({point[:2] for point in points}), "no step twice"
    rows, timed = rows_of(folder), ("epoch/seconds", "epoch/images_per_second")
    same = {point[:2]: point[2] for point in points if point[0] not in timed}
    assert same == {pair: value for pair, value in rows.items() if pair[0] not in timed}


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_the_rows_once_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", exc_type=ImportError)
    from wandb.proto import wandb_internal_pb2

    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    folder = killed_run(tmp_path, monkeypatch, "wandb")
    wandb.teardown()  # its process writes the file
    (file,) = (folder.path / "wandb").glob("offline-run-*/*.wandb")
    found = dict[tuple[str, int], float]()
    for data in records_of(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for name, text in items.items():
            if name.split("/")[0] in ("step", "epoch"):
                pair = (name, int(items["updates"]))
                assert pair not in found, "no step twice"
                found[pair] = json.loads(text)
    assert found == rows_of(folder)
