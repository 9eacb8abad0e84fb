"""Reads a file of `torch.save` in a process of its own and writes its tensors to stdout as a safetensors file.

    python -P torch_reader.py FILE SECONDS MEMORY

`torch.load(weights_only=True)` runs no code of the file, but a file can make it take any memory, or never end. Here it
takes at most SECONDS of processor time and MEMORY bytes, both counted from the import of torch on, and can write no
file. This module is run by its path: it needs nothing of imgkit, and nothing of the folder that the user is in (-P).

Where the file gives no tensors, stdout is one line `{"problem": ..., "detail": ...}` and the exit code REFUSED.
"""

import json
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO, Literal

import torch
from torch import Tensor

REFUSED = 3
_NAMES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL"},
}

Problem = Literal["code", "objects", "damaged", "no tensors", "kind", "size", "memory"]


class Refused(Exception):
    """The file gives no tensors.

    Args:
        problem: "code": it asks for a function, named in `detail`; "objects": it holds more than plain values and
            tensors; "damaged", or something else; "no tensors" by name; "kind": a tensor of a kind that safetensors has
            not; "size": its tensors are far larger than it; "memory": there is not enough.
        detail: the name of a function or tensor.
    """

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(problem, detail)
        self.problem: Problem = problem
        self.detail = detail


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: a state dict, bare or under "state_dict" or "model".

    Raises:
        Refused: if there are none.
        OSError: if the file cannot be read.
    """
    content = _load(file)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise Refused("no tensors")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise Refused("no tensors")
    for name, value in content.items():
        if value.dtype not in _NAMES or value.layout != torch.strided or value.device.type != "cpu":
            raise Refused("kind", name)
    # A view may repeat one number without end; weights that two layers share are twice the file.
    if sum(value.nbytes for value in content.values()) > 4 * file.stat().st_size:
        raise Refused("size")
    return {name: value.detach() for name, value in content.items()}


def write(tensors: Mapping[str, Tensor], stream: BinaryIO) -> None:
    """Write tensors as a safetensors file, one after the other: no second copy of all of them is made."""
    header, end = {}, 0
    for name, value in tensors.items():
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [end, end + value.nbytes],
        }
        end += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    stream.write(len(text).to_bytes(8, "little") + text)
    for value in tensors.values():
        stream.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)  # any shape -> bytes (n,)


def limit(seconds: float, memory: int) -> None:
    """From here on this process takes so much at most; what the system cannot limit, it does not."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # a signal at the end of it, which ends the process
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    asked = {resource.RLIMIT_AS: taken + memory, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for what, most in asked.items():
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def main(file: str, seconds: str, memory: str) -> int:
    """Read, and write what came out; returns the exit code."""
    torch.set_num_threads(1)
    limit(float(seconds), int(memory))
    try:
        write(read(Path(file)), sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except Refused as error:
        told = {"problem": error.problem, "detail": error.detail}
    except MemoryError:
        told = {"problem": "memory", "detail": ""}
    else:
        return 0
    print(json.dumps(told))
    return REFUSED


def _load(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise Refused(*(("code", asked[1]) if asked else ("objects",))) from error
    except Exception as error:  # a damaged file makes the reader fail in many ways
        if any(words in str(error).lower() for words in ("allocate memory", "out of memory", "not enough memory")):
            raise MemoryError from error
        raise Refused("damaged") from error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
