"""The type of the `imgkit` fixture, and of those of tests/conftest.py."""

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]
"""Runs `imgkit ARGS...` in this process; returns exit code, stdout and stderr."""

MakeFolders = Callable[..., Path]
TreeHash = Callable[[Path], str]
