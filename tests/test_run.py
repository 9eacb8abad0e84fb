import multiprocessing
import os
from pathlib import Path

import pytest

from imgkit.errors import DiskError, UsageError
from imgkit.run import RunFolder, replace_text


def make(out: Path, name: str | None = None) -> RunFolder:
    folder = RunFolder.create(out, verb="finetune", model="resnet50", data="my cells/", name=name)
    folder.write_json("run.json", {"schema": 1})
    folder.announce()
    return folder


def test_names_are_safe_sortable_and_never_shared(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path, verb="finetune", model="a/b", data="my cells/").name for _ in range(50)]
    assert len(set(names)) == 50
    assert all("-finetune-a-b-my-cells-" in name and "/" not in name for name in names)


@pytest.mark.parametrize("name", ["..", "", "a/b", "latest", "x" * 300])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        RunFolder.create(tmp_path, verb="v", model="m", data="d", name=name)


def test_a_taken_name_is_refused_with_the_way_on(tmp_path: Path) -> None:
    make(tmp_path, "first")
    with pytest.raises(UsageError, match="already") as caught:
        make(tmp_path, "first")
    assert f"imgkit resume {tmp_path / 'first'}" in caught.value.hint, "what is typed finds the run"


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


def hold(path: Path, taken: object, release: object) -> None:
    folder = RunFolder(path)
    with folder.lock():
        folder.set_status("running", step=0, total_steps=1)
        taken.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    folder = make(tmp_path, "run")
    context = multiprocessing.get_context("spawn")
    taken, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(folder.path, taken, release))
    process.start()
    assert taken.wait(30)
    with pytest.raises(UsageError, match=f"written by process {process.pid} on "), folder.lock():
        pass
    release.set()
    process.join()
    with folder.lock():
        assert os.getpid()


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
