"""Listing a folder of classes: imgkit beside torchvision's ImageFolder, alternating, each time in a new process.

    python benchmarks/listing.py                      # 200 classes of 5,000 links to tiny JPEGs, in a temporary folder
    python benchmarks/listing.py --root FOLDER        # of your own
    python benchmarks/listing.py --json listing.json

Both find every image of the folder and its class, sorted. imgkit also finds out what it does not read, which links lead
where, and the class map. Imports do not count. What was measured is in benchmarks/NOTES.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

WAYS = ("imgkit", "ImageFolder")
_MOST_LINKS = 50_000  # to a file; ext4 allows 65,000

MEASURE = """
import json, resource, sys, time
way, root = sys.argv[1:]
if way == "imgkit":
    from imgkit.data.load import list_data
    from imgkit.recipe.schema import DataSettings
    settings = DataSettings(path=root)
    work = lambda: list_data(settings).source.rows
else:
    from torchvision.datasets import ImageFolder
    work = lambda: ImageFolder(root).samples
before = resource.getrusage(resource.RUSAGE_SELF)
began = time.perf_counter()
found = work()
wall_s = time.perf_counter() - began
after = resource.getrusage(resource.RUSAGE_SELF)
cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
grown = (after.ru_maxrss - before.ru_maxrss) * 1024  # KiB on Linux
print(json.dumps({"files": len(found), "wall_s": wall_s, "cpu_s": cpu_s, "bytes_a_file": grown / len(found)}))
"""


def listing(root: Path, repeats: int = 3) -> dict[str, Any]:
    """Seconds and memory of both ways, in turn.

    Args:
        root: class folders.
        repeats: measured ones; one of each way comes before, so that the folder is in memory.

    Returns:
        `files`, `runs` by way (each with wall_s, cpu_s, bytes_a_file: how much the process grew), and `wall_ratio` and
        `cpu_ratio`: ImageFolder's seconds over imgkit's of each repeat, as [median, least, most].

    Raises:
        ValueError: if the two do not find the same number of files.
    """
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repeat in range(repeats + 1):
        for way in WAYS if repeat % 2 else WAYS[::-1]:
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, way, str(root)], check=True, capture_output=True, text=True
            )
            if repeat:
                runs[way].append(json.loads(done.stdout))
    files = {run["files"] for of_way in runs.values() for run in of_way}
    if len(files) != 1:
        raise ValueError(f"imgkit and ImageFolder find different numbers of files: {sorted(files)}")
    ratios = {f"{unit}_ratio": _spread(_ratios(runs, f"{unit}_s")) for unit in ("wall", "cpu")}
    return {"files": int(files.pop()), "repeats": repeats, **ratios, "runs": runs}


def make_tree(root: Path, classes: int, each: int) -> None:
    """Class folders of hard links to tiny JPEGs."""
    root.mkdir()
    sources = []
    for number in range(-(-classes * each // _MOST_LINKS)):
        sources.append(root.parent / f"{number}.jpg")
        Image.new("RGB", (16, 16), (number, 0, 0)).save(sources[-1])
    for code in range(classes):
        folder = root / f"n{code:08d}"
        folder.mkdir()
        for number in range(each):
            os.link(sources[(code * each + number) // _MOST_LINKS], folder / f"n{code:08d}_{number:06d}.jpg")


def _ratios(runs: Mapping[str, Sequence[Mapping[str, float]]], key: str) -> list[float]:
    return [peer[key] / own[key] for own, peer in zip(runs["imgkit"], runs["ImageFolder"], strict=True)]


def _spread(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in (median(values), min(values), max(values))]


def main() -> None:
    """Measure, print, and write the JSON where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="class folders; default: a temporary tree")
    parser.add_argument("--classes", type=int, default=200, help="of the temporary tree")
    parser.add_argument("--each", type=int, default=5000, help="images of each class of the temporary tree")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.root or Path(temporary) / "tree"
        if given.root is None:
            make_tree(root, given.classes, given.each)
        found = listing(root.resolve(), given.repeats)
    text = json.dumps(found, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
