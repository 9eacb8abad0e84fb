"""Writes docs/reliability.md from the figures of the last campaign, benchmarks/reliability.json.

make campaign         runs every case of tests/faults, writes the JSON, then this
python benchmarks/reliability.py     the page alone
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIGURES, PAGE = ROOT / "benchmarks" / "reliability.json", ROOT / "docs" / "reliability.md"


@dataclass(frozen=True)
class Family:
    """A kind of fault.

    Attributes:
        title: what is done to imgkit.
        told: what was reached, with the figures by name.
        least: figures that must be at least so great.
        most: figures that must be at most so great.
        file: of the tests.
    """

    title: str
    told: str
    file: str
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)

    def problems(self, figures: Mapping[str, float]) -> list[str]:
        """The bars that the figures miss."""
        low = [f"{name}: {figures.get(name)} < {bar}" for name, bar in self.least.items() if figures[name] < bar]
        return low + [f"{name}: {figures.get(name)} > {bar}" for name, bar in self.most.items() if figures[name] > bar]


FAMILIES = {
    "T-K2": Family(
        "Power cuts: every state that a careless but honest disk may be left in by a save, a replacement, a save that "
        "makes room, and the start of a run",
        "{images:,} states; in {lost} was a checkpoint lost that had been saved, in {wrong} a wrong one taken",
        "test_power_loss.py",
        {"images": 500},
        {"lost": 0, "wrong": 0},
    ),
    "T-E": Family(
        "Disks that say no (full, quota, read-only, broken): at 64 places of each file of a checkpoint, at each sync "
        "and rename, by the system's own limit, on a real full disk",
        "{failures:,} failures; {lost} lost a checkpoint, {left} left a part of one, {untold} did not say what lacked",
        "test_full_disk.py",
        {"failures": 64 * 5 + 7 * 5, "runs": 1},
        {"lost": 0, "left": 0, "untold": 0},
    ),
    "T-C1": Family(
        "Damaged checkpoints: flipped bits, cuts, files swapped or of another run, other formats",
        "{damages:,} damages, {flips:,} of them single bits and {cuts} cuts; {missed} were missed, {untold} not told "
        "in one line",
        "test_damage.py",
        {"flips": 1000, "cuts": 256},
        {"missed": 0, "untold": 0},
    ),
    "T-C2": Family(
        "Files that are not what they should be: web pages, pointers of Git LFS, other networks, other tools' files",
        "{told} of {kinds} kinds are told in one line that names the file, and with what to type next",
        "test_wrong_files.py",
        {"kinds": 12, "told": 12},
    ),
    "T-X1": Family(
        "Files that run code as they are unpickled, as weights in eight forms and all over a run's folder",
        "{files} files; {executions} executions",
        "test_malice.py",
        {"files": 40},
        {"executions": 0},
    ),
    "T-X2": Family(
        "Files that ask for more than they are worth: lengths, shapes, bombs, hashes without end, endless JSON",
        "{refused} of {files} files refused, in {most_s:g} s of processor time and {most_mib:,.0f} MiB at most",
        "test_greed.py",
        {"files": 40, "refused": 40},
        {"most_s": 1.15, "most_mib": 300},
    ),
    "mutants": Family(
        "The proof of the proof: what protects is taken away, one thing at a time",
        "{caught} of {caught} were noticed by the tests above",
        "all of them",
        {"caught": 15},
        {"escaped": 0},
    ),
}


def page(found: Mapping[str, Any]) -> str:
    """The page for the figures of a campaign."""
    machine, versions = found["machine"], found["versions"]
    rows = [
        f"| {name} | {family.title} | {family.told.format(**found['families'][name])} | `{family.file}` |"
        for name, family in FAMILIES.items()
    ]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""# Reliability

What imgkit promises, and what it was put through. The table is written by `make campaign`, from what the tests of
`tests/faults` counted; a share of the same cases runs in `make test`.

* Kill a run, cut its power or fill its disk: that costs no checkpoint that was saved.
* A damaged checkpoint is noticed, named, and the one before it is used.
* Opening a run's folder, a checkpoint or weights that someone gave you runs none of their code, and takes a second at
  most to refuse what is not worth reading.

| | what is done | what came of it | in |
|---|---|---|---|
{chr(10).join(rows)}

Measured on {found["date"]}: {machine["system"]}, {machine["cores"]} cores ({machine["processor"]}),
{machine["memory_gib"]:g} GiB, {libraries}; {60 * found["minutes"]:.0f} seconds.

Kills and resumes have a page of their own: [determinism](determinism.md).

**How a power cut is tried.** The file operations of a save are recorded. What was written and not synced may be on the
disk or not, or half, or zeros; each name that was given, changed or removed in a folder that was not synced after it
may be or not, in any combination. Each such state is written out as a folder and read; where an instant allows more
than 200, the plainest and a draw of the others.

**What is not promised**: a disk that says "synced" and did not; the decoders of Pillow against pictures made to attack
them; the same on Windows, which does not sync folders and limits no process.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(FIGURES.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
