"""T-L: of two that would go on with one run at once, one does; the other says at once who has it."""

import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path

import filelock
import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no forked life has to)
from forked import begin, ended
from oracle import fingerprint, short_run
from pictures import TreeHash
from tally import Tally, share

import imgkit.experiment  # noqa: F401  (likewise)
from imgkit import checkpoint, open_run, resume
from imgkit import run as run_module
from imgkit.errors import ImgkitError, Interrupted, UsageError
from imgkit.run import RunFolder

FAMILY = "T-L"
PAIRS, STARTS, AT_ONCE = 20, 1000, 4
MOST_S = 2.0
CLOCKS = {"Pacific/Kiritimati": -48.0, "UTC": -1.0, "Asia/Kolkata": -9000.0, "America/Anchorage": 9000.0}
LOGS = ("history.jsonl", "steps.jsonl")
REFUSED = UsageError("").exit_code
COMMAND = """
import atexit, sys
atexit.register(lambda: print("torch:", "torch" in sys.modules, file=sys.stderr))
from imgkit.cli.app import main
main()
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended that would have the run, what it said, and after how much of the processor's time."""

    pid: int
    code: int
    said: str
    seconds: float


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was "stopped" early, and the same one as it ends "alone"."""
    place = tmp_path_factory.mktemp("runs")

    def stop(point: str) -> None:
        if point == "before prune":
            raise Interrupted("stop", signal=15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        patch.setattr(checkpoint, "reached", stop)
        with pytest.raises(Interrupted):
            short_run(place, name="stopped")
    shutil.copytree(place / "runs" / "stopped", place / "runs" / "alone")
    resume(str(place / "runs" / "alone"))
    return place / "runs"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A copy of the run that was stopped."""
    return shutil.copytree(runs / "stopped", tmp_path / "runs" / "run")


def at_once(works: list[Callable[[Path], object]], place: Path) -> list[Ended]:
    """Start processes, each of which is given a file for what it says; in the order in which they ended."""
    place.mkdir(exist_ok=True)

    def told(work: Callable[[Path], object]) -> None:
        work(place / f"{os.getpid()}")

    left = {begin(partial(told, work)) for work in works}
    found: list[Ended] = []
    while left:
        for pid in list(left):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                left.remove(pid)
                said = " ".join((place / f"{pid}").read_text().split()) if (place / f"{pid}").is_file() else ""
                found.append(Ended(pid, os.waitstatus_to_exitcode(status), said, used.ru_utime + used.ru_stime))
        time.sleep(0.005)
    return found


def command(run: Path, file: Path) -> None:
    """`imgkit resume` as people start it, from the first import on."""
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 2)
    os.execv(sys.executable, [sys.executable, "-c", COMMAND, "resume", str(run)])  # noqa: S606


def fork(run: Path, file: Path) -> None:
    """The same in a fork, which has imported all; it takes its time over each save."""
    checkpoint.reached = lambda point: time.sleep(0.02)
    try:
        resume(str(run))
    except UsageError as error:
        file.write_text(error.message)
        raise


def written(run: Path) -> dict[str, object]:
    """What two writers would mix: the names of all files, and the rows of both logs without their times."""
    folder = RunFolder(run)
    rows = [(row["step"], row.get("loss"), row.get("val/loss")) for name in LOGS for row in folder.rows(name)]
    return {"files": sorted(str(file.relative_to(run)) for file in run.rglob("*")), "rows": rows}


def seen(pair: list[Ended], run: Path, expected: Path) -> Counter[str]:
    """What came of two that would have one run.

    "ran": how many did; "mixed": the run is not as one alone would have made it; "untold": the other did not say
    which process of which machine has it; "late": it took long, or imported torch for it.
    """
    ran, others = [one for one in pair if one.code == 0], [one for one in pair if one.code == REFUSED]
    holder = f"is being written by process {ran[0].pid if ran else '?'} on {socket.gethostname()}."
    try:
        mixed = fingerprint(open_run(str(run))) != fingerprint(open_run(str(expected))) or (
            written(run) != written(expected)
        )
    except ImgkitError:
        mixed = True
    return Counter(
        pairs=1,
        ran=len(ran),
        mixed=mixed,
        untold=len(others) != 1 or holder not in others[0].said,
        late=any(one.seconds > MOST_S or "torch: True" in one.said for one in others),
    )


def fine(found: Counter[str], pairs: int) -> bool:
    return {name: found[name] for name in ("pairs", "ran", "mixed", "untold", "late")} == {
        "pairs": pairs,
        "ran": pairs,
        "mixed": 0,
        "untold": 0,
        "late": 0,
    }


@pytest.mark.timeout(900)
def test_of_two_that_resume_at_once_one_does(runs: Path, tmp_path: Path, tally: Tally, whole: bool) -> None:
    number, work = (PAIRS, command) if whole else (2, fork)
    found, slowest_s = Counter[str](), 0.0
    for _ in range(number):
        run = shutil.copytree(runs / "stopped", tmp_path / "run")
        pair = at_once([partial(work, run)] * 2, tmp_path / "said")
        found += seen(pair, run, runs / "alone")
        slowest_s = max(slowest_s, pair[0].seconds)
        shutil.rmtree(run)
    assert fine(found, number)
    tally.count(FAMILY, **{"mixed": 0, "untold": 0, "late": 0, **found})
    tally.most(FAMILY, most_s=round(slowest_s, 2))


