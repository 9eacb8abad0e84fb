"""How long the page of a run takes, how large it is, and what its pictures cost: benchmarks/pages.json.

    python benchmarks/pages.py                  # measures, writes the JSON and its table in docs/report.md
    python benchmarks/pages.py --table          # the table alone, from the JSON

Runs are folders of drawn scores (tests/report/page_runs.py): 10,000 images on validation and as many on test. What a
page takes depends on the numbers of images and classes, and not on what a network learned. The pictures are drawn
noise, which compresses worse than photographs, and the network that explains them has random weights. Sorting is
measured in chromium where playwright is there (`pip install 'imgkit-timm[browser]'`), and left out otherwise. Takes two
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
FIGURES, PAGE = ROOT / "benchmarks" / "pages.json", ROOT / "docs" / "report.md"
BEGIN, END = "<!-- from benchmarks/pages.json -->", "<!-- end -->"
IMAGES, PICTURES, MODEL, THREADS = 10_000, 64, "tf_efficientnet_lite0", 2
CLASSES = (10, 100, 1000)
BARS = {"report 100": 2.0, "size": 1e6, "pictures": 5.0}
"""What was promised: seconds of `imgkit report` with 100 classes, bytes of its page, seconds of storing pictures."""


def names(k: int) -> list[str]:
    """Of k classes."""
    return [f"class {number}" for number in range(k)]


def figure(values: Sequence[float]) -> dict[str, Any]:
    """Median and range of repeats."""
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "values": [round(value, 4) for value in values],
    }


def timed(work: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Seconds of each of `repeats`; one more before them is not counted, it fills the caches of the disk."""
    values = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        work()
        values += [time.perf_counter() - began] if number else []
    return figure(values)


def draw_pictures(out: Path, different: int = 100) -> list[str]:
    """JPEGs of noise, 640 x 480, some of them under many names; returns the names of IMAGES files."""
    import numpy as np
    from PIL import Image

    rng, names = np.random.default_rng(0), [f"test/{row:05d}.jpg" for row in range(IMAGES)]
    (out / "test").mkdir(parents=True)
    for row, name in enumerate(names):
        if row < different:
            coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
            coarse.resize((640, 480), Image.Resampling.BICUBIC).save(out / name, quality=90)
        else:
            os.link(out / names[row % different], out / name)
    return names


def measure_pictures(out: Path, repeats: int) -> dict[str, Any]:
    """Seconds of storing PICTURES pictures with their maps beside the evaluation of a run of 100 classes."""
    import torch
    from page_runs import STEP, make_run, scores_of

    from imgkit.data.index import Index
    from imgkit.evidence import Images
    from imgkit.metrics import score
    from imgkit.models.create import create_model
    from imgkit.probabilities import softmax
    from imgkit.recipe.schema import ModelSettings

    torch.set_num_threads(THREADS)
    folder = make_run(out, "k100", classes=names(100), n=IMAGES, paths=draw_pictures(out))
    index = Index.read_csv(folder.path / "data" / "index.csv", out, tuple(names(100)), "single")
    made = create_model(ModelSettings(name=MODEL, weights="none"), 100, 0)
    targets, logits = scores_of(IMAGES, 100)
    place = folder.path / "evaluations" / f"test@{STEP}"
    store = Images(made.model.eval(), index, index.rows("test"), made.preprocessing, 64_000_000)

    def work() -> None:
        shutil.rmtree(place / "images", ignore_errors=True)
        store(place, score(softmax(logits), targets))

    found = timed(work, repeats)
    stored = json.loads((place / "images.json").read_text())["images"]
    assert len(stored) == PICTURES
    assert all(one["cam"] for one in stored)
    return found


def measure_report(out: Path, k: int, repeats: int) -> dict[str, Any]:
    """Seconds of the whole command, Python's start included."""
    from page_runs import make_run

    name = f"k{k}"
    if not (out / name).exists():
        make_run(out, name, classes=names(k), n=IMAGES)
    command = [sys.executable, "-m", "imgkit", "report", str(out / name)]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats)


def measure_sorting(page: Path, repeats: int) -> dict[str, Any] | None:
    """Seconds of a click on a column of the table of classes until its rows lie anew; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(page.as_uri())
        values = shown.evaluate(
            """(repeats) => {
              const table = document.querySelectorAll("table.sortable")[1];
              if (table.tBodies[0].rows.length !== 1000) throw new Error("another table");
              const buttons = [...table.querySelectorAll("button.sort")];
              return Array.from({ length: repeats }, (_, turn) => {
                const began = performance.now();
                buttons[turn % buttons.length].click();
                table.getBoundingClientRect();
                return (performance.now() - began) / 1000;
              });
            }""",
            max(repeats, 12),
        )
        browser.close()
    return figure(values)


def measure(repeats: int) -> dict[str, Any]:
    """All figures, in a folder that is removed."""
    import torch

    from imgkit.device import describe, versions

    sys.path.insert(0, str(ROOT / "tests" / "report"))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        found["pictures"] = measure_pictures(out, repeats)
        for k in CLASSES:
            found[f"report {k}"] = measure_report(out, k, repeats)
        found["size"] = figure([(out / "k100" / "report.html").stat().st_size])
        found["sorting"] = measure_sorting(out / "k1000" / "report.html", repeats)
    about = {"machine": describe(torch.device("cpu")), "versions": versions(), "images": IMAGES, "repeats": repeats}
    return {"schema": 1, **about, "figures": {name: one for name, one in found.items() if one is not None}}


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, in words, and what was promised."""
    n, figures = f"{found['images']:,}", found["figures"]

    def seconds(name: str) -> str:
        one = figures[name]
        return f"{one['median']:.2f} s ({one['low']:.2f} to {one['high']:.2f})"

    told = [
        (f"`imgkit report NAME`, {n} predictions on test and on validation, {k:,} classes", seconds(f"report {k}"),
         "≤ 2 s" if k == 100 else "")
        for k in CLASSES
    ]  # fmt: skip
    told.append((f"size of its page, 100 classes and {PICTURES} pictures with maps",
                 f"{figures['size']['median'] / 1e6:.2f} MB", "≤ 1 MB"))  # fmt: skip
    told.append((f"storing these pictures and maps, {MODEL}, {THREADS} threads", seconds("pictures"), "≤ 5 s"))
    if "sorting" in figures:
        told.append(("sorting the table of 1,000 classes, chromium", seconds("sorting"), ""))
    return told


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines = [
        "| | median (range) | promised |",
        "|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows(found)),
    ]
    libraries = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines += ["", f"{found['repeats']} repeats after one that is not counted, on {found['machine']}; {libraries}."]
    return "\n".join(lines)


def with_table(text: str, found: dict[str, Any]) -> str:
    """`text` with the table of the figures between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{rest.split(END, 1)[1]}"


def problems(found: dict[str, Any]) -> list[str]:
    """The figures whose median is above what was promised."""
    medians = {name: found["figures"][name]["median"] for name in BARS}
    return [f"{name}: {median:,g} > {BARS[name]:,g}" for name, median in medians.items() if median > BARS[name]]


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", action="store_true", help="write the table of docs/report.md alone")
    parser.add_argument("--repeats", type=int, default=7, help="of each measurement (default: %(default)s)")
    args = parser.parse_args()
    if not args.table:
        FIGURES.write_text(json.dumps(measure(args.repeats), indent=1) + "\n")
    found = json.loads(FIGURES.read_text())
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(table(found), *problems(found), sep="\n")


if __name__ == "__main__":
    main()
