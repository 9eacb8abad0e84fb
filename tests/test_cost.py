import json
import re
import resource
import sys
from pathlib import Path

import pytest
import torch

from imgkit.cost import cost_of, peak_memory


def test_what_cost_json_holds() -> None:
    found = cost_of(64, seconds=2.0, network_seconds=1.5, device=torch.device("cpu"))
    assert found["images_per_second"] == 32
    assert (found["images"], found["seconds"], found["network_seconds"]) == (64, 2.0, 1.5)
    assert found["device"].startswith("CPU")
    assert found["device_peak_memory"] is None
    assert json.loads(json.dumps(found)) == found


def test_energy_is_left_out_where_it_is_not_known() -> None:
    found = [
        cost_of(8, seconds=2, network_seconds=1, device=torch.device("cpu"), joules=one) for one in (None, 12.3456)
    ]
    assert "processor_joules" not in found[0]
    assert found[1]["processor_joules"] == 12.35


def test_a_gpus_memory_is_told_beside_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.cost.describe", str)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda:1": 12345}[str(device)])
    found = cost_of(1, seconds=2.0, network_seconds=1.5, device=torch.device("cuda:1"))
    assert (found["device"], found["device_peak_memory"]) == ("cuda:1", 12345)
    assert found["peak_memory"] > 12345


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the other count is Linux's")
def test_memory_is_the_greatest_resident_set_in_bytes() -> None:
    held = torch.ones(64 << 20, dtype=torch.uint8)
    found, told = peak_memory(), re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    assert told is not None
    assert found > held.numel()
    assert found == pytest.approx(int(told[1]) * 1024, rel=0.05)


@pytest.mark.parametrize(("system", "bytes_each"), [("darwin", 1), ("linux", 1024), ("win32", None)])
def test_each_system_counts_in_units_of_its_own(
    system: str, bytes_each: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: resource.struct_rusage([0, 0, 5000, *[0] * 13]))
    assert peak_memory() == (None if bytes_each is None else 5000 * bytes_each)
