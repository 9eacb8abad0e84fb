import io
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_runs import metrics_of, write_run

from imgkit.errors import DiskError, UsageError
from imgkit.report.collect import collect, groups, other_formats, read_run, summarise_run
from imgkit.run import RunFolder
from imgkit.run_names import runs_in


def test_a_run_becomes_a_row(tmp_path: Path) -> None:
    (run,) = collect(write_run(tmp_path, "one", f1=0.8).path.parent)
    assert (run.name, run.status, run.model, run.recipe) == ("one", "finished", "resnet50", "finetune")
    assert (run.data, run.parameters, run.seconds) == ("cells/ (from --data)", 23_600_000, 61.0)
    assert run.score is not None
    assert (run.score.split, run.score.n, run.score.merit) == ("val", 100, 0.8)
    assert run.score.measured["top1"].value == 0.9
    assert run.score.measured["f1_macro"].interval == pytest.approx((0.74, 0.83))
    assert run.ranked


def test_test_counts_before_val_and_other_data_never(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", f1=0.8)
    for name, f1 in (("test@10", 0.7), ("pets-all@10", 0.99), ("test@20", 0.98)):
        place = folder.path / "evaluations" / name
        place.mkdir()
        (place / "metrics.json").write_text(json.dumps(metrics_of(name.split("@")[0], 0.9, f1)))
    score = summarise_run(folder).score
    assert score is not None
    assert (score.split, score.merit) == ("test", 0.7)  # of step 10, the best one


def test_without_a_best_step_the_newest_evaluation_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", f1=0.8)
    status = folder.read_json("status.json")
    folder.write_json("status.json", {key: value for key, value in status.items() if key != "best"})
    place = folder.path / "evaluations" / "val@9"
    place.mkdir()
    (place / "metrics.json").write_text(json.dumps(metrics_of("val", 0.9, 0.1)))
    score = summarise_run(folder).score
    assert score is not None
    assert score.merit == 0.8


def test_states(tmp_path: Path) -> None:
    assert summarise_run(write_run(tmp_path, "a", state="failed")).status == "failed: the loss is not finite"
    assert summarise_run(write_run(tmp_path, "b", state="stopped")).status == "stopped"
    running = write_run(tmp_path, "c", state="running", f1=None)
    assert summarise_run(running).status == "running"
    assert not summarise_run(running).ranked
    old = (datetime.now(UTC) - timedelta(hours=3, seconds=20)).isoformat()
    running.write_json("status.json", running.read_json("status.json") | {"heartbeat": old})
    assert summarise_run(running).status == "running, silent for 3 h 00 min"
    gone = subprocess.Popen(["true"])
    for pid, told in ((os.getpid(), "running, silent for 3 h 00 min"), (gone.pid, "killed")):
        gone.wait()
        running.write_json("status.json", running.read_json("status.json") | {"host": gethostname(), "pid": pid})
        assert summarise_run(running).status == told


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("run.json", "{", "cannot be read"),
        ("run.json", "[]", "should hold a JSON object"),
        ("run.json", "{}", "unexpected content (KeyError"),
        ("run.json", '{"data": 3, "parameters": 1}', "unexpected content (KeyError"),
        ("run.json", '{"data": 3, "parameters": 1, "model": ""}', "unexpected content (KeyError"),
        ("run.json", '{"data": 3, "parameters": 1, "model": "", "recipe": ""}', "unexpected content (TypeError"),
        ("status.json", "", "cannot be read"),
        ("status.json", None, "cannot be read"),
        ("evaluations/val@10/metrics.json", "{}", "unexpected content"),
        ("history.jsonl", "[1]\n", "unexpected content"),
    ],
)
def test_a_broken_folder_is_listed_with_its_reason(tmp_path: Path, file: str, text: str | None, reason: str) -> None:
    write_run(tmp_path, "good")
    folder = write_run(tmp_path, "bad")
    if text is None:
        (folder.path / file).unlink()
    else:
        (folder.path / file).write_text(text)
    bad, good = collect(tmp_path)
    assert bad.status.startswith("broken: ")
    assert reason in bad.status
    assert not bad.ranked
    assert good.ranked
    assert groups([bad, good]) == [[good], [bad]]


