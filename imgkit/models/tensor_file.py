"""A file of tensors by name: read, never run, as safetensors or by `torch.load(weights_only=True)` and nothing else."""

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor

from imgkit.errors import WeightsError, ran_out

_BY_TORCH = (b"PK\x03\x04", b"\x80")  # how files of torch.save begin: a zip archive, in old ones a pickle
_STATE_DICT = "torch.save(model.state_dict(), FILE)"


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Raises:
        WeightsError: if it is damaged, holds no tensors by name, or would have to run code to be read.
    """
    content = _read(file)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{file} does not hold tensors by name.",
            f'It must be a state dict, bare or under "state_dict" or "model":  {_STATE_DICT}',
        )
    cleaned: dict[str, Tensor] = clean_state_dict(content)
    return cleaned


def _read(file: Path) -> object:
    if file.suffix not in {".safetensors", ".pth", ".pt", ".bin", ".tar"}:
        raise WeightsError(f"{file}: weights are read from .safetensors, .pth, .pt or .bin files.", "Convert it.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read: {error.strerror or error}.", "Mend that, or fetch it again."
        ) from error
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None and not _start(file).startswith(_BY_TORCH):
            raise _no_weights(file) from error
        why = f"it asks for {asked[1]}, and reading it could run code" if asked else "it holds more than tensors"
        raise WeightsError(f"{file} was refused: {why}.", "Ask its author for a .safetensors file.") from None
    except Exception as error:  # a damaged file makes the readers fail in many ways
        if ran_out(error):
            raise
        raise _no_weights(file) from error


def _no_weights(file: Path) -> WeightsError:
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
    elif file.suffix == ".safetensors":
        what, hint = "it is damaged, or something else by its content", again
    else:
        what, hint = "torch.save did not write it", f"Give a .safetensors file, or one of  {_STATE_DICT}"
    kind = "safetensors" if file.suffix == ".safetensors" else "torch"
    return WeightsError(f"{file} is not a readable {kind} file: {what}.", hint)


def _start(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(64)
