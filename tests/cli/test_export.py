"""`imgkit export`: what is typed reaches api, and what comes back is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_run import Run

from imgkit.errors import GateError

pytest_plugins = ["cli_fixture"]

DONE = {"folder": "runs/one/exports/FORMAT", "files": {"model.onnx": {"bytes": 3 * 2**20, "sha256": ""}}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the run was asked to export."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Exporting:
        folder = SimpleNamespace(address="one")

        def export(self, to: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
            options.pop("screen")
            found.append((to, options))
            return DONE | {"folder": DONE["folder"].replace("FORMAT", to)}

    monkeypatch.setattr("imgkit.api.open_run", lambda name, **_: Exporting())
    return found


def test_every_option_is_handed_on(imgkit: Run, asked: list[tuple[str, dict[str, Any]]]) -> None:
    line = "one --to onnx-int8 --images 9 --tolerance 0.5 --max-drop 2.5 --calibration 7 --max-size 9MB --root there"
    assert imgkit("export", *line.split())[0] == 0
    options = {"images": 9, "tolerance": 0.5, "max_drop": 2.5, "calibration": 7, "max_size": "9MB", "root": "there"}
    assert asked == [("onnx-int8", options)]
    asked.clear()
    assert imgkit("export", "one", "--to", "timm")[0] == 0
    assert asked == [("timm", dict.fromkeys(options))]


@pytest.mark.parametrize(
    ("to", "more"),
    [
        ("onnx", "Next:  python runs/one/exports/onnx/predict_onnx.py PHOTOS/"),
        ("timm", "Next:  imgkit push one OWNER/NAME"),
        ("torch-export", "Wrote   runs/one/exports/torch-export/"),
    ],
)
def test_files_and_what_to_type_next_are_told(
    imgkit: Run, asked: list[tuple[str, dict[str, Any]]], to: str, more: str
) -> None:
    out = imgkit("export", "one", "--to", to)[1]
    assert out.startswith("Files   model.onnx (3.0 MiB), verify.json\n")
    assert more in out


def test_a_gate_ends_with_8(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **_: object) -> None:
        raise GateError("too far", "do this")

    monkeypatch.setattr("imgkit.api.open_run", refuse)
    assert imgkit("export", "one", "--to", "onnx") == (8, "", "error: too far\n  do this\n")


@pytest.mark.parametrize("words", [["one"], ["one", "--to", "tflite"], ["--to", "onnx"]])
def test_a_run_and_a_format_are_needed(imgkit: Run, words: list[str]) -> None:
    code, out, err = imgkit("export", *words)
    assert (code, out) == (2, "")
    assert "imgkit export --help" in err


def test_no_run_of_that_name(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = imgkit("export", "one", "--to", "onnx")
    assert code == 2
    assert "There is no run" in err or "no runs" in " ".join(err.split())