@pytest.mark.parametrize("schema", [0, 2, "two\x1b", None, [1]])
def test_runs_of_another_format_are_left_out_by_name(tmp_path: Path, schema: object) -> None:
    write_run(tmp_path, "good", schema=1)
    write_run(tmp_path, "old")
    other = write_run(tmp_path, "other", schema=schema)
    damaged = write_run(tmp_path, "damaged")
    (damaged.path / "run.json").write_text("{")
    assert [run.name for run in collect(tmp_path)] == ["damaged", "good", "old"]
    assert other_formats(tmp_path) == ["other"]
    told = r"other is a run of another format: its run\.json has schema .*, and this imgkit reads 1\.\nLook at it"
    with pytest.raises(DiskError, match=told):
        read_run(other)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(["data", "model", "parameters", "created", "smoke", "classes"]), value=json_values)
@example(key="parameters", value=float("inf"))
@settings(max_examples=60, deadline=None)
def test_no_content_crashes_the_collection(tmp_path_factory: pytest.TempPathFactory, key: str, value: object) -> None:
    folder = write_run(tmp_path_factory.mktemp("runs"), "one")
    folder.write_json("run.json", folder.read_json("run.json") | {key: value})
    (run,) = collect(folder.path.parent)
    assert run.name == "one"


def test_only_run_folders_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path, "run")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "run.json").touch()
    (tmp_path / "latest").write_text("run\n")
    assert [run.name for run in collect(tmp_path)] == ["run"]
    with pytest.raises(DiskError, match="gone cannot be listed: No such file"):
        collect(tmp_path / "gone")


def test_a_folder_that_may_not_be_looked_into_is_told_and_the_others_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "open")
    write_run(tmp_path, "closed")
    close(tmp_path / "closed", monkeypatch)
    closed, shown = collect(tmp_path)
    assert closed.status == f"broken: {tmp_path / 'closed' / 'run.json'} cannot be read: Permission denied."
    assert (shown.name, shown.status) == ("open", "finished")
    assert runs_in(tmp_path) == ["open"]
    with pytest.raises(UsageError, match=r"closed is no run: it may not be looked into \(Permission denied\)"):
        RunFolder.open("closed", tmp_path)


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `chmod 000` does to everybody but root."""

    def refusing(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: str | Path, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
            if folder in Path(path).parents:
                raise PermissionError(13, "Permission denied", str(path))
            return ask(path, *rest, **more)

        return asked

    monkeypatch.setattr(os, "stat", refusing(os.stat))
    monkeypatch.setattr(io, "open", refusing(io.open))


def test_runs_are_compared_on_the_same_data_only(tmp_path: Path) -> None:
    write_run(tmp_path, "low", f1=0.5)
    write_run(tmp_path, "high", f1=0.9)
    write_run(tmp_path, "unscored", f1=None)
    write_run(tmp_path, "smoke", f1=0.99, smoke=True)
    write_run(tmp_path, "tested", f1=0.4, split="test")
    write_run(tmp_path, "old", f1=0.95, fingerprint="bb" * 32, created="2025-01-01")
    names = [[run.name for run in group] for group in groups(collect(tmp_path))]
    assert names[0][:3] == ["tested", "high", "low"]  # a test score is not beaten by a score on val
    assert set(names[0][3:]) == {"unscored", "smoke"}
    assert names[1] == ["old"]


def test_the_group_of_the_newest_run_comes_first(tmp_path: Path) -> None:
    write_run(tmp_path, "a", created="2026-01-01")
    write_run(tmp_path, "b", fingerprint="bb" * 32, created="2026-02-01")
    assert [group[0].name for group in groups(collect(tmp_path))] == ["b", "a"]


def test_summary_writes_nothing(tmp_path: Path, tree_hash) -> None:  # noqa: ANN001
    write_run(tmp_path, "a")
    before = tree_hash(tmp_path)
    collect(tmp_path)
    assert tree_hash(tmp_path) == before
    assert RunFolder(tmp_path / "a").name == "a"
