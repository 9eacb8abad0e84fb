"""Jobs in processes of their own: how they end, what signals do, and what is left when the study is killed."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from study_worker import LISTED, PLUGIN, forking, plugins_forgotten, write_study

from imgkit.errors import DataError, ImgkitError, Interrupted
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.signals import Request
from imgkit.studies import work
from imgkit.studies.conduct import ask, conduct
from imgkit.studies.state import is_held
from imgkit.studies.work import Outcome, in_a_process


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_is_left() -> Iterator[None]:
    with plugins_forgotten():
        yield


def test_a_command_in_a_process_gives_its_code_and_what_it_said() -> None:
    outcome = in_a_process({"do": "command", "words": ["recipes", "finetun"]}, Request())
    assert (outcome.code, outcome.kind) == (2, "UsageError")
    assert outcome.message == "unknown recipe 'finetun' (did you mean 'finetune'?)"
    assert outcome.words == f"with exit code 2: {outcome.message}"
    assert in_a_process({"do": "command", "words": ["--version"]}, Request()) == Outcome(0)


@pytest.mark.parametrize(
    ("outcome", "kind", "code", "words"),
    [
        (Outcome(3, None, "DataError", "no picture", "look"), DataError, 3, "no picture"),
        (Outcome(3, None, "BadImage", "a.png: cut", ""), DataError, 3, "a.png: cut"),
        (Outcome(143, None, "Interrupted", "stopped", ""), Interrupted, 143, "stopped"),
        (Outcome(1), ImgkitError, 1, "A process of the study ended with exit code 1."),
        (Outcome(-9), ImgkitError, 137, "A process of the study ended by signal 9 (was memory short?)."),
    ],
)
def test_an_outcome_is_raised_as_what_it_was(outcome: Outcome, kind: type[ImgkitError], code: int, words: str) -> None:
    error = outcome.error()
    assert isinstance(error, kind)
    assert (error.exit_code, error.message) == (code, words)


def test_what_signals_ask_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('saved', flush=True))\n"
        "print('up', flush=True)\ntime.sleep(60)\n"
    )
    read, write = os.pipe()
    whole = subprocess.Popen

    def start(command: list[str], **more: object) -> subprocess.Popen[bytes]:
        assert more["start_new_session"], "Ctrl-C of the terminal comes through the study alone"
        return whole([sys.executable, "-c", script], stdout=write, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(work.subprocess, "Popen", start)
    request = Request()

    said: list[str] = []

    def ask_twice() -> None:
        with os.fdopen(read) as stream:
            said.append(stream.readline())
            request.save = True
            said.append(stream.readline())
            request.stop = signal.SIGTERM

    asker = threading.Thread(target=ask_twice)
    asker.start()
    began = time.monotonic()
    assert in_a_process({"do": "command"}, request).code == -signal.SIGTERM
    assert time.monotonic() - began < 50
    assert not request.save
    asker.join()
    os.close(write)
    assert said == ["up\n", "saved\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent is gone")
def test_a_job_ends_with_the_study_however_that_ends() -> None:
    child = "import signal\nfrom imgkit.signals import end_with_parent\nend_with_parent(signal.SIGTERM)\n"
    child += "print('up', flush=True)\nimport time\ntime.sleep(60)\n"
    parent = (
        "import subprocess, sys, os, time\n"
        f"one = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True, stdout=subprocess.PIPE)\n"
        "assert one.stdout.readline() == b'up\\n'\nprint(one.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as study:
        assert study.stdout is not None
        pid = int(study.stdout.readline())
        study.kill()
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end, "the job goes on without its study"
        time.sleep(0.05)


def test_a_signal_stops_the_study_and_says_how_it_goes_on(tmp_path: Path) -> None:
    file = write_study(tmp_path, LISTED, "[0]")
    asked = ask(file, out=tmp_path / "runs", plugin=[str(PLUGIN)])
    jobs: list[object] = []

    def worker(job: object, request: Request) -> Outcome:
        jobs.append(job)
        if len(jobs) == 1:
            return Outcome(0, {name: {"steps": 1, "phases": {"all": 1}, "parameters": 1} for name in ("fast", "slow")})
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(143, None, "Interrupted", "Stopped at step 1 of 2")

    with pytest.raises(Interrupted, match="Stopped in run fast-seed0; 0 of 2 runs are behind it") as caught:
        conduct(asked, Screen(quiet=True), worker=worker)
    assert caught.value.exit_code == 143
    assert len(jobs) == 2
    assert not (tmp_path / "runs" / "study.json").exists(), "a run that was stopped did not fail"


def test_a_run_that_another_process_still_trains_is_waited_for(tmp_path: Path) -> None:
    """Where systems do not end a job with its study, the job goes on, and so does the next study, after it."""
    only, _, _ = LISTED.rpartition("[[variants]]")
    asked = ask(write_study(tmp_path, only, "[0]"), out=tmp_path / "runs", plugin=[str(PLUGIN)])

    def end(job: Mapping[str, Any]) -> None:
        if job["do"] == "command":
            pytest.MonkeyPatch().setattr("imgkit.experiment.Experiment._train", lambda self: os._exit(9))

    assert conduct(asked, Screen(quiet=True), worker=forking(before=end)).code == 9
    lock = FileLock(tmp_path / "runs" / "fast-seed0" / "run.lock")
    lock.acquire()
    assert is_held(RunFolder(tmp_path / "runs" / "fast-seed0"))

    class Ears(io.StringIO):
        """The other process ends when the study says that it waits for it."""

        def write(self, text: str) -> int:
            if "waiting for it" in text:
                lock.release()
            return super().write(text)

    heard = Ears()
    assert conduct(asked, Screen(file=heard, width=200), worker=forking()).code == 0
    assert "note: fast-seed0 is still being trained by another process; waiting for it" in heard.getvalue()