def test_a_run_that_goes_on_is_left_alone(run: Path, tmp_path: Path, tally: Tally, tree_hash: TreeHash) -> None:
    """By everything that would write to it, as people start it; the lock of a process that was killed is none."""
    taken = tmp_path / "taken"

    def hold() -> None:
        with RunFolder(run).lock():
            taken.touch()
            signal.pause()

    holder = begin(hold)
    while not taken.exists():
        time.sleep(0.005)
    before = tree_hash(run)
    (late,) = at_once([partial(command, run)], tmp_path / "said")
    assert late.code == REFUSED
    assert f"is being written by process {holder} on {socket.gethostname()}." in late.said
    assert "torch: False" in late.said
    assert late.seconds <= MOST_S
    with pytest.raises(UsageError, match=f"process {holder} on "):
        resume(str(run))
    assert tree_hash(run) == before
    os.killpg(holder, signal.SIGKILL)
    assert ended(holder) == -signal.SIGKILL
    assert RunFolder(run).read_json("status.json")["pid"] == holder
    assert resume(str(run)).folder.read_json("status.json")["state"] == "finished"
    tally.count(FAMILY, refused=2, stale=1)


# Time


class Watch(datetime):
    """A clock that somebody sets."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + cls.ahead


@contextmanager
def clock(hours: float, zone: str) -> Iterator[None]:
    """A machine whose clock is so far ahead, in another time zone."""
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        patch.setattr(Watch, "ahead", timedelta(hours=hours))
        patch.setattr(run_module, "datetime", Watch)
        patch.setattr("imgkit.prepare.datetime", Watch)
        patch.setattr(time, "time", lambda: real() + 3600 * hours)
        yield
    time.tzset()


@pytest.mark.parametrize("zone", share(CLOCKS, ["America/Anchorage"]))
def test_a_run_goes_on_whatever_the_clock_says(runs: Path, run: Path, tmp_path: Path, tally: Tally, zone: str) -> None:
    with clock(CLOCKS[zone], zone):
        now = Watch.now(UTC)
        assert resume(str(run)).folder.read_json("status.json")["state"] == "finished"
        with RunFolder.create(tmp_path / "runs", verb="v", model="m", data="d") as folder:
            folder.write_text("run.json", "{}")
        folder.announce()
        assert RunFolder.open("latest", tmp_path / "runs").name == folder.name
        stamp = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        assert timedelta(0) <= stamp + timedelta(seconds=1) - now < timedelta(seconds=60), "names are of UTC"
    assert fingerprint(open_run(str(run))) == fingerprint(open_run(str(runs / "alone")))
    assert written(run) == written(runs / "alone")
    tally.count(FAMILY, clocks=1)


# Names


def names(out: Path, starts: int) -> None:
    """Begin so many runs in `out`, each with a file of its own."""
    for number in range(starts):
        with RunFolder.create(out, verb="finetune", model="a/b", data="my cells/") as folder:
            folder.write_text(f"{os.getpid()}-{number}.txt", "")


def test_names_are_safe_sortable_and_never_shared(tmp_path: Path, tally: Tally, whole: bool) -> None:
    each = STARTS // AT_ONCE if whole else 15
    children = [begin(partial(names, tmp_path, each)) for _ in range(AT_ONCE)]
    assert [ended(child) for child in children] == [0] * AT_ONCE
    made = sorted(entry.name for entry in tmp_path.iterdir())
    assert len(made) == each * AT_ONCE
    assert all("-finetune-a-b-my-cells-" in name and "/" not in name for name in made)
    files = [file.name for name in made for file in (tmp_path / name).glob("*.txt")]
    assert len(files) == len(set(files)) == len(made), "each has the file of the start that made it, and no other"
    tally.count(FAMILY, names=len(made))


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", ["lock", "holder"])
def test_the_check_notices_what_is_missing(
    runs: Path, run: Path, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "lock":
        monkeypatch.setattr(filelock.FileLock, "acquire", lambda self, timeout: None)
    else:
        monkeypatch.setattr(run_module, "_who", lambda: {"host": socket.gethostname(), "pid": 1})
    found = seen(at_once([partial(fork, run)] * 2, tmp_path / "said"), run, runs / "alone")
    assert found["untold"] == 1
    assert (found["ran"] != 1 or found["mixed"] > 0) == (what == "lock")
    tally.count("mutants", caught=1, escaped=0)


def test_the_check_notices_names_without_a_draw(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts of one millisecond would be refused for each other's name."""
    monkeypatch.setattr(run_module.secrets, "token_hex", lambda n: "00")
    monkeypatch.setattr(run_module, "datetime", Still)
    assert ended(begin(partial(names, tmp_path, 2))) == REFUSED
    tally.count("mutants", caught=1, escaped=0)


class Still(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return cls(2026, 11, 29, tzinfo=tz)
