"""The process that reads files of torch; what comes of each kind of file is in test_weights.py and tests/faults."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from imgkit.errors import WeightsError
from imgkit.models import tensor_file, torch_reader
from imgkit.models.tensor_file import read_tensors

KINDS = {
    "a": torch.randn(3, 4).T,
    "b": torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "c": torch.tensor(7),
    "d": torch.ones(0, 3),
    "e": torch.randn(5).bfloat16(),
    "f": torch.tensor([True, False]),
    "g": torch.randn(2, 2).half(),
}


def test_a_process_of_its_own_gives_the_same_tensors(tmp_path: Path) -> None:
    torch.save({"state_dict": KINDS}, tmp_path / "w.pth")
    found = read_tensors(tmp_path / "w.pth")
    assert list(found) == list(KINDS)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in KINDS.items())


def test_installed_code_is_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(KINDS, tmp_path / "w.pth")
    monkeypatch.setattr(tensor_file, "_read_apart", lambda file: pytest.fail("no process was needed"))
    found = read_tensors(tmp_path / "w.pth", trusted=True)
    assert all(torch.equal(found[name], value) for name, value in KINDS.items())


@pytest.mark.usefixtures("forked_reader")
def test_a_kind_of_tensor_that_safetensors_lacks(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "b": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="was refused: b is no plain tensor") as caught:
        read_tensors(tmp_path / "w.pth")
    assert caught.value.hint == "Ask its author for a .safetensors file."


class Ended:
    """`subprocess`, of which each process ends as told."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __init__(self, code: int | None, stderr: bytes = b"") -> None:
        self._code, self._stderr = code, stderr

    def run(self, command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[bytes]:
        assert command[:3] == [sys.executable, "-P", torch_reader.__file__]
        if self._code is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, self._code, b"", self._stderr)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended(None), r"was refused: reading it was not over after 600 s\."),
        (Ended(-27), r"was refused: its reader was ended after at most 1\.0 s \(signal 27\)\."),
        (
            Ended(1, b"Traceback\nOSError: [Errno 5] Input/output error\n"),
            r"cannot be read: OSError: \[Errno 5\] Input",
        ),
        (Ended(1), r"cannot be read: \."),
    ],
)
def test_a_reader_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended, said: str
) -> None:
    torch.save(KINDS, tmp_path / "w.pth")
    monkeypatch.setattr(tensor_file, "subprocess", ended)
    with pytest.raises(WeightsError, match=rf"w\.pth {said}") as caught:
        read_tensors(tmp_path / "w.pth")
    assert "\n" not in caught.value.message
    assert caught.value.hint
