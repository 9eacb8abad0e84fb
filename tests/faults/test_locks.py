"""T-L: two commands on one run: one works, the other says who does; no death, clock or time zone gets in the way."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from forked import answer_of
from lives import End, leftovers, life, start_or_resume
from oracle import fingerprint, write_recipe
from signalled import Moment, send
from tally import Tally

from imgkit import open_run, run
from imgkit.cli import app
from imgkit.run import RunFolder

MOST_S = 2.0
STARTS, AT_ONCE = 1000, 4


class Said(NamedTuple):
    """How a command ended."""

    pid: int
    code: int
    seconds: float
    text: str


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in the middle."""
    folder = tmp_path_factory.mktemp("begun")
    assert life(partial(start_or_resume, folder, 0, ("before prune", 4))) == -signal.SIGKILL
    return folder


@pytest.fixture
def killed(begun: Path, tmp_path: Path) -> Path:
    return copied(begun, tmp_path / "killed")


def copied(begun: Path, to: Path) -> Path:
    shutil.copytree(begun, to)
    return to


def commands(folder: Path, *given: list[str], apart_s: float = 0.0) -> list[Said]:
    """Run commands of imgkit in forks that begin at the same time, or one after another."""
    children = []
    at_s = time.monotonic() + 0.1
    for number, words in enumerate(given):
        child = os.fork()
        if child == 0:
            try:
                _command(folder / f"said-{number}", at_s + number * apart_s, words)
            finally:
                os._exit(70)
        children.append(child)
    found = []
    for number, child in enumerate(children):
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told, _, seconds = (folder / f"said-{number}").read_text().rpartition("\n")
        found.append(Said(child, code, float(seconds), " ".join(told.split())))
    return found


def _command(said: Path, at_s: float, words: list[str]) -> None:
    torch.set_num_threads(1)
    with said.open("w") as stream:
        sys.stdout = sys.stderr = stream
        sys.argv = ["imgkit", *words]
        time.sleep(max(0.0, at_s - time.monotonic()))
        began, code = time.monotonic(), 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        stream.write(f"\n{time.monotonic() - began}")
    os._exit(code)


def faults(folder: Path, found: list[Said], whole: str) -> list[str]:
    """What is wrong with how two commands shared the run in `folder`."""
    works, other = sorted(found, key=lambda said: said.code)
    wrong = [f"exit code {said.code}: {said.text}" for said, code in ((works, 0), (other, 2)) if said.code != code]
    if f"is being written by process {works.pid} on {socket.gethostname()}." not in other.text:
        wrong.append(f"not named: {works.pid}: {other.text}")
    wrong += [f"{other.seconds:.1f} s"] * (other.seconds > MOST_S) + leftovers(folder / "runs")
    if wrong:
        return wrong
    ended = open_run("run", folder / "runs")
    epochs = [row["epoch"] for row in ended.folder.history()]
    return ["mixed"] * (fingerprint(ended) != whole or epochs != list(range(len(epochs))))


def resume(folder: Path) -> list[str]:
    return ["resume", "run", "--runs", str(folder / "runs")]


@pytest.mark.timeout(600)
def test_of_two_commands_one_works(begun: Path, tmp_path: Path, end: End, tally: Tally, whole: bool) -> None:
    for number in range(17 if whole else 1):
        folder = copied(begun, tmp_path / str(number))
        found = commands(folder, resume(folder), resume(folder))
        assert faults(folder, found, end.print) == [], found
        tally.most("T-L", seconds=max(found, key=lambda said: said.code).seconds)
        tally.count("T-L", pairs=1, mixed=0)


@pytest.mark.timeout(600)
def test_a_run_that_goes_on_is_left_alone(begun: Path, tmp_path: Path, end: End, tally: Tally, whole: bool) -> None:
    draw = random.Random(0)
    for number in range(5 if whole else 1):
        folder = copied(begun, tmp_path / str(number))
        found = commands(folder, resume(folder), resume(folder), apart_s=draw.uniform(0.02, 0.3))
        assert faults(folder, found, end.print) == [], found
        tally.count("T-L", late=1, mixed=0)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_of_two_fresh_processes_one_works(begun: Path, tmp_path: Path, end: End, tally: Tally) -> None:
    """All that a user waits for: also that Python starts and imgkit is imported."""
    for number in range(3):
        folder = copied(begun, tmp_path / str(number))
        found = fresh(folder, 2)
        assert faults(folder, found, end.print) == [], found
        tally.most("T-L", seconds=max(found, key=lambda said: said.code).seconds)
        tally.count("T-L", pairs=1, mixed=0)


def fresh(folder: Path, n: int) -> list[Said]:
    """So many `imgkit resume` at once, as a shell starts them."""
    command = [sys.executable, "-m", "imgkit", *resume(folder)]
    began = time.monotonic()
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(n)]
    seconds: dict[int, float] = {}
    while len(seconds) < n:
        for process in processes:
            if process.pid not in seconds and process.poll() is not None:
                seconds[process.pid] = time.monotonic() - began
        time.sleep(0.01)
    texts = [" ".join(process.communicate()[1].decode().split()) for process in processes]
    return [
        Said(process.pid, process.returncode, seconds[process.pid], text)
        for process, text in zip(processes, texts, strict=True)
    ]


