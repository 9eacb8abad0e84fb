"""T-S: a signal at any moment of a run is taken within a step, a save and two seconds, and costs no step."""

import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from forked import forked
from lives import End, life, start_or_resume
from oracle import fingerprint
from signalled import GRACE_S, Moment, faults, send
from tally import Tally, share

from imgkit import open_run
from imgkit.experiment import Experiment
from imgkit.signals import ending_cleanly

SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "USR1": signal.SIGUSR1}
TIMES = 4  # of each signal at each place
LENGTH_S = {"scan": 0.1, "folder": 0.02, "solve": 0.2, "step": 0.02, "evaluation": 0.02, "save": 0.01, "export": 0.02}
CASES = [f"{place} {name}" for place in LENGTH_S for name in SIGNALS]
MOST = {"step": 12, "evaluation": 3, "save": 3}  # beginnings in a run, but for the last ones


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", share(CASES, quick=("scan USR1", "solve INT", "step TERM", "evaluation USR1")))
def test_a_signal_costs_no_step(tmp_path: Path, end: End, tally: Tally, whole: bool, case: str) -> None:
    draw = random.Random(case)
    place, name = case.split()
    for turn in range(TIMES if whole else 1):
        moment = Moment(
            place, draw.randint(1, MOST.get(place, 1)), draw.uniform(0, LENGTH_S[place]), draw.choice([0, 2])
        )
        ended = send(tmp_path / str(turn), moment, SIGNALS[name])
        assert faults(tmp_path / str(turn), ended, SIGNALS[name], end.print) == [], (moment, ended)
        if name != "USR1":
            tally.most("T-S", late_s=ended.late_s())
        tally.count("T-S", signals=1, taken=1)
    if whole and name != "USR1":
        assert_goes_on(tmp_path / str(turn), end)


def assert_goes_on(folder: Path, end: End) -> None:
    """What was stopped ends as a run that nobody disturbed."""
    assert life(partial(start_or_resume, folder, 0)) == 0
    assert fingerprint(open_run("run", folder / "runs")) == end.print


@pytest.mark.parametrize("name", share(("TERM", "INT"), quick=()))
def test_a_signal_once_all_is_done_changes_nothing(tmp_path: Path, end: End, tally: Tally, name: str) -> None:
    ended = send(tmp_path, Moment("page", 1, 0.0, 0), SIGNALS[name])
    assert (ended.code, ended.orphans) == (0, False), ended
    run = open_run("run", tmp_path / "runs")
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert fingerprint(run) == end.print
    tally.count("T-S", done=1)


@pytest.mark.parametrize("place", share(("solve", "step", "evaluation", "save"), quick=("step",)))
def test_a_second_control_c_ends_it_at_once(tmp_path: Path, end: End, tally: Tally, place: str) -> None:
    ended = send(tmp_path, Moment(place, 1, 0.0, 2), signal.SIGINT, signal.SIGINT, slow=True)
    assert (ended.code, ended.orphans) == (130, False), ended
    assert ended.took_s <= GRACE_S
    assert "Stopped at once" in ended.said
    assert_goes_on(tmp_path, end)
    tally.most("T-S", second_s=ended.took_s)
    tally.count("T-S", second=1)


def while_python_tidies_up(number: int) -> int:
    """The exit code of a command that is signalled while a forgotten generator is closed."""

    def forgotten() -> Iterator[None]:
        try:
            yield
        finally:
            os.kill(os.getpid(), number)

    try:
        with ending_cleanly():
            next(forgotten())
            time.sleep(GRACE_S)
    except SystemExit as end:
        return int(str(end.code))
    except KeyboardInterrupt:
        return 130
    return 0


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_signal_is_not_lost_while_python_tidies_up(tally: Tally, name: str) -> None:
    assert forked(partial(while_python_tidies_up, SIGNALS[name]))[0] == 128 + SIGNALS[name]
    tally.count("T-S", signals=1, taken=1)


# What protects, taken away: the checks above must notice.


def deaf(self: Experiment) -> None:
    """Stops without a save."""
    if self._request.stop is not None:
        os._exit(128 + self._request.stop)


@pytest.mark.parametrize(
    ("what", "place", "number"),
    [("hearing before it trains", "scan", signal.SIGUSR1), ("the save", "step", signal.SIGTERM)],
)
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str, place: str, number: int
) -> None:
    if what == "the save":
        monkeypatch.setattr(Experiment, "_stop_if_asked", deaf)
    else:
        monkeypatch.setattr("imgkit.signals.HEARD", ())
    assert faults(tmp_path, send(tmp_path, Moment(place, 1, 0.0, 0), number), number, "") != []
    tally.count("mutants", caught=1, escaped=0)


def test_the_check_notices_signals_that_are_lost(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.signals._ask_again", lambda dropped: None)
    assert forked(partial(while_python_tidies_up, signal.SIGTERM))[0] == 0
    tally.count("mutants", caught=1, escaped=0)


def test_the_check_notices_workers_that_stay(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.data.worker_process.end_with_parent", lambda number: None)
    assert send(tmp_path, Moment("step", 1, 0.0, 2), signal.SIGINT, signal.SIGINT, slow=True).orphans
    tally.count("mutants", caught=1, escaped=0)
