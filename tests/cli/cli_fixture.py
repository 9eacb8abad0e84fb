"""The command line in this process; a test module asks for it with `pytest_plugins = ["cli_fixture"]`."""

import sys

import pytest
from cli_run import Run

from imgkit.cli import app


@pytest.fixture
def imgkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `imgkit ARGS...`; returns (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("IMGKIT_DEBUG", "IMGKIT_SMOKE", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imgkit", *args])
        with pytest.raises(SystemExit) as end:
            app.main()
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return run
