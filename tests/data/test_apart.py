"""Work in a process beside this one."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from forked import forked

from imgkit.data import apart
from imgkit.data.apart import Apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a fork")


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "FORKS", True)


def square(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), -number)
    return number * number


def crashed(number: int, by: int) -> int:
    return -by


def test_answers_are_in_order_and_what_dies_costs_its_own_alone() -> None:
    with Apart(square, crashed, 2) as beside:
        assert beside.map([]) == []
        assert beside.map(range(100)) == [number * number for number in range(100)]
        assert beside.map([3, -signal.SIGSEGV, 4, -signal.SIGKILL]) == [9, -signal.SIGSEGV, 16, -signal.SIGKILL]
        assert beside.map([5]) == [25], "a fresh process goes on"


def test_several_that_are_started_answer_and_end() -> None:
    with Apart(lambda number: os.getpid(), crashed, 1) as one, Apart(lambda number: os.getpid(), crashed, 1) as two:
        for beside in (one, two, one):
            beside.start()
        first, second = one.map([1])[0], two.map([1])[0]
        assert len({first, second, os.getpid()}) == 3
        assert one.map([2]) == [first]
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_bug_is_raised_here() -> None:
    with Apart(lambda number: 1 // number, crashed, 2) as beside:
        with pytest.raises(ZeroDivisionError):
            beside.map([1, 0])
        assert beside.map([1]) == [1]


def test_the_work_is_done_here_where_there_is_no_cheap_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "FORKS", False)
    with Apart(lambda number: os.getpid(), crashed, 2) as beside:
        assert set(beside.map([1, 2, 3])) == {os.getpid()}


def test_nothing_is_left_where_the_main_process_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    def tell(number: int) -> int:
        mark.write_text(str(os.getpid()))
        return number

    def work() -> int:
        with Apart(tell, crashed, 1) as beside:
            beside.map([1])
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert forked(work)[0] == -signal.SIGKILL
    for _ in range(200):
        if not Path("/proc", mark.read_text()).exists():
            return
        time.sleep(0.05)
    pytest.fail("the process lives on")
