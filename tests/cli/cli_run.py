"""The type of the `imgkit` fixture."""

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Runs `imgkit ARGS...` in this process; returns exit code, stdout and stderr."""