def test_a_fresh_process_names_the_holder(killed: Path, tally: Tally) -> None:
    with open_run("run", killed / "runs").folder.lock():
        (said,) = fresh(killed, 1)
    assert said.code == 2
    assert f"run is being written by process {os.getpid()} on {socket.gethostname()}." in said.text
    assert said.seconds <= MOST_S
    tally.most("T-L", seconds=said.seconds)


def test_of_two_starts_with_one_name_one_gets_it(tmp_path: Path, end: End, tally: Tally, whole: bool) -> None:
    for number in range(4 if whole else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = ["finetune", "test_resnet", "--recipe", write_recipe(folder), "--data", "synthetic:3x16"]
        words += ["--name", "run", "--out", str(folder / "runs"), "--workers", "0"]
        works, other = sorted(commands(folder, words, words), key=lambda said: said.code)
        assert (works.code, other.code) == (0, 2), (works, other)
        assert "There is a run called 'run' in" in other.text
        assert [entry.name for entry in (folder / "runs").iterdir() if entry.name != "latest"] == ["run"]
        assert fingerprint(open_run("run", folder / "runs")) == end.print
        tally.count("T-L", names=1, mixed=0)


def stale(folder: Path) -> int:
    """Kill the main process of a run alone, as the system does where memory is short; the code of a resume at once."""
    assert send(folder, Moment("step", 4, 0.0, 2), signal.SIGKILL, look=False).code == -signal.SIGKILL
    return commands(folder, resume(folder))[0].code


def test_the_lock_of_a_dead_process_is_none(tmp_path: Path, end: End, tally: Tally, whole: bool) -> None:
    for number in range(4 if whole else 1):
        folder = tmp_path / str(number)
        assert stale(folder) == 0
        assert fingerprint(open_run("run", folder / "runs")) == end.print
        tally.count("T-L", stale=1)


@contextmanager
def clock(offset: timedelta, zone: str) -> Iterator[None]:
    """Another time of day for names and ages, and another time zone."""
    real = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + offset

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        patch.setattr(run, "datetime", Shifted)
        patch.setattr(time, "time", lambda: real() + offset.total_seconds())
        yield
    time.tzset()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_a_clock_that_is_moved_is_in_nobodys_way(
    begun: Path, tmp_path: Path, end: End, tally: Tally, zone: str
) -> None:
    for days in (-400, 400):
        folder = copied(begun, tmp_path / str(days))
        with clock(timedelta(days=days), zone):
            (said,) = commands(folder, resume(folder))
        assert said.code == 0, said
        assert fingerprint(open_run("run", folder / "runs")) == end.print
        tally.count("T-L", clocks=1)


def names_of_starts(out: Path, n: int) -> list[str]:
    """The names of so many runs, begun by several processes at once, in the middle of which the clock goes back."""

    def starts() -> list[str]:
        found = []
        for number in range(n // AT_ONCE):
            zone, back = ("Asia/Kolkata", -1) if number > n // AT_ONCE // 2 else ("UTC", 0)
            with (
                clock(timedelta(hours=back), zone),
                RunFolder.create(out, verb="finetune", model="m", data="d") as folder,
            ):
                folder.write_json("run.json", {"pid": os.getpid()})
            found.append(folder.name)
        return found

    return [name for names in at_once(starts, AT_ONCE) for name in names]


def at_once(work: Callable[[], list[str]], n: int) -> list[list[str]]:
    """What so many forks answer."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: answer_of(work), range(n)))


def test_names_are_unique(tmp_path: Path, tally: Tally, whole: bool) -> None:
    starts = STARTS if whole else 100
    names = names_of_starts(tmp_path, starts)
    assert len(set(names)) == len(names) == starts
    assert {entry.name for entry in tmp_path.iterdir()} == set(names)
    tally.count("T-L", starts=len(set(names)))


# What protects, taken away: the checks above must notice.


@contextmanager
def open_to_all(self: RunFolder) -> Iterator[None]:
    yield


@pytest.mark.parametrize("what", ["the lock", "who holds it", "workers that end"])
def test_the_check_notices_what_is_missing(
    killed: Path, end: End, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "workers that end":
        monkeypatch.setattr("imgkit.data.batches.end_with_parent", lambda number: None)
        assert stale(killed / "new") == 2
    else:
        if what == "the lock":
            monkeypatch.setattr(RunFolder, "lock", open_to_all)
        else:
            monkeypatch.setattr(run, "_who", lambda: {})
        assert faults(killed, commands(killed, resume(killed), resume(killed)), end.print) != []
    tally.count("mutants", caught=1, escaped=0)


def test_the_check_notices_names_without_chance(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.run.secrets.token_hex", lambda n: "00")
    monkeypatch.setattr(run, "_who", dict)
    with pytest.raises(AssertionError, match="ended with"):  # another start has the name
        names_of_starts(tmp_path, 1000)
    tally.count("mutants", caught=1, escaped=0)
