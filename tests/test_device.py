from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from imgkit import device
from imgkit.errors import DeviceError, UsageError


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        # one step of each to warm up, then three of each in turn: float32, bfloat16
        ([9, 9, 1.0, 0.7, 1.0, 0.9, 1.0, 0.9], torch.bfloat16),
        ([9, 1, 1.0, 0.85, 1.0, 0.85, 1.0, 0.85], None),
        ([9, 9, 1.0, 0.7, 0.8, 0.9, 1.0, 0.9], None),  # the quickest of each counts
    ],
)
def test_bfloat16_has_to_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], chosen: torch.dtype | None
) -> None:
    times: Iterator[float] = iter(seconds)
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "_step_seconds", lambda *_: next(times))
    found, why = device.choose_precision(nn.Flatten(), torch.device("cpu"), (8, 8), 4)
    assert found == chosen
    assert why.startswith("bfloat16: " if chosen else "float32: ")
    assert next(times, None) is None


def test_a_model_is_tried_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found for a model is not remembered with it: a machine's load changes, and the model would stay."""
    times = iter([9, 9, *[1.0, 0.5] * 3, 9, 9, *[1.0, 1.0] * 3])
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "_step_seconds", lambda *_: next(times))
    asked = nn.Flatten(), torch.device("cpu"), (8, 8), 4
    assert [device.choose_precision(*asked)[0] for _ in range(2)] == [torch.bfloat16, None]


@pytest.mark.parametrize(
    ("kind", "batch", "room", "tried"),
    [
        ("cpu", 64, 999, [8]),
        ("cpu", 1, 999, [2]),  # batch norm wants two
        ("cuda", 64, 999, [64]),
        ("cuda", 64, 20, [64, 32, 16]),
        ("cuda", 6, 1, [6, 3, 2]),
    ],
)
def test_the_format_is_tried_on_as_many_images_as_an_update_takes(
    monkeypatch: pytest.MonkeyPatch, kind: str, batch: int, room: int, tried: list[int]
) -> None:
    seen: list[int] = []

    def step(model: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> float:
        if len(images) not in seen:
            seen.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0 if dtype is None else 0.5

    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(device, "_step_seconds", step)
    zeros = torch.zeros

    def zeros_here(*shape: int, device: torch.device) -> torch.Tensor:
        return zeros(*shape)

    monkeypatch.setattr("torch.zeros", zeros_here)
    found, why = device.choose_precision(nn.Flatten(), torch.device(kind), (8, 8), batch)
    assert seen == tried
    if room > 1:
        assert (found, why.endswith(f"a trial step of {tried[-1]} images in float32")) == (torch.bfloat16, True)
    else:
        assert (found, why) == (None, "float32: out of memory in trial steps of 2 images on cuda")


def test_a_trial_step_takes_time_and_leaves_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert device._step_seconds(model, torch.zeros(2, 3, 8, 8), torch.bfloat16) > 0
    assert model[1].weight.grad is None


def test_a_device_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert device.choose_device("auto") == torch.device("cpu")
    for word in ("gpu", "meta"):
        with pytest.raises(UsageError, match=f"--device '{word}' is not known"):
            device.choose_device(word)
    with pytest.raises(DeviceError, match="--device cuda:99 was asked for") as caught:
        device.choose_device("cuda:99")
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "kind", "cores", "expected"),
    [(0, "cuda", 8, 0), (5, "cpu", 2, 5), (None, "cpu", 16, 2), (None, "cpu", 1, 0), (None, "cuda", 16, 8)],
)
def test_workers_as_asked_or_from_the_cores(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, kind: str, cores: int, expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert device.choose_workers(asked, torch.device(kind)) == expected


@pytest.mark.parametrize(("room", "hint"), [(64, ""), (20, "--micro-batch 16"), (1, "--micro-batch 1"), (0, "smaller")])
def test_what_fits_is_tried_before_the_first_step(monkeypatch: pytest.MonkeyPatch, room: int, hint: str) -> None:
    def step(model: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> float:
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 0.0

    monkeypatch.setattr(device, "_step_seconds", step)
    model = nn.Flatten()
    device.check_memory(model, torch.device("cpu"), (8, 8), 64, None, None)
    if not hint:
        device.check_memory(model, torch.device("meta"), (8, 8), 64, None, None)
        return
    with pytest.raises(DeviceError, match="Out of memory on meta with 64 images of 8×8 at once") as caught:
        device.check_memory(model, torch.device("meta"), (8, 8), 64, None, None)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC  7B13\nflags : avx2\n\nmodel name\t: other\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "arm"),  # Linux on ARM names no model
        (None, "arm"),
    ],
)
def test_the_machine_has_the_processors_name_and_its_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None, name: str
) -> None:
    file = tmp_path / "cpuinfo"
    if told is not None:
        file.write_text(told)
    monkeypatch.setattr(device, "_CPU_INFO", file)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert device.describe(torch.device("cpu")) == f"CPU, 1 thread ({name}, AVX2)"
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: gpu)
    assert device.describe(torch.device("cuda")) == f"NVIDIA H100 80 GiB ({name}, AVX2)"
