"""The writer of safetensors against the library's."""

import pytest
import safetensors.torch
import torch
from torch import Tensor

from imgkit import tensor_file
from imgkit.tensor_file import file_size, not_finite, parts

SHAPES = ((), (0,), (3,), (2, 0, 4), (5, 3, 2, 2))


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Any bytes, as a tensor."""
    count = torch.Size(shape).numel()
    if dtype == torch.bool:
        return torch.randint(2, shape).bool()
    size = torch.empty(0, dtype=dtype).element_size()
    return torch.randint(256, (count * size,), dtype=torch.uint8).view(dtype).reshape(shape)


def every_kind() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {f"{dtype}.{len(shape)}{shape}": drawn(shape, dtype) for dtype in tensor_file._NAMES for shape in SHAPES}
    return {**tensors, 'ünï/"quoted"\n': torch.ones(2), "é\x7f": torch.zeros(1, dtype=torch.int64)}


@pytest.mark.parametrize("part", [1, 64, 8 << 20])
def test_the_bytes_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(tensor_file, "_PART", part)
    monkeypatch.setattr(tensor_file, "_SMALL", part // 2)
    tensors = every_kind()
    found = [bytes(one) for one in parts(tensors)]
    assert b"".join(found) == safetensors.torch.save(tensors)
    assert file_size(tensors) == sum(map(len, found))
    assert len(found) == 1 or part < 8 << 20


def test_no_tensors_are_a_file_too() -> None:
    assert b"".join(parts({})) == safetensors.torch.save({})


def test_any_layout_is_written_row_by_row() -> None:
    rows = torch.arange(120.0).reshape(2, 3, 4, 5)
    layouts = {
        "channels last": rows.contiguous(memory_format=torch.channels_last),
        "a part": torch.stack([rows, rows])[1],
        "turned": rows.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        "one number, many times": torch.ones(1).expand(7),
        "learnt": torch.nn.Parameter(rows),
    }
    found = safetensors.torch.load(b"".join(parts(layouts)))
    assert all(torch.equal(found[name], tensor) for name, tensor in layouts.items())


def test_large_tensors_are_cut_and_small_ones_gathered() -> None:
    tensors = {f"small {i}": torch.ones(10) for i in range(200)} | {"large": torch.ones(5 << 20)}
    sizes = [len(one) for one in parts(tensors)]
    assert max(sizes) == 8 << 20
    assert len(sizes) <= 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_not_finite_is_named(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    good = {
        "wide": torch.tensor([largest, -largest], dtype=dtype),
        "empty": torch.empty(0, dtype=dtype),
        "whole": torch.tensor([1 << 40]),
        "one": torch.nn.Parameter(torch.tensor(0.5, dtype=dtype)),
    }
    assert not_finite(good) is None
    for odd in (float("nan"), float("inf"), -float("inf")):
        for place in range(70):
            values = torch.ones(70, dtype=dtype)
            values[place] = odd
            assert not_finite({**good, "odd": values.reshape(7, 10).t()}) == "odd"
