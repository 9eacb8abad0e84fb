from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from imgkit import device
from imgkit.errors import DeviceError, UsageError


def test_a_trial_step_takes_time_and_leaves_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert device.step_seconds(model, torch.zeros(2, 3, 8, 8), torch.bfloat16) > 0
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
    [
        (0, "cuda", 8, 0),
        (5, "cpu", 2, 5),
        (None, "cpu", 1, 0),
        (None, "cpu", 2, 2),
        (None, "cpu", 8, 8),
        (None, "cpu", 64, 8),
        (None, "mps", 8, 2),
        (None, "cuda", 1, 1),
        (None, "cuda", 16, 8),
    ],
)
def test_workers_as_asked_or_from_the_cores(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, kind: str, cores: int, expected: int
) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(device, "start_method", lambda: "fork")
    assert device.choose_workers(asked, torch.device(kind)) == expected


def test_few_workers_where_they_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: 8)
    for threads, method, expected in ((8, "fork", 8), (8, "spawn", 2), (3, "fork", 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(device, "start_method", lambda method=method: method)
        assert device.choose_workers(None, torch.device("cpu")) == expected
        assert device.in_turn(torch.device("cpu"), 8) == (expected == 8)


@pytest.mark.parametrize(
    ("kind", "cores", "threads", "workers", "sharing", "expected"),
    [
        ("cpu", 2, 2, 2, 1, True),
        ("cpu", 2, 2, 1, 1, False),  # a core would rest
        ("cpu", 8, 4, 8, 1, True),  # four cores that are counted twice
        ("cpu", 8, 3, 8, 1, False),  # there are cores for both
        ("cpu", 8, 2, 4, 2, True),
        ("cpu", 2, 1, 2, 1, False),  # one thread waits for no other
        ("cpu", 64, 64, 8, 1, True),
        ("cpu", 64, 64, 7, 1, False),
        ("cpu", 1, 2, 1, 4, True),  # more trainings than cores
        ("cuda", 2, 2, 2, 1, False),
    ],
)
def test_loaders_take_turns_with_the_network_where_both_have_the_same_cores(
    monkeypatch: pytest.MonkeyPatch, kind: str, cores: int, threads: int, workers: int, sharing: int, expected: bool
) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(device, "start_method", lambda: "fork")
    assert device.in_turn(torch.device(kind), workers, sharing) == expected


def test_channels_lie_last_but_where_gradients_would_be_wrong() -> None:
    found = {kind: device.memory_format(torch.device(kind)) for kind in ("cpu", "cuda", "mps")}
    assert found == {"cpu": torch.channels_last, "cuda": torch.channels_last, "mps": torch.contiguous_format}


def test_one_image_is_tried_without_its_own_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    assert device._fits(model, torch.device("cpu"), (1, 3, 1, 1), None)
    assert model[1].training


def test_a_kernel_that_is_not_deterministic_is_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> float:
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but")

    monkeypatch.setattr(device, "step_seconds", refused)
    with pytest.raises(DeviceError, match="no such kernel on meta: adaptive_avg_pool2d_backward_cuda") as caught:
        device.check_memory(nn.Flatten(), torch.device("meta"), (8, 8), 4, None, None)
    assert "run.deterministic" in caught.value.hint


@pytest.mark.parametrize(("room", "hint"), [(64, ""), (20, "--micro-batch 16"), (1, "--micro-batch 1"), (0, "smaller")])
def test_what_fits_is_tried_before_the_first_step(monkeypatch: pytest.MonkeyPatch, room: int, hint: str) -> None:
    def step(model: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> float:
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 0.0

    monkeypatch.setattr(device, "step_seconds", step)
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
