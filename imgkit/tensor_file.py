"""Tensors as they are saved: finite, and as safetensors straight from memory, without a copy of the whole file.

The library's own writer makes the file in memory twice over, and no other thread of Python runs meanwhile.
"""

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_PART = 8 << 20  # bytes at most
_SMALL = 1 << 20  # bytes; smaller tensors are gathered
_NAMES = {  # in the library's order: the widest first, so that each is aligned
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: number for number, dtype in enumerate(_NAMES)}


def file_size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the file that `parts` make."""
    return len(_header(tensors)) + sum(tensor.nbytes for tensor in tensors.values())


def parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, those that `safetensors.torch.save` gives, in parts of at most 8 MiB.

    The tensors may be of any layout and device, and must not change until the last part is taken.
    """
    gathered = bytearray(_header(tensors))
    for name in _sorted(tensors):
        # (...) -> (n,) in row-major order -> its bytes
        flat = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        data = flat.numpy().data
        if gathered and (len(gathered) + len(data) > _PART or len(data) > _SMALL):
            yield bytes(gathered)
            gathered.clear()
        if len(data) > _SMALL:
            yield from (data[start : start + _PART] for start in range(0, len(data), _PART))
        else:
            gathered += data
    if gathered:
        yield bytes(gathered)


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            ends = torch.stack(torch.aminmax(tensor.detach()))  # a NaN is both; one pass, and no mask of that size
            if not bool(ends.isfinite().all()):  # device sync
                return name
    return None


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """The length of the JSON, and the JSON: type, shape and place of each tensor."""
    entries, end = {}, 0
    for name in _sorted(tensors):
        tensor, start = tensors[name], end
        end += tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _sorted(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name))
