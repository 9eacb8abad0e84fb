"""`imgkit doctor`."""

import pytest
from cli_run import Run

from imgkit import doctor
from imgkit.doctor import Finding

pytest_plugins = ["cli_fixture"]


FINDINGS = [
    Finding("Versions", "ok", "torch 2.14"),
    Finding("Runs", "warn", "runs · 1 MiB free", "Write runs elsewhere:  --out FOLDER"),
]


def test_a_line_a_check_and_a_sum(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda place: iter(FINDINGS))
    code, out, err = imgkit("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[2:] == [
        "ok   Versions torch 2.14",
        "warn Runs     runs · 1 MiB free",
        "              Write runs elsewhere:  --out FOLDER",
        "",
        "1 ok, 1 warning, 0 failed, in 0.0 s",
    ]


def test_what_failed_ends_with_8(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("Loading", "fail", "a process for loading ended", "Train without:  --workers 0")
    monkeypatch.setattr(doctor, "examine", lambda place: iter([*FINDINGS, broken]))
    code, out, err = imgkit("doctor", "--out", "elsewhere")
    assert code == 8
    assert "FAIL Loading  a process for loading ended" in out
    assert "This machine cannot do all that a run needs: Loading." in " ".join(err.split())


def test_no_such_device(imgkit: Run) -> None:
    code, _, err = imgkit("doctor", "--device", "tpu")
    assert code == 2
    assert "--device 'tpu' is not known" in err
