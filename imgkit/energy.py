"""Joules that processors took, by the counters of Linux (RAPL) under /sys/class/powercap, where these may be read."""

import re
from pathlib import Path

ROOT = Path("/sys/class/powercap")
# AMD's are called so, too. intel-rapl:0:1 is a part of one, intel-rapl-mmio:0 the same once more.
_PACKAGE = re.compile(r"intel-rapl:\d+")


class Meter:
    """Adds up what the processors of this machine took since it was made, all programs together.

    Only whole packages count: cores and graphics are parts of them. Memory, disks and accelerators are not in it. A
    counter begins anew after some hundred thousand joules, minutes of work on a large machine, so `look` has to be
    called more often than that.

    Args:
        root: where the counters are.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._taken = 0  # microjoules
        self._last: dict[Path, int] = {}
        try:
            packages = [zone for zone in root.iterdir() if _PACKAGE.fullmatch(zone.name)]
            packages = [zone for zone in packages if (zone / "name").read_text().startswith("package")]
            self._wraps = {zone / "energy_uj": _number(zone / "max_energy_range_uj") for zone in packages}
            self._last = {counter: _number(counter) for counter in self._wraps}
        except (OSError, ValueError):  # no such system, or root's alone, as usual since 2020
            self._last = {}

    def look(self) -> None:
        """Add what was taken since the last look."""
        try:
            now = {counter: _number(counter) for counter in self._last}
        except (OSError, ValueError):
            self._last = {}
            return
        for counter, value in now.items():
            before = self._last[counter]
            self._taken += value - before if value >= before else value - before + self._wraps[counter]
        self._last = now

    @property
    def joules(self) -> float | None:
        """Up to the last look; None where that is not known."""
        return self._taken / 1e6 if self._last else None


def _number(file: Path) -> int:
    return int(file.read_text())
