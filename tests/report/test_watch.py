import os
from pathlib import Path

import pytest
from sample_runs import metrics_of, write_run

from imgkit.errors import DiskError
from imgkit.report.watch import files_of_run, files_of_runs, is_over, watch
from imgkit.run import RunFolder


class Looks:
    """What happens between looks, one thing at each; the last one ends the run."""

    def __init__(self, folder: RunFolder, *happens: object) -> None:
        self.folder, self.happens, self.waits = folder, list(happens), []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        happening = self.happens.pop(0)
        if callable(happening):
            happening()


def end(folder: RunFolder) -> None:
    folder.set_status("finished", step=10, total_steps=10)


def test_the_page_is_written_at_each_change_and_once_more_at_the_end(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", state="running")
    place = folder.path / "evaluations" / "val@20"

    def evaluated() -> None:
        place.mkdir()
        folder.write_json("evaluations/val@20/metrics.json", metrics_of("val", 0.9, 0.9))

    looks = Looks(
        folder,
        lambda: None,
        lambda: folder.append_row("history.jsonl", {"step": 20, "seconds": 3}),
        lambda: None,
        evaluated,
        lambda: (tmp_path / "one" / "report.html").write_text("the page itself is no change"),
        lambda: end(folder),
    )
    states = []
    watch(
        lambda: states.append(is_over(folder)),
        lambda: files_of_run(folder),
        lambda: is_over(folder),
        sleep=looks.sleep,
    )
    assert states == [False, False, False, True]
    assert looks.waits == [2.0] * 6


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_is_over_is_written_once(tmp_path: Path, state: str) -> None:
    folder, written = write_run(tmp_path, "one", state=state), []
    watch(lambda: written.append(1), lambda: files_of_run(folder), lambda: is_over(folder), sleep=lambda _: 1 / 0)
    assert written == [1]


def test_a_page_that_takes_long_is_made_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, "one", state="running")
    now = [0.0]
    monkeypatch.setattr("imgkit.report.watch.time.monotonic", lambda: now[0])
    looks = Looks(folder, lambda: end(folder))
    watch(
        lambda: now.__setitem__(0, now[0] + 3.0),
        lambda: files_of_run(folder),
        lambda: is_over(folder),
        sleep=looks.sleep,
    )
    assert looks.waits == [12.0]


def test_a_file_that_is_being_replaced_is_looked_at_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", state="running")
    fails, written = [True, False, True], []

    def write() -> None:
        if fails.pop(0):
            raise DiskError("half a file")
        written.append(1)

    looks = Looks(folder, None, None, lambda: end(folder))
    with pytest.raises(DiskError, match="half a file"):
        watch(write, lambda: files_of_run(folder), lambda: is_over(folder), sleep=looks.sleep)
    assert written == [1], "made at the second look; that of the end says what is wrong"


def test_of_many_runs_new_ones_are_seen_and_hidden_ones_are_not(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    (tmp_path / "latest").write_text("one\n")
    before = [*files_of_runs(tmp_path)]
    write_run(tmp_path, ".two.tmp-1f-2a")
    assert [*files_of_runs(tmp_path)] == before
    write_run(tmp_path, "two")
    assert tmp_path / "two" / "evaluations" / "val@10" / "metrics.json" in files_of_runs(tmp_path)
    assert tmp_path / "two" / "steps.jsonl" not in files_of_runs(tmp_path)


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", state="running")

    def interrupt(_: float) -> None:
        os.kill(os.getpid(), 2)

    with pytest.raises(KeyboardInterrupt):
        watch(lambda: None, lambda: files_of_run(folder), lambda: is_over(folder), sleep=interrupt)
