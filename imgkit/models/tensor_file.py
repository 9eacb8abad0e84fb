"""A file of tensors by name: read, never run, as safetensors, or by torch in a process of its own with limits."""

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load, load_file
from timm.models import clean_state_dict
from torch import Tensor

from imgkit.bounds import check_tensors
from imgkit.errors import WeightsError, brief, ran_out
from imgkit.models import torch_reader
from imgkit.models.torch_reader import REFUSED, Problem, Refused

_BY_TORCH = (b"PK\x03\x04", b"\x80")  # how files of torch.save begin: a zip archive, in old ones a pickle
_STATE_DICT = "torch.save(model.state_dict(), FILE)"
_ASK = "Ask its author for a .safetensors file."
# Measured on files of 100 MB, zip and old: 0.15 s of processor time, and memory of 1.0 to 1.5 times the file.
_SECONDS, _SECONDS_PER_BYTE = 1.0, 2e-8
_MEMORY, _MEMORY_PER_BYTE = 200 << 20, 4
_WAIT_S, _WAIT_S_PER_BYTE = 600.0, 1e-6  # by the clock: only a disk that does not answer takes so long


def read_tensors(file: Path, *, trusted: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        file: safetensors or torch's, as its name says.
        trusted: whether it came with installed code: then torch reads it here, which saves a process and 2 s.

    Raises:
        WeightsError: if it is damaged, holds no tensors by name, would have to run code to be read, or takes more to
            read than a file of its size can need.
    """
    if file.suffix not in {".safetensors", ".pth", ".pt", ".bin", ".tar"}:
        raise WeightsError(f"{file}: weights are read from .safetensors, .pth, .pt or .bin files.", "Convert it.")
    try:
        tensors = _read(file, trusted)
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read: {error.strerror or error}.", "Mend that, or fetch it again."
        ) from error
    except Refused as error:
        raise _refusal(file, error.problem, error.detail) from error
    if not tensors:
        raise _refusal(file, "no tensors", "")
    cleaned: dict[str, Tensor] = clean_state_dict(tensors)
    return cleaned


def _read(file: Path, trusted: bool) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            check_tensors(file)
            return load_file(file)
        except OSError:
            raise
        except Exception as error:  # a damaged file makes the reader fail in many ways
            if ran_out(error):
                raise
            raise Refused("damaged", str(error) if isinstance(error, ValueError) else "") from error
    if not _start(file).startswith(_BY_TORCH):
        raise Refused("damaged")
    return torch_reader.read(file) if trusted else _read_apart(file)


def _read_apart(file: Path) -> dict[str, Tensor]:
    """What `torch_reader` gives, run in a process of its own.

    Raises:
        Refused: if that gives no tensors.
        WeightsError: if it takes too much.
    """
    size = file.stat().st_size
    seconds = _SECONDS + _SECONDS_PER_BYTE * size
    asked = (str(file.absolute()), str(seconds), str(_MEMORY + _MEMORY_PER_BYTE * size))
    wait_s = _WAIT_S + _WAIT_S_PER_BYTE * size
    try:
        done = subprocess.run(  # noqa: S603  (our own file)
            # -P: else a file torch.py in the folder that the user is in would be imported.
            [sys.executable, "-P", torch_reader.__file__, *asked],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            timeout=wait_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _greedy(file, f"reading it was not over after {wait_s:.0f} s") from None
    if done.returncode == 0:
        tensors, length = load(done.stdout), int.from_bytes(done.stdout[:8], "little")
        return {name: tensors[name] for name in json.loads(done.stdout[8 : 8 + length])}  # in the order of the file
    if done.returncode == REFUSED:
        told = json.loads(done.stdout)
        raise Refused(told["problem"], told["detail"])
    if done.returncode < 0:
        raise _greedy(file, f"its reader was ended after at most {seconds:.1f} s (signal {-done.returncode})")
    why = brief(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    raise WeightsError(f"{file} cannot be read: {why}.", "Fetch it again, or take a .safetensors file.")


def _refusal(file: Path, problem: Problem, detail: str) -> WeightsError:
    if problem == "damaged":
        return _no_weights(file, detail)
    if problem == "no tensors":
        return WeightsError(
            f"{file} does not hold tensors by name.",
            f'It must be a state dict, bare or under "state_dict" or "model":  {_STATE_DICT}',
        )
    if problem == "size":
        return _greedy(file, "its tensors are more than four times as large as the file")
    if problem == "memory":
        return _greedy(file, "it asks for more memory than a file of its size can need")
    whys = {
        "code": f"it asks for {brief(detail, 60)}, and reading it could run code",
        "objects": "it holds more than tensors",
        "kind": f"{brief(detail, 60)} is no plain tensor",
    }
    return WeightsError(f"{file} was refused: {whys[problem]}.", _ASK)


def _greedy(file: Path, why: str) -> WeightsError:
    return WeightsError(f"{file} was refused: {why}.", _ASK)


def _no_weights(file: Path, detail: str) -> WeightsError:
    """What a file is that cannot be read as its name says, as far as its first bytes tell."""
    start = _start(file)
    text = start.lstrip().lower()
    again = "Fetch it again."
    if not start:
        what, hint = "it is empty", again
    elif start.startswith(b"version https://git-lfs"):
        what, hint = "it is a pointer of Git LFS, not the file itself", "Fetch the file itself:  git lfs pull"
    elif text.startswith((b"<!doctype", b"<html")):
        what, hint = "it is a web page", again
    elif start[8:9] == b"{" and file.suffix != ".safetensors":
        what, hint = "it is a safetensors file by its content", "Call it .safetensors."
    elif start.startswith(_BY_TORCH):
        by_torch = file.suffix != ".safetensors"
        what = "it is damaged, or cut short" if by_torch else "it is a file of torch.save by its content"
        hint = again if by_torch else "Call it .pth."
    elif start[8:9] == b"{" and detail:
        what, hint = detail, again
    elif file.suffix == ".safetensors":
        what, hint = "it is damaged, or something else by its content", again
    else:
        what, hint = "torch.save did not write it", f"Give a .safetensors file, or one of  {_STATE_DICT}"
    kind = "safetensors" if file.suffix == ".safetensors" else "torch"
    return WeightsError(f"{file} is not a readable {kind} file: {what}.", hint)


def _start(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(64)
