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
    "T-K": Family(
        "SIGKILL at random instants, at each named point of a save, as a run begins and as it ends; each life has "
        "another number of workers",
        "{kills} kills, {inside} of them inside a save, at {points} points three times or more; {mismatches} ends "
        "differ in a bit, {repeated:g} steps at most were done again, {left} hidden files were left",
        "test_kill.py",
        {"kills": 200, "inside": 60, "points": 14},
        {"mismatches": 0, "left": 0, "repeated": 2},
    ),
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
    "T-X3": Family(
        "Names, labels, paths, cells, comments and recipe values made to become more than text on a page",
        "{payloads} texts, each in every place; in {pages} pages and {comments} pictures {new} became an element, an "
        "attribute, a request to the network or a hidden character",
        "test_html.py",
        {"payloads": 30, "pages": 80, "comments": 90},
        {"new": 0},
    ),
    "T-W": Family(
        "Loader processes that are killed, crash, end, are stopped or never come back from a file; shared memory that "
        "is too small; files that crash the decoder in the scan",
        "{faults} faults; after {other} of them a run went on to other bits, {unnamed} were not told with what there "
        "was to name, {hangs} hung",
        "test_workers.py",
        {"faults": 60},
        {"hangs": 0, "unnamed": 0, "other": 0},
    ),
    "T-N": Family(
        "NaN and infinities in images, labels, loss, gradient, weights, averages, moments; float16 that overflows; "
        "batches of one class; a rate of 10^9",
        "{faults} trainings with {kinds} kinds; {late} stopped later than two steps after, {untold} without step or "
        "images; {infinite} tensors on the disk were not finite",
        "test_numbers.py",
        {"kinds": 8, "faults": 60},
        {"late": 0, "untold": 0, "infinite": 0},
    ),
    "T-O": Family(
        "Memory that runs out in the first update, a later one, the optimizer, a score, a save, before there is a run",
        "{faults} times in {places} places of a training; {untold} did not say how many images were too many and what "
        "to do, {lost} cost a checkpoint, {changed} changed the batch or said to",
        "test_out_of_memory.py",
        {"places": 4, "faults": 20},
        {"untold": 0, "lost": 0, "changed": 0},
    ),
    "T-S": Family(
        "SIGTERM, Ctrl-C and SIGUSR1 while the images are scanned, the run's folder is made, the head is solved, in a "
        "step, in an evaluation, in a save, in the export, as Python tidies up; once all is done; a second Ctrl-C",
        "{taken} of {signals} were taken as they should be: no step lost, no process left, {late_s:.1f} s beyond a "
        "step and a save at most; {done} came when all was done; {second} second ones, {second_s:.1f} s at most",
        "test_stop_signals.py",
        {"signals": 86, "taken": 86, "done": 2, "second": 4},
        {"late_s": 2, "second_s": 2},
    ),
    "T-X4": Family(
        "Names that a spreadsheet would compute or a terminal obey, and names that are no UTF-8, in every CSV file and "
        "on the terminal of every command that shows them",
        "{cells:,} cells, {formulas} of them a formula; {shown} commands, {raw} of which sent a raw control character",
        "test_exports.py",
        {"cells": 5000, "shown": 40},
        {"formulas": 0, "raw": 0},
    ),
    "T-X5": Family(
        "Tables whose paths lead out of their root, to devices, pipes or nowhere; names of runs that lead out of their "
        "folder, listened to as files are opened, made and renamed",
        "{cells} paths, {read} files read outside of the root; {names} names, {written} files written outside of a "
        "run's folder",
        "test_paths.py",
        {"cells": 150, "names": 150, "commands": 7},
        {"read": 0, "written": 0},
    ),
    "T-D5": Family(
        "Every command, with pictures, tables, recipes, studies, templates, plugins and weights of a user's own, and "
        "told to write among or over the pictures",
        "{commands} commands and {files:,} files; {changed} changed in bytes, name or date, {refused} commands refused",
        "test_read_only.py",
        {"commands": 40, "files": 1000, "refused": 14},
        {"changed": 0},
    ),
    "T-D": Family(
        "Bad and odd pictures: cut, damaged, bombs, other things by their content, odd formats, names, sizes, links, "
        "and as large as is allowed; each by itself, in a data set, without the rights of root",
        "{pictures} pictures, {bad} of them bad; {untold} misread or not told in one line that names the file; "
        "{most_s:g} s of processor time and {most_mib} MiB at most",
        "test_bad_pictures.py",
        {"pictures": 60},
        {"untold": 0, "most_s": 2, "most_mib": 500},
    ),
    "T-D tables": Family(
        "Tables and trees with a mistake: encodings, quotes, columns, labels, splits, paths, links, names, classes",
        "{cases} cases; {refused} refused before anything was begun, {read} read right; {untold} not told in one line",
        "test_bad_tables.py",
        {"cases": 40},
        {"untold": 0},
    ),
    "T-D1": Family(
        "Random trees whose splits, and other data for a trained model, lack or add classes or spell them otherwise",
        "{trees} trees, {labels:,} labels; {wrong} went by anything but its name; {told:,} mismatches, all told",
        "test_class_names.py",
        {"trees": 200},
        {"wrong": 0},
    ),
    "T-D2": Family(
        "Copies, links and hard links across splits and labels, among files that differ in a byte or in packing alone",
        "{files:,} files, {groups} groups of copies; {wrong} missed, made up or counted wrong; {most_s:g} s of "
        "processor time",
        "test_copies.py",
        {"files": 2000},
        {"wrong": 0, "most_s": 5},
    ),
    "T-P": Family(
        "Any position: phases of any length that go on at any step, with any workers and micro-batches; a run that "
        "goes on from each of its steps",
        "{places} orders, {cases} cases of batches and {resumed} resumed runs, {wrong} unlike the definition or the "
        "whole run; {collisions} collisions among {keys:,} keys",
        "test_purity.py",
        {"places": 300, "cases": 300, "resumed": 40, "keys": 1_000_000},
        {"wrong": 0, "collisions": 0},
    ),
    "T-L": Family(
        "Two at once: pairs that resume one run, a killed holder, clocks set back and ahead, other time zones, many "
        "starts",
        "{ran} of {pairs} pairs: one ran, {untold} others did not name it, {late} took more than {most_s:g} s of "
        "processor time or imported torch, {mixed} runs were mixed; {names:,} starts have names of their own",
        "test_locks.py",
        {"pairs": 20, "ran": 20, "names": 1000, "clocks": 4, "stale": 1, "refused": 2},
        {"ran": 20, "untold": 0, "late": 0, "mixed": 0, "most_s": 2.0},
    ),
    "T-Z": Family(
        "Sequences of trainings, kills, flipped bits, full disks, removed checkpoints and evaluations, with other "
        "workers each time",
        "{sequences} sequences of {lives:,} lives, {kills} of them killed, {flips} flips, {fills} full disks, "
        "{deletions} removals, {refusals} evaluations that came too soon: {ends} ends, {evaluations} of them scored, "
        "{mismatches} unlike the run that nothing befell",
        "test_sequences.py",
        {"sequences": 300, "ends": 300, "kills": 100, "flips": 50, "fills": 50, "deletions": 50, "evaluations": 50},
        {"mismatches": 0},
    ),
    "T-V": Family(
        "Formats of checkpoints: one of each is kept, and one of a later format",
        "{read} read bit for bit, {refused} of a later format refused in a line that names both, {neither} neither",
        "test_versions.py",
        {"read": 1, "refused": 1},
        {"neither": 0},
    ),
    "T-F": Family(
        "Made-up contents: manifests, states and tensors of checkpoints, tables, indexes, recipes, studies, texts of "
        "pages",
        "{examples:,} contents, {refused:,} refused; {fallen} made a reader fall over",
        "test_fuzz.py",
        {"examples": 20_000},
        {"fallen": 0},
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
* A bad picture is named in one line before the first step; with `--on-bad skip` it stops nothing and is listed.
* Labels go by name, never by position.

| | what is done | what came of it | in |
|---|---|---|---|
{chr(10).join(rows)}

Measured on {found["date"]}: {machine["system"]}, {machine["cores"]} cores ({machine["processor"]}),
{machine["memory_gib"]:g} GiB, {libraries}; {60 * found["minutes"]:.0f} seconds.

Kills and resumes have a page of their own: [determinism](determinism.md). What is trusted, and what is not:
[security](security.md).

**How a power cut is tried.** The file operations of a save are recorded. What was written and not synced may be on the
disk or not, or half, or zeros; each name that was given, changed or removed in a folder that was not synced after it
may be or not, in any combination. Each such state is written out as a folder and read; where an instant allows more
than 200, the plainest and a draw of the others.

**For longer**: `make nightly MINUTES=30` trains for so long and sees that memory, open files and threads do not
grow, and has every reader read made-up contents for so long.

**What is not promised**: a disk that says "synced" and did not; the decoders of Pillow against pictures made to attack
them, and what these take by themselves (of 64 megapixels, 1.0 GB for a WebP and 0.6 GB for a progressive JPEG with
colour in full) or let pass (a PNG whose compressed pixels end early, but whole, is black there); that copies are found
which differ in any byte, such as a picture that was saved anew; the same on Windows, which does not sync folders and
limits no process.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(FIGURES.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
