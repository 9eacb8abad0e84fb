"""What of this machine a process may use: the cores and the memory that a cluster's job or a container leaves it."""

import math
import os
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")  # Linux's control groups, version 2 or 1: a container finds its own limits there
_MEMORY = Path("/proc/meminfo")


def cores() -> int:
    """How many cores: those that the process is bound to, or the container's share of their time where that is less.

    A share of one and a half is two.
    """
    share = _share()
    return _bound() if share is None else max(1, min(_bound(), math.ceil(share)))


def memory() -> int | None:
    """Bytes of memory in all, or the container's limit where that is less; None where the system does not say."""
    whole, limit = _installed(), _limit()
    return whole if whole is None or limit is None else min(whole, limit)


def free_memory() -> int | None:
    """Bytes of memory that may be taken now; None where the system does not say.

    Files that a container has read and that the system keeps for it count as free, as they do outside of one.
    """
    free, whole, limit = _line(_MEMORY, "MemAvailable:"), _installed(), _limit()
    if free is None or limit is None or (whole is not None and limit >= whole):
        return None if free is None else 1024 * free
    used = _number("memory.current") or _number("memory/memory.usage_in_bytes") or 0
    files = _line(_GROUPS / "memory.stat", "inactive_file")
    if files is None:
        files = _line(_GROUPS / "memory" / "memory.stat", "total_inactive_file")
    return min(1024 * free, max(0, limit - used + (files or 0)))


def tell_openmp() -> None:
    """Have OpenMP, and torch by it, start no more threads than `cores`; before torch is imported.

    By itself it starts one for each core that the process is bound to, and does not see a container's share of their
    time. A number that the user has set stays.
    """
    if cores() < _bound():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def _bound() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share() -> float | None:
    """Cores' worth of time that the container may take; None: all."""
    with suppress(OSError, ValueError):  # "max": all
        quota, period = (_GROUPS / "cpu.max").read_text().split()
        return int(quota) / int(period)
    old_quota, old_period = _number("cpu/cpu.cfs_quota_us"), _number("cpu/cpu.cfs_period_us")
    return old_quota / old_period if old_quota and old_period and old_quota > 0 else None  # -1: all


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # as on Windows
        return None


def _limit() -> int | None:
    """Of the container's memory."""
    return _number("memory.max") or _number("memory/memory.limit_in_bytes")


def _number(name: str) -> int | None:
    """What a file of the control group holds; None where it is missing or says "max"."""
    with suppress(OSError, ValueError):
        return int((_GROUPS / name).read_text())
    return None


def _line(file: Path, name: str) -> int | None:
    """The number after `name`, in a file of one name and its number a line."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    return None
