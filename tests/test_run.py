import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace

import pytest

from imgkit.errors import DiskError, UsageError
from imgkit.files import sweep
from imgkit.run import RunFolder, goes_on, replace_text


def make(out: Path, name: str | None = None) -> RunFolder:
    with RunFolder.create(out, verb="finetune", model="resnet50", data="my cells/", name=name) as folder:
        folder.write_json("run.json", {"schema": 1})
    folder.announce()
    return folder


@pytest.mark.parametrize("name", ["..", "", "a/b", "latest", "report.html", "x" * 300, ".hidden", "-x", "new\nline"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_hidden_until_it_is_whole(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, verb="v", model="m", data="d", name="run") as folder:
        folder.write_text("half.txt", "")
        assert folder.name == "run"
        assert not (tmp_path / "run").exists()
        with pytest.raises(UsageError, match="no run called 'run'"):
            RunFolder.open("run", tmp_path)
    assert folder.path == tmp_path / "run"
    assert (tmp_path / "run" / "half.txt").is_file()
    with (
        pytest.raises(KeyboardInterrupt),
        RunFolder.create(tmp_path, verb="v", model="m", data="d", name="two"),
    ):
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


# Late and empty is left out: the system puts a folder in place of an empty one, which costs nobody anything.
@pytest.mark.parametrize(("empty", "late"), [(False, False), (True, False), (False, True)])
def test_the_second_of_two_starts_at_once_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, empty: bool, late: bool
) -> None:
    def start() -> None:
        with RunFolder.create(tmp_path, verb="v", model="m", data="d", name="run") as folder:
            folder.write_text("mine.txt", "")
            (tmp_path / "run").mkdir()
            if not empty:
                (tmp_path / "run" / "theirs.txt").write_text("")
            if late:  # it comes between the look and the rename
                looks = iter([False, True])
                monkeypatch.setattr("os.path.lexists", lambda _: next(looks))

    with pytest.raises(UsageError, match="There is a run called 'run'"):
        start()
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ([] if empty else ["theirs.txt"])


def test_a_start_removes_old_leftovers_and_nothing_else(tmp_path: Path) -> None:
    now = time.time()
    for name, age_s in {
        ".x.tmp-1f-0a1b2c3d": 25 * 3600,
        ".y.tmp-1f-0a1b2c3d": 23 * 3600,
        ".mine": 25 * 3600,
        "x.tmp-1f-0a1b2c3d": 25 * 3600,
    }.items():
        (tmp_path / name / "data").mkdir(parents=True)
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    (tmp_path / ".latest.tmp-1f-0a1b2c3d").write_text("")
    os.utime(tmp_path / ".latest.tmp-1f-0a1b2c3d", (now - 10**6, now - 10**6))
    make(tmp_path, "run")
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == [".mine", ".y.tmp-1f-0a1b2c3d", "latest", "run", "x.tmp-1f-0a1b2c3d"]


def test_what_this_process_writes_is_no_leftover_whatever_its_age(tmp_path: Path) -> None:
    """A disk's clock may be days behind."""
    own, others = (tmp_path / f".x.tmp-{process:x}-0a1b2c3d" for process in (os.getpid(), os.getpid() + 1))
    for place in (own, others):
        place.mkdir()
        os.utime(place, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_a_taken_name_is_refused_with_the_way_on(tmp_path: Path) -> None:
    make(tmp_path, "first")
    with pytest.raises(UsageError, match="already") as caught:
        make(tmp_path, "first")
    assert f"imgkit resume {tmp_path / 'first'}" in caught.value.hint, "what is typed finds the run"


def test_latest_is_the_newest_run_that_is_left(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c")):
        os.utime(make(tmp_path, name).path / "run.json", (number, number))
    (tmp_path / ".d.tmp-1f-0a1b2c3d").mkdir()
    (tmp_path / ".d.tmp-1f-0a1b2c3d" / "run.json").touch()
    said: list[str] = []
    assert RunFolder.open("latest", tmp_path, said.append).name == "c"
    assert said == []
    shutil.rmtree(tmp_path / "c")
    for number, name in enumerate(("b", "a")):
        (tmp_path / name / "data" / "index.csv").touch()
        os.utime(tmp_path / name / "data" / "index.csv", (number, number))
    (tmp_path / "b" / "run.json").touch()
    assert RunFolder.open("latest", tmp_path, said.append).name == "a"
    assert said == [f"{tmp_path}/latest names c, which is not there any more; the newest run is a"]
    (tmp_path / "latest").unlink()
    assert RunFolder.open("latest", tmp_path, said.append).name == "a"
    assert said[1:] == [f"there is no {tmp_path}/latest; the newest run is a"]
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(UsageError, match="There is no run in"):
        RunFolder.open("latest", tmp_path)


def test_open_by_name_path_and_latest(tmp_path: Path) -> None:
    make(tmp_path, "one")
    two = make(tmp_path, "two")
    assert RunFolder.open("one", tmp_path).path == tmp_path / "one"
    assert RunFolder.open(str(two.path)).name == "two"
    assert RunFolder.open("latest", tmp_path).name == "two"


def test_an_unknown_run_suggests_the_nearest(tmp_path: Path) -> None:
    make(tmp_path, "solar-cells")
    with pytest.raises(UsageError, match="did you mean 'solar-cells'"):
        RunFolder.open("solar-cell", tmp_path)
    with pytest.raises(UsageError, match="no run in"):
        RunFolder.open("latest", tmp_path / "empty")


def test_a_run_without_a_model_says_whether_it_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a b")
    folder.path.mkdir()
    folder.set_status("running", step=1200, total_steps=4000)
    told = folder.without_model()
    assert told.message == (
        f"a b is still running (process {os.getpid()} on {gethostname()}), at step 1,200 of 4,000: it has a model once "
        "it has ended."
    )
    assert told.hint == f"Wait for it; to follow it:  imgkit report '{folder.path}' --watch"
    status = folder.read_json("status.json")
    assert goes_on(status)
    assert goes_on(status | {"host": "elsewhere", "pid": 2**31 - 1}), "its processes cannot be seen from here"
    folder.write_json("status.json", status | {"host": "elsewhere"})
    assert folder.without_model().hint.endswith(f"   If it is gone:  imgkit resume '{folder.path}'")
    folder.write_json("status.json", status | {"pid": 2**31 - 1})
    for _ in range(2):
        told = folder.without_model()
        assert told.message == "a b has no finished model yet."
        assert told.hint == f"Finish it: imgkit resume '{folder.path}'"
        folder.set_status("stopped", step=1200, total_steps=4000)
    (folder.path / "status.json").unlink()
    assert folder.without_model().message == "a b has no finished model yet."


def test_rows_stop_at_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    folder = make(tmp_path, "run")
    folder.append_row("history.jsonl", {"step": 1})
    with (folder.path / "history.jsonl").open("a") as stream:
        stream.write('{"step": 2, "lo')
    assert folder.history() == [{"step": 1}]


def test_clean_removes_only_what_a_kill_left(tmp_path: Path) -> None:
    folder = make(tmp_path, "run")
    (folder.path / ".status.json.tmp-1f-0a1b2c3d").write_text("half")
    (folder.path / "checkpoints" / ".step-00000001.tmp-1f-0a1b2c3d").mkdir()
    (folder.path / "checkpoints" / ".trash-1f-0a1b2c3d").mkdir()
    (folder.path / ".mine").write_text("kept")
    folder.clean()
    assert sorted(entry.name for entry in folder.path.rglob(".*")) == [".mine"]


def test_a_failed_write_keeps_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "status.json"
    replace_text(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        replace_text(file, "new")
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "run")
    (folder.path / "status.json").write_text("{")
    with pytest.raises(DiskError, match=r"status\.json cannot be read"):
        folder.read_json("status.json")


def test_what_is_to_be_typed_is_quoted(tmp_path: Path) -> None:
    make(tmp_path, "my run")
    with pytest.raises(UsageError) as caught:
        make(tmp_path, "my run")
    assert f"imgkit resume '{tmp_path / 'my run'}'" in caught.value.hint


def test_a_file_in_the_place_of_the_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for out in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(DiskError, match="is a file, so no run can be put into it"):
            make(out)


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)  # root may write everywhere
    with pytest.raises(DiskError, match=f"{tmp_path} may not be written to"):
        make(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_drawn_name_that_is_taken_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noon, drawn = datetime(2026, 1, 1, 12, tzinfo=UTC), iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("imgkit.run.datetime", SimpleNamespace(now=lambda zone: noon))
    monkeypatch.setattr("imgkit.run.secrets", SimpleNamespace(token_hex=lambda n: next(drawn)))
    assert [make(tmp_path).name[-4:] for _ in range(2)] == ["aaaa", "bbbb"]
