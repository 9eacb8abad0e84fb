"""Freed memory is kept while a run trains, and given back where it is asked for."""

import platform
import subprocess
import sys

import pytest

RSS = """
import os
from imgkit.freed_memory import give_back_freed_memory, keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keep_freed_memory()
before, blocks = resident(), [bytearray(8 << 20) for _ in range(32)]
below = bytearray(1 << 20)  # what is freed lies below something that is not
held = resident()
del blocks
freed = resident()
give_back_freed_memory()
print(before, held, freed, resident(), below[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", RSS], capture_output=True, text=True, check=True)
    before, held, freed, given_back, _ = map(int, done.stdout.split())
    assert held - before > 200 << 20
    assert freed > held - (16 << 20)
    assert given_back < before + (32 << 20)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgkit import freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: pytest.fail(f"{name} was loaded"))
    monkeypatch.setattr(freed_memory, "_glibc", freed_memory._glibc.__wrapped__)  # what it found before is remembered
    freed_memory.keep_freed_memory()
    freed_memory.give_back_freed_memory()
