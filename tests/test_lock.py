"""The environment of the project's own tests is pinned: each package by its version, each of its files by its hash."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = re.findall(r"^(\S+)==(\S+)(.*)((?:\n {4}--hash=sha256:[0-9a-f]{64}(?: \\)?)+)$", LOCK, re.MULTILINE)


def pinned() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version, _, _ in PINS:
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_every_line_is_a_pin_with_hashes_and_none_an_address() -> None:
    packages = [line for line in LOCK.splitlines() if not line.startswith((" ", "#"))]
    assert len(packages) == len(PINS) > 80
    assert "://" not in LOCK
    assert "@ " not in LOCK


def test_what_the_project_asks_for_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for name in ("demo", "dev", "parquet", "plot") for text in extras[name])]
    versions = pinned()
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name == "imgkit-timm":
            continue
        assert all(requirement.specifier.contains(version) for version in versions[name]), f"make lock: {requirement}"


def test_the_matching_set_is_pinned_as_it_is() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            assert pinned()[canonicalize_name(name)] == {version}, "make lock"
