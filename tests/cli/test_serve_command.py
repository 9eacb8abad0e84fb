import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_run import Run
from corpus import encoded
from oracle import short_run
from pictures import square
from sample_runs import write_run
from served_models import colours

pytest_plugins = ["cli_fixture"]


class Served:
    """What the server was started with, as often as it was."""

    def __init__(self) -> None:
        self.apps: list[Any] = []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    """No network and no server: a small model, and what would have been served."""
    found = Served()
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one")
    monkeypatch.setattr("imgkit.serving.served.Served.of", lambda folder, **options: colours())
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: found.apps.append(self.config.app))
    return found


def test_it_says_where_it_is_and_only_this_machine_is_answered(imgkit: Run, served: Served) -> None:
    code, out, err = imgkit("serve", "runs/one", "--port", "0")
    assert (code, out) == (0, "")
    assert "colours · colour · 3 classes · cpu" in err
    assert re.search(r"Open +http://127\.0\.0\.1:\d+/ ", err)
    assert "warning" not in err
    assert served.apps[0]._hosts == {"127.0.0.1", "localhost", "[::1]"}


def test_another_address_of_this_machine_alone_is_answered(imgkit: Run, served: Served) -> None:
    code, _, err = imgkit("serve", "one", "--port", "0", "--host", "127.0.0.2")
    assert code == 0
    assert re.search(r"Open +http://127\.0\.0\.2:\d+/ ", err)
    assert served.apps[0]._hosts == {"127.0.0.1", "localhost", "[::1]", "127.0.0.2"}


def test_an_address_for_others_is_warned_of(imgkit: Run, served: Served) -> None:
    code, _, err = imgkit("serve", "one", "--port", "0", "--host", "0.0.0.0")  # noqa: S104
    assert code == 0
    assert "warning: --host 0.0.0.0: whoever reaches this machine may ask" in err
    assert served.apps[0]._hosts is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max-body", "20"), "Write  --max-body 20MB"),
        (("--precision", "int8"), "--precision: 'int8' is not one of 'auto'"),
        (("--reject-at", "95"), "Write  --reject-at 0.95"),
        (("--queue", "0"), "--queue: must be at least 1"),
        (("--port", "99999"), "--port"),
        (("--host", "192.0.2.1"), "--host 192.0.2.1"),
        (("--max-pixels", "many"), "--max-pixels"),
    ],
)
def test_what_cannot_be_is_told(imgkit: Run, served: Served, words: tuple[str, ...], told: str) -> None:
    code, _, err = imgkit("serve", "one", *words)
    assert (code, told in err) == (2, True), err
    assert served.apps == []


def test_what_is_not_installed_is_named(imgkit: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.cli.serve.find_spec", lambda name: None if name == "uvicorn" else object())
    code, _, err = imgkit("serve", "one")
    assert code == 2
    assert "imgkit serve needs uvicorn." in err
    assert 'pip install "imgkit-timm[serve]"' in err


def test_the_log_of_a_terminal_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgkit.cli.serve import _log

    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        flush: Callable[[], None] = lambda self: None

    for stream in (Gone(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        _log("a line")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_answers_and_ends_by_a_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1")
    picture = encoded(square(0), "PNG")
    words = [sys.executable, "-m", "imgkit", "serve", str(run.folder.path), "--port", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Open +(http://\S+)/", line):
            break
    else:
        pytest.fail("".join(said))
    with httpx.Client(base_url=found[1], trust_env=False, timeout=60) as client:
        assert client.get("/healthz").json()["run"] == "run"
        assert client.post("/predict", files={"image": picture}).json()["error"] == ""
        process.send_signal(number)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "POST /predict 200" in rest
    assert "Traceback" not in rest
