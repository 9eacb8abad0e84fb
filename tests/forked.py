"""Work in a forked process: what it does to itself, or that it never ends, costs the tests nothing."""

import io
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CDLL, c_uint32, get_errno
from pathlib import Path
from subprocess import CompletedProcess
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


def begin(work: Callable[[], object]) -> int:
    """Start `work` in a forked process group of its own, silently; returns its process id.

    An error that a user can mend is the exit code that the command line has for it.
    """
    from imgkit.errors import ImgkitError

    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            work()
            code = 0
        except ImgkitError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    return child


def ended(child: int, kill_after_s: float = 120.0) -> int:
    """Wait for what `begin` started; its group is killed after a while. Returns its exit code, or minus the signal."""
    end = time.monotonic() + kill_after_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer_of(work: Callable[[], object], wait_s: float = 60.0) -> Any:  # noqa: ANN401  (what JSON holds)
    """What `work` returns in a fork, by way of JSON."""

    def tell() -> int:
        print(json.dumps(work()))
        return 0

    code, text = forked(tell, wait_s)
    assert code == 0, f"ended with {code}"
    return json.loads(text)


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def spent_by(work: Callable[[], object]) -> tuple[object, float, float]:
    """What `work` returns, and what it takes, in a fork: seconds of processor time, and MiB beyond what is there."""
    before, began = resident_mib(), time.process_time()
    answer = work()
    seconds, peak_mib = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return answer, seconds, peak_mib - before


def give_up_root() -> None:
    """In a fork: be held by permissions, as users are, also where root runs the tests."""
    version, own, none = 0x20080522, 0, 0  # of Linux, as capset(2) has it
    head, sets = (c_uint32 * 2)(version, own), (c_uint32 * 6)(*[none] * 6)
    assert os.geteuid() or CDLL(None, use_errno=True).capset(head, sets) == 0, os.strerror(get_errno())


def read_in_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of torch read as they are, in a process with limits, but one that need not import torch first."""
    from imgkit.models import tensor_file, torch_reader

    def run(command: Sequence[str], *, timeout: float, **_: object) -> CompletedProcess[bytes]:
        assert command[:3] == [sys.executable, "-P", torch_reader.__file__]
        file, seconds, memory = command[3:]
        code, text = forked(lambda: torch_reader.main(file, seconds, memory), timeout)
        return CompletedProcess(command, code, text, b"")

    fake = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(tensor_file, "subprocess", fake)


def read_watched(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have files of torch read by a process of its own, as users have it; the list gets the most memory of each, MiB.

    The system's own count of a child's memory begins with that of its parent, so the process is looked at as it runs.
    """
    from imgkit.models import tensor_file

    peaks: list[float] = []

    def run(command: Sequence[str], *, timeout: float, env: dict[str, str], **_: object) -> CompletedProcess[bytes]:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peaks.append(0.0)

        def look() -> None:
            while process.poll() is None:
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                    peaks[-1] = max(peaks[-1], peak_kib / 1024)
                time.sleep(0.002)

        watch = threading.Thread(target=look)
        watch.start()
        out, said = process.communicate(timeout=timeout)
        watch.join()
        return CompletedProcess(command, process.returncode, out, said)

    fake = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(tensor_file, "subprocess", fake)
    return peaks


def on_a_terminal(work: Callable[[], int], wait_s: float = 60.0) -> tuple[int, bytes]:
    """Run `work` in a fork whose stdout and stderr are a terminal; its exit code, and the bytes that came there."""
    reader, terminal = pty.openpty()
    tty.setraw(terminal)  # so that nothing is added to a line end
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(wait_s))
            for number in (1, 2):
                os.dup2(terminal, number)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            code = work()
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(terminal)
    text = b""
    with suppress(OSError):  # what a terminal says that nobody writes to any more
        while part := os.read(reader, 1 << 16):
            text += part
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
