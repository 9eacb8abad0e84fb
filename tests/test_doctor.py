import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from imgkit import checkpoint, doctor
from imgkit.checkpoint import Checkpoint
from imgkit.doctor import Finding, Place, examine, worst
from imgkit.errors import UsageError


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and memory enough whatever else runs."""
    monkeypatch.setattr(doctor, "hub_answers", lambda: True)
    monkeypatch.setattr("imgkit.machine.memory", lambda: 16 * 2**30)
    monkeypatch.setattr("imgkit.machine.free_memory", lambda: 8 * 2**30)


def only(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setattr(doctor, "_CHECKS", {name: doctor._CHECKS[name]})
    (found,) = examine(place)
    return found


def test_a_sound_machine_is_found_sound_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = list(examine(Place(tmp_path / "runs" / "mine", "cpu")))
    assert {finding.name: finding.verdict for finding in found if finding.verdict != "ok"} == {}
    assert [finding.name for finding in found] == list(doctor._CHECKS)
    assert worst(found) == "ok"
    assert list(tmp_path.iterdir()) == []
    assert all(finding.seconds > 0 for finding in found)


def test_a_fault_nobody_thought_of_is_a_finding_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = {finding.name: finding for finding in examine(Place(tmp_path, "cpu"))}
    assert found["Together"].verdict == "fail"
    assert found["Together"].words == "RuntimeError: operator torchvision::nms does not exist"
    assert found["Together"].advice
    assert found["Terminal"].name == "Terminal"
    assert worst(list(found.values())) == "fail"


def test_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device 'tpu' is not known"):
        list(examine(Place(tmp_path, "tpu")))


@pytest.mark.parametrize("below", [".", "runs"])
def test_a_file_is_no_folder_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    (tmp_path / "file").write_text("")
    found = only("Runs", Place(tmp_path / "file" / below), monkeypatch)
    assert (found.verdict, "cannot be written to" in found.words) == ("fail", True)


def test_gradients_that_are_wrong_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])])
    monkeypatch.setattr(doctor, "_gradients", lambda _: next(answers))
    found = only("Training", Place(tmp_path), monkeypatch)
    assert (found.verdict, "71% of their size away" in found.words) == ("fail", True)
    assert "--device cpu" in found.advice


def test_a_device_that_is_not_there_fails_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = only("Device", Place(tmp_path, "cuda:99"), monkeypatch)
    assert found.verdict == "fail"
    assert "--device cpu" in found.advice


@pytest.mark.parametrize(
    ("name", "change", "words", "advice"),
    [
        ("Machine", ("imgkit.machine.free_memory", lambda: 2**29), "512 MiB of 16 GiB memory free", "--micro-batch"),
        ("Weights", ("imgkit.doctor.hub_answers", lambda: False), "the hub does not answer", "imgkit models --cached"),
        (
            "Versions",
            ("imgkit.doctor._requirements", lambda: ["torch>=99.1", "numpy>=1"]),
            "asks for torch>=99.1",
            "pip install",
        ),
    ],
)
def test_what_is_scarce_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: tuple[str, Callable[[], Any]],
    words: str,
    advice: str,
) -> None:
    monkeypatch.setattr(*change)
    found = only(name, Place(tmp_path), monkeypatch)
    assert (found.verdict, words in found.words, advice in found.advice) == ("warn", True, True), found


@pytest.mark.parametrize(("name", "advice"), [("Runs", "--out"), ("Cache", "IMGKIT_CACHE"), ("Shared", "--workers 0")])
def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    found = only(name, Place(tmp_path), monkeypatch)
    assert found.verdict == "warn"
    assert "1.0 MiB free" in found.words
    assert advice in found.advice


@pytest.mark.parametrize(
    ("name", "advice"), [("Runs", "--out FOLDER"), ("Saving", "--out FOLDER"), ("Cache", "IMGKIT_CACHE=FOLDER")]
)
def test_a_folder_that_may_not_be_written_to_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "runs"))
    found = only(name, Place(tmp_path / "runs"), monkeypatch)
    assert found.verdict == "fail"
    assert found.words.endswith("runs cannot be written to: Permission denied")
    assert found.advice.endswith(advice)


def test_an_output_that_is_closed_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert only("Terminal", Place(tmp_path), monkeypatch).verdict == "ok"


def test_steps_that_do_not_repeat_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])
    monkeypatch.setattr(doctor, "_trained", lambda _: next(answers))
    found = only("Training", Place(tmp_path, "cpu"), monkeypatch)
    assert (found.verdict, found.advice) == ("warn", "Where they have to repeat:  --set run.deterministic=true")


def test_steps_that_are_not_finite_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_trained", lambda _: {"w": torch.tensor([float("nan")])})
    assert only("Training", Place(tmp_path, "cpu"), monkeypatch).verdict == "fail"


def test_a_disk_that_changes_bytes_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def saved(folder: Path, *given: Checkpoint, **more: object) -> Path:
        place = save(folder, *given, **more)  # type: ignore[arg-type]  # as it was called
        file = next(folder.rglob("model.safetensors"))
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        return place

    monkeypatch.setattr(checkpoint, "save", saved)
    found = only("Saving", Place(tmp_path), monkeypatch)
    assert found.verdict == "fail"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [OSError("damaged picture"), MemoryError("no shared memory")])
def test_a_loading_process_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Exception
) -> None:
    def broken(*_: object) -> None:
        raise damage

    monkeypatch.setattr(doctor, "load_image", broken)  # forked, so the process has it, too
    found = only("Loading", Place(tmp_path), monkeypatch)
    assert found.verdict == "fail"
    assert str(damage) in found.words


def test_no_name_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    found = only("Runs", Place(tmp_path / "runs"), monkeypatch)
    assert found.words.startswith("~/runs · ")
    assert str(tmp_path) not in found.words


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("torch>=2", True),
        ("torch>=99", False),
        ("timm>=1.0.3,<1.1", True),
        ("timm<1.0", False),
        ("not-here", False),
    ],
)
def test_bounds_of_a_requirement(text: str, held: bool) -> None:
    assert doctor._satisfied(text) is held
