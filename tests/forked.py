"""Work in a forked process: what it does to itself, or that it never ends, costs the tests nothing."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest


def forked(work: Callable[[], int], wait_s: float = 60.0) -> tuple[int, bytes]:
    """Run `work` in a fork; returns its exit code, or minus the signal that ended it, and what it wrote to stdout."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(wait_s))
            sys.stdout = io.TextIOWrapper(os.fdopen(into, "wb"), encoding="utf-8")
            code = work()
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        text = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def answer_of(work: Callable[[], object], wait_s: float = 60.0) -> Any:  # noqa: ANN401  (what JSON holds)
    """What `work` returns in a fork, by way of JSON."""

    def tell() -> int:
        print(json.dumps(work()))
        return 0

    code, text = forked(tell, wait_s)
    assert code == 0, f"ended with {code}"
    return json.loads(text)


def read_in_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of torch read as they are, in a process with limits, but one that need not import torch first."""
    from imgkit.models import tensor_file, torch_reader

    def run(command: Sequence[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[bytes]:
        assert command[:3] == [sys.executable, "-P", torch_reader.__file__]
        file, seconds, memory = command[3:]
        code, text = forked(lambda: torch_reader.main(file, seconds, memory), timeout)
        return subprocess.CompletedProcess(command, code, text, b"")

    fake = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(tensor_file, "subprocess", fake)
