"""Contestants of benchmarks/speed.py that stay, and do an epoch (the limit: some steps) a turn while the others wait.

Start-up, trial steps and a first epoch are paid once and not in every repeat, so that ten pairs take the time of three,
and the two of a pair are seconds apart. A driver that is given `--turns` does one turn that does not count, answers
with a line of JSON, and does another one for each line that it reads; see `stopwatch.Turns`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from speed_contestants import Contestant


class Kept:
    """A contestant's process.

    Args:
        one: that has one variant.
        scratch: where its folder is made.
        env: its environment.
    """

    def __init__(self, one: Contestant, scratch: Path, env: dict[str, str]) -> None:
        self._one, self._scratch, self._env = one, scratch, env

    def __enter__(self) -> Self:
        """Start it, and wait for the turn that does not count."""
        self._folder = tempfile.TemporaryDirectory(dir=self._scratch)
        ((self._variant, line),) = self._one.variants.items()
        words = [word.format(out=Path(self._folder.name) / "found.json", scratch=self._folder.name) for word in line]
        self._said = Path(self._folder.name) / "stderr.txt"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [*words, "--turns"],
                env=self._env,
                cwd=self._folder.name,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def turn(self) -> dict[str, Any]:
        """One turn: its `values` by who, and what else the driver tells.

        Raises:
            SystemExit: if the process has ended.
        """
        load, began = os.getloadavg()[0], time.perf_counter()
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = self._answer()
        about = {"variant": self._variant, "load": round(load, 2), "wall_s": round(time.perf_counter() - began, 2)}
        return {**about, "values": {self._one.who: found.pop("value")}, **found}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = " ".join(self._said.read_text().strip().splitlines()[-2:])
            raise SystemExit(f"{self._one.who} ended: {words or 'no message'}")
        found: dict[str, Any] = json.loads(line)
        return found
