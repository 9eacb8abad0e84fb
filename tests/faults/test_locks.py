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
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path

import filelock
import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no forked life has to)
from forked import begin, ended
from oracle import fingerprint, short_run
from pictures import TreeHash
from tally import Tally

import imgkit.experiment  # noqa: F401  (likewise)
from imgkit import checkpoint, open_run, resume
from imgkit import run as run_module
from imgkit.errors import ImgkitError, Interrupted, UsageError
from imgkit.run import RunFolder

FAMILY = "T-L"
PAIRS, STARTS, AT_ONCE = 20, 1000, 4
MOST_S = 2.0
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
    """How a process ended that would have the run, what it said, and after how long."""

    pid: int
    code: int
    said: str
    seconds: float


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[[str], Path]:
    """Runs that were stopped halfway, by name; of each, its folder."""

    def stop(point: str) -> None:
        if point == "before prune":
            raise Interrupted("stop", signal=15)

    def make(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "reached", stop)
            with pytest.raises(Interrupted):
                short_run(tmp_path, name=name)
        return tmp_path / "runs" / name

    return make


def at_once(works: list[Callable[[Path], object]], place: Path) -> list[Ended]:
    """Start processes, each of which is given a file for what it says; in the order in which they ended."""
    place.mkdir(exist_ok=True)
    began = time.monotonic()
    left = {begin(lambda: work(place / f"{os.getpid()}")) for work in works}
    found: list[Ended] = []
    while left:
        for pid in list(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                left.remove(pid)
                said = " ".join((place / f"{pid}").read_text().split()) if (place / f"{pid}").is_file() else ""
                found.append(Ended(pid, os.waitstatus_to_exitcode(status), said, time.monotonic() - began))
        time.sleep(0.005)
    return found


def command(run: Path, file: Path) -> None:
    """`imgkit resume` as people start it, from the first import on."""
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), 2)
    os.execv(sys.executable, [sys.executable, "-c", COMMAND, "resume", str(run)])


def fork(run: Path, file: Path) -> None:
    """The same in a fork, which has imported all."""
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
def test_of_two_that_resume_at_once_one_does(
    stopped: Callable[[str], Path], tmp_path: Path, tally: Tally, whole: bool
) -> None:
    expected, before = stopped("alone"), stopped("before")
    resume(str(expected))
    number, work = (PAIRS, command) if whole else (2, fork)
    found, slowest_s = Counter[str](), 0.0
    for _ in range(number):
        run = shutil.copytree(before, tmp_path / "runs" / "run", dirs_exist_ok=True)
        pair = at_once([partial(work, run)] * 2, tmp_path / "said")
        found += seen(pair, run, expected)
        slowest_s = max(slowest_s, pair[0].seconds)
        shutil.rmtree(run)
    assert fine(found, number)
    tally.count(FAMILY, **{"mixed": 0, "untold": 0, "late": 0, **found})
    tally.most(FAMILY, slowest_s=round(slowest_s, 2))
