import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgkit import machine

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty control groups of a machine with eight cores and 64 GiB."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_installed", lambda: 64 * GIB)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("1600000 100000", 8)],
)
def test_a_containers_share_of_the_cores(groups: Path, quota: str, cores: int) -> None:
    (groups / "cpu.max").write_text(f"{quota}\n")
    assert machine.cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2), ("150000", 2), ("9900000", 8)])
def test_a_containers_share_as_older_systems_tell_it(groups: Path, quota: str, cores: int) -> None:
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (groups / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    assert machine.cores() == cores


def test_cores_that_the_process_is_bound_to(monkeypatch: pytest.MonkeyPatch, groups: Path) -> None:
    assert machine.cores() == 8
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert machine.cores() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    for told, cores in ((6, 6), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda told=told: told)
        assert machine.cores() == cores


def test_the_memory_of_a_container(groups: Path) -> None:
    assert machine.memory() == 64 * GIB
    for told, expected in (("max", 64 * GIB), (f"{4 * GIB}", 4 * GIB), (f"{99 * GIB}", 64 * GIB)):
        (groups / "memory.max").write_text(f"{told}\n")
        assert machine.memory() == expected


@pytest.mark.parametrize("old", [False, True])
def test_memory_is_free_of_the_limit_and_so_are_files_that_were_read(
    groups: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    told = groups / "meminfo"
    told.write_text(f"MemTotal: {64 * 2**20} kB\nMemAvailable: {50 * 2**20} kB\n")
    monkeypatch.setattr(machine, "_MEMORY", told)
    names = ("memory.max", "memory.current", "memory.stat", "inactive_file")
    if old:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file")
    folder = groups / "memory" if old else groups
    folder.mkdir(exist_ok=True)
    assert machine.free_memory() == 50 * GIB
    (folder / names[0]).write_text(f"{2**63 - 4096}" if old else "max")
    (folder / names[1]).write_text(f"{7 * GIB}")
    (folder / names[2]).write_text(f"anon 5\n{names[3]} {2 * GIB}\nfile 7\n")
    assert machine.free_memory() == 50 * GIB, "no limit"
    (folder / names[0]).write_text(f"{8 * GIB}")
    assert machine.free_memory() == 3 * GIB
    (folder / names[2]).unlink()
    assert machine.free_memory() == GIB
    (folder / names[0]).write_text(f"{60 * GIB}")
    told.write_text(f"MemAvailable: {2**20} kB\n")
    assert machine.free_memory() == GIB, "the machine itself has no more"
    told.unlink()
    assert machine.free_memory() is None


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "none")
    monkeypatch.delattr("os.sysconf")
    assert machine.memory() is None
    assert machine.free_memory() is None


def test_openmp_is_told_of_a_share_alone(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.tell_openmp()
    assert "OMP_NUM_THREADS" not in os.environ
    (groups / "cpu.max").write_text("150000 100000\n")
    machine.tell_openmp()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    machine.tell_openmp()
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_torch_beneath_a_command_has_the_threads_of_the_share(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    code = (
        "import pathlib, sys, imgkit.machine, imgkit.cli.app\n"
        f"imgkit.machine._GROUPS = pathlib.Path({str(tmp_path)!r})\n"
        "sys.argv = ['imgkit', '--version']\n"
        "try:\n    imgkit.cli.app.main()\n"
        "finally:\n    import torch\n    print(torch.get_num_threads())\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.splitlines()[-1] == "1"
