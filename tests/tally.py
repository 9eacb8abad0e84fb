"""The figures of the campaign: what the tests of tests/faults count and measure, written as one JSON at the end."""

import json
import os
import platform
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

LIBRARIES = ("torch", "timm", "torchvision", "pillow", "numpy", "safetensors")


@dataclass
class Tally:
    """Figures by family ("T-K2") and name."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    extremes: dict[str, dict[str, float]] = field(default_factory=dict)

    def count(self, family: str, **figures: int) -> None:
        """Add to what was counted so far."""
        for name, number in figures.items():
            known = self.counts.setdefault(family, {})
            known[name] = known.get(name, 0) + number

    def most(self, family: str, **values: float) -> None:
        """Keep the greatest value seen; the unit is in the name."""
        for name, value in values.items():
            known = self.extremes.setdefault(family, {})
            known[name] = max(known.get(name, value), value)

    def add(self, other: Mapping[str, Any]) -> None:
        """Take in what another process of pytest-xdist has found."""
        for family, figures in other["counts"].items():
            self.count(family, **figures)
        for family, values in other["extremes"].items():
            self.most(family, **values)

    def families(self) -> dict[str, dict[str, float]]:
        """All figures by family, in order."""
        return {
            family: {**self.counts.get(family, {}), **self.extremes.get(family, {})}
            for family in sorted({*self.counts, *self.extremes})
        }


FIGURES = pytest.StashKey[Tally]()
BEGAN_S = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--campaign-json", metavar="FILE", help="all cases of tests/faults, not a share; figures to FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = Tally()
    config.stash[BEGAN_S] = time.monotonic()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    figures, file = config.stash[FIGURES], config.getoption("campaign_json")
    if hasattr(config, "workeroutput"):
        config.workeroutput["tally"] = {"counts": figures.counts, "extremes": figures.extremes}
    elif file and exitstatus == 0:  # figures of a campaign that failed prove nothing
        told = {
            "date": datetime.now(UTC).date().isoformat(),
            "minutes": round((time.monotonic() - config.stash[BEGAN_S]) / 60, 1),
            "machine": machine(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "families": figures.families(),
        }
        Path(file).write_text(json.dumps(told, indent=1) + "\n")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    output, config = getattr(node, "workeroutput", {}), getattr(node, "config", None)
    if "tally" in output and isinstance(config, pytest.Config):
        config.stash[FIGURES].add(output["tally"])


def share(
    names: Iterable[str], quick: Collection[str], others: pytest.MarkDecorator = pytest.mark.campaign
) -> list[ParameterSet]:
    """Cases by name, of which only the quick ones run in `make test`."""
    assert set(quick) <= set(names)
    return [pytest.param(name, marks=() if name in quick else others) for name in names]


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Where a test says what it has counted, after it has asserted it."""
    return request.config.stash[FIGURES]


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether all cases are asked for (`make campaign`) or a share of them that takes seconds (`make test`)."""
    return request.config.getoption("campaign_json") is not None


def machine() -> dict[str, object]:
    """What a reader has to know of the machine, and no name of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
    }
