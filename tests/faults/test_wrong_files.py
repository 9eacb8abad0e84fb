"""T-C2: a file that is not what it should be gives one line that names it, and what to type next."""

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from checkpoints import sample
from cli_run import Run
from oracle import short_run
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tally import Tally

from imgkit import checkpoint

pytest_plugins = ["cli_fixture"]

MOST = 200  # characters
FETCH = "Fetch it again."
ASK = "Ask its author for a .safetensors file."
BY_TORCH = 'It must be a state dict, bare or under "state_dict" or "model":  torch.save(model.state_dict(), FILE)'


def text(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def pickled(content: object) -> Callable[[Path], object]:
    return lambda file: torch.save(content, file)


def cut(file: Path) -> None:
    torch.save({"a": torch.zeros(99)}, file)
    file.write_bytes(file.read_bytes()[:-99])


def dangling(file: Path) -> None:
    file.symlink_to("nowhere")


def other_network() -> dict[str, torch.Tensor]:
    return timm.create_model("test_vit").state_dict()


WEIGHTS = {
    "empty": ("w.pth", text(b""), "w.pth is not a readable torch file: it is empty.", FETCH),
    "cut": ("w.pth", cut, "w.pth is not a readable torch file: it is damaged, or cut short.", FETCH),
    "cut safetensors": (
        "w.safetensors",
        text(save({"a": torch.zeros(99)})[:-1]),
        "w.safetensors is not a readable safetensors file: it is damaged, or something else by its content.",
        FETCH,
    ),
    "web page": (
        "w.bin",
        text(b"<!DOCTYPE html><p>404"),
        "w.bin is not a readable torch file: it is a web page.",
        FETCH,
    ),
    "Git LFS": (
        "w.safetensors",
        text(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "w.safetensors is not a readable safetensors file: it is a pointer of Git LFS, not the file itself.",
        "Fetch the file itself:  git lfs pull",
    ),
    "HDF5": (
        "w.pth",
        text(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "w.pth is not a readable torch file: torch.save did not write it.",
        "Give a .safetensors file, or one of  torch.save(model.state_dict(), FILE)",
    ),
    "Keras": (
        "w.h5",
        text(b"\x89HDF\r\n\x1a\n"),
        "w.h5: weights are read from .safetensors, .pth, .pt or .bin files.",
        "Convert it.",
    ),
    "folder": (
        "w.pth",
        Path.mkdir,
        "There is no file of weights 'w.pth'.",
        "Write auto, none, a .safetensors, .pth, .pt or .bin file, part:FILE, package:NAME or hub:OWNER/NAME.",
    ),
    "dangling link": (
        "w.pth",
        dangling,
        "There is no file of weights 'w.pth'.",
        "Write auto, none, a .safetensors, .pth, .pt or .bin file, part:FILE, package:NAME or hub:OWNER/NAME.",
    ),
    "pipe": (
        "w.pth",
        os.mkfifo,
        "There is no file of weights 'w.pth'.",
        "Write auto, none, a .safetensors, .pth, .pt or .bin file, part:FILE, package:NAME or hub:OWNER/NAME.",
    ),
    "an object": (
        "w.pth",
        pickled({"state_dict": {"a": torch.zeros(1)}, "options": Path("x")}),
        "w.pth was refused: it asks for pathlib.PosixPath, and reading it could run code.",
        ASK,
    ),
    "a score": ("w.pth", pickled({"top1": 0.93}), "w.pth does not hold tensors by name.", BY_TORCH),
    "an optimizer": (
        "w.pth",
        pickled(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).state_dict()),
        "w.pth does not hold tensors by name.",
        BY_TORCH,
    ),
    "another suffix": (
        "w.pth",
        text(save({"a": torch.zeros(1)})),
        "w.pth is not a readable torch file: it is a safetensors file by its content.",
        "Call it .safetensors.",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.usefixtures("forked_reader")
def test_weights_that_are_none(
    tmp_path: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch, tally: Tally, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name, make, message, hint = WEIGHTS[kind]
    make(tmp_path / name)  # type: ignore[operator]
    assert_told(imgkit, monkeypatch, 4, message, hint, "finetune", "test_resnet", "--weights", name)
    assert not (tmp_path / "runs").exists()
    tally.count("T-C2", kinds=1, told=1)


def test_weights_of_another_network(tmp_path: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").write_bytes(save(other_network()))
    code, err = told(imgkit, monkeypatch, "finetune", "test_resnet", "--weights", "w.safetensors")
    first, *listed = err.splitlines()
    assert code == 4
    assert first.startswith("error: ")
    assert "w.safetensors" in first
    assert len(first) <= MOST
    assert any(line.strip().startswith("- ") for line in listed)
    assert any(line.strip().startswith("+ ") for line in listed)
    tally.count("T-C2", kinds=1, told=1)


def told(imgkit: Run, monkeypatch: pytest.MonkeyPatch, *command: str) -> tuple[int, str]:
    """Exit code and what follows the notes of a command, on lines that are not wrapped."""
    monkeypatch.setenv("COLUMNS", "500")
    more = ("--data", "synthetic:2x8") if command[0] == "finetune" else ()
    code, out, err = imgkit(*command, *more)
    assert "Traceback" not in out + err
    return code, err[err.index("error: ") :]


def assert_told(
    imgkit: Run, monkeypatch: pytest.MonkeyPatch, exit_code: int, message: str, hint: str, *command: str
) -> None:
    """The command ends with that exit code, one line and what to do."""
    code, err = told(imgkit, monkeypatch, *command)
    assert (code, err.splitlines()) == (exit_code, [f"error: {message}", *(f"  {line}" for line in hint.split("\n"))])
    assert len(message) <= MOST


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return short_run(tmp_path_factory.mktemp("whole"), "phases.all.epochs=1").folder.path


def fewer_classes(place: Path) -> None:
    file = place / "model" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "label_names": config["label_names"][:-1]}))


def unfinished(place: Path) -> None:
    """As a kill after the last checkpoint leaves it: resume begins with that."""
    status = json.loads((place / "status.json").read_text())
    (place / "status.json").write_text(json.dumps({**status, "state": "running"}))


def damaged_checkpoints(place: Path) -> None:
    unfinished(place)
    for step in checkpoint.steps(place / "checkpoints"):
        (place / "checkpoints" / f"step-{step:08d}" / "MANIFEST.json").unlink()


def replaced(**parts: Any) -> Callable[[Path], None]:  # noqa: ANN401
    """The newest checkpoint, whole, with a part that another run might have."""

    def damage(place: Path) -> None:
        unfinished(place)
        folder = place / "checkpoints"
        found = checkpoint.read(folder, checkpoint.steps(folder)[-1])
        state = {**found.state, **parts.get("state", {})}
        checkpoint.save(folder, replace(found, **{**parts, "state": state}), keep="all", best=None)

    return damage


RUNS: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str, str]] = {
    "run.json is a web page": (
        lambda place: (place / "run.json").write_text("<html>"),
        ("evaluate", "run"),
        "runs/run/run.json cannot be read: .*",
        "put back a copy",
    ),
    "run.json is nested": (
        lambda place: (place / "run.json").write_text("[" * 100_000),
        ("evaluate", "run"),
        "runs/run/run.json cannot be read: it is nested too deep.",
        "put back a copy",
    ),
    "cut model": (
        lambda place: (place / "model" / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{"),
        ("predict", "run", "picture.png"),
        "runs/run/model/model.safetensors cannot be read: its header is longer than the file",
        "Copy the folder again",
    ),
    "wrong classes": (
        fewer_classes,
        ("predict", "run", "picture.png"),
        r"runs/run/model/config.json names 2 classes of 3.",
        "Copy the folder again",
    ),
    "no checkpoint is whole": (
        damaged_checkpoints,
        ("resume", "run"),
        "No checkpoint can be used:",
        "the recipe is in recipe.toml",
    ),
    **{
        f"checkpoint of another {what}": (
            damage,
            ("resume", "run"),
            r"runs/run/checkpoints/step-0000\d+: of another run or network \(\w+ as it was taken up\)\.",
            "Remove it; the one before is used then:  imgkit resume runs/run",
        )
        for what, damage in (
            ("network", replaced(model=sample(1).model)),
            ("program", replaced(state={"progress": {"epoch": 3}})),
            ("optimizer", replaced(state={"optimizer": {"kind": "sgd"}})),
        )
    },
}


@pytest.mark.parametrize("kind", RUNS)
def test_runs_that_are_damaged(
    tmp_path: Path, run: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch, tally: Tally, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "run")
    damage, command, message, hint = RUNS[kind]
    shutil.copy(next(Path(json.loads((run / "run.json").read_text())["data"]["root"]).rglob("*.png")), "picture.png")
    damage(tmp_path / "runs" / "run")
    code, err = told(imgkit, monkeypatch, *command)
    first, *rest = err.splitlines()
    assert code == 7
    assert re.fullmatch(f"error: {message}", first)
    assert len(first) <= MOST
    assert hint in "\n".join(rest)
    tally.count("T-C2", kinds=1, told=1)


# What protects, taken away: the checks above must notice.


def test_the_check_notices_what_is_missing(
    tmp_path: Path, run: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.chdir(tmp_path)
    WEIGHTS["cut safetensors"][1](tmp_path / "w.safetensors")  # type: ignore[operator]
    with monkeypatch.context() as patch:
        patch.setattr("imgkit.models.tensor_file._read", lambda file, trusted: load_file(file))
        with pytest.raises(SafetensorError):
            told(imgkit, patch, "finetune", "test_resnet", "--weights", "w.safetensors")
    shutil.copytree(run, tmp_path / "runs" / "run")
    replaced(model=sample(1).model)(tmp_path / "runs" / "run")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "fitting", lambda folder, step: nullcontext())
        with pytest.raises(RuntimeError, match="Missing key"):
            told(imgkit, patch, "resume", "run")
    tally.count("mutants", caught=2, escaped=0)
