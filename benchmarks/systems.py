"""Three of the published systems on real pictures that can be had anywhere, and the pages about them.

    python benchmarks/systems.py data              # once: pictures and tables
    python benchmarks/systems.py run r1 r2 r3      # the studies of benchmarks/systems/, their plots, docs/systems/

| study | pictures | question |
|---|---|---|
| r1 | Fashion-MNIST: 20,000 train, 5,000 validation, the official test of 10,000 | five depths of VGG |
| r2 | solar cells, labels defective and mono, split 0 of the benchmark | a network for sets of labels |
| r3 | solar cells, two classes, split 0 of the benchmark | focal loss against cross-entropy × gates against none |

A study that was stopped goes on. The pictures of the solar cells (CC BY-NC-SA 4.0) are in no file that this writes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import datasets
import multilabel
from quality import processor

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "systems"
TRAIN, VAL = 20_000, 5_000  # of Fashion-MNIST's 60,000
STUDIES = {
    "r1": ("r1-fashion", "fashion-25k.csv"),
    "r2": ("r2-solar", "solar-sets-0.csv"),
    "r3": ("r3-solar", "solar2-0.csv"),
}
PLOTS = ("loss", "accuracy", "delta-accuracy", "f1")


def write_fashion(out: Path) -> None:
    """fashion-25k.csv: a stratified draw from the official train, and the whole official test."""
    from sklearn.model_selection import train_test_split

    labels = datasets.labels_of("fashion")
    names = list(labels)
    train, test = names[:60_000], names[60_000:]
    draw = {"random_state": datasets.FASHION_SEED}
    taken, _ = train_test_split(train, train_size=TRAIN + VAL, stratify=[labels[name] for name in train], **draw)
    rest, val = train_test_split(taken, test_size=VAL, stratify=[labels[name] for name in taken], **draw)
    datasets.write_pictures("fashion", sorted([*rest, *val, *test]), out / "fashion-25k")
    with (out / "fashion-25k.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "label", "split"))
        for split, part in (("train", rest), ("val", val), ("test", test)):
            rows.writerows((f"fashion-25k/{name}.png", labels[name], split) for name in sorted(part))


def data(out: Path) -> None:
    """All pictures and tables."""
    write_fashion(out)
    datasets.prepare("solar2", out)
    multilabel.write_table(0, out)


def imgkit(*words: str) -> None:
    """One command, as it would be typed."""
    print("imgkit", *words, flush=True)
    subprocess.run([sys.executable, "-m", "imgkit", *words], check=True, stderr=subprocess.DEVNULL)


def run(key: str, tables: Path, out: Path) -> None:
    """One study to its end, and what docs/systems/ has of it."""
    name, table = STUDIES[key]
    place, page = out / name, DOCS / name
    began, load = time.time(), os.getloadavg()[0]
    imgkit("study", str(HERE / "systems" / f"{name}.toml"), "--data", str(tables / table), "--out", str(place))
    seconds = time.time() - began
    page.mkdir(parents=True, exist_ok=True)
    for file in ("study.md", "study.csv"):
        shutil.copyfile(place / file, page / file)
    for folder in sorted(place.glob("*-seed0")):
        imgkit("plot", str(folder))
        for plot in PLOTS:
            file = folder / "plots" / f"{plot}.svg"
            if file.exists():
                shutil.copyfile(file, page / f"{folder.name.removesuffix('-seed0')}-{plot}.svg")
    about = json.loads(next(iter(sorted(place.glob("*-seed0/run.json")))).read_text())
    machine = {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    facts = {"seconds": round(seconds), "load_start": round(load, 2), "versions": about["versions"], "machine": machine}
    file = page / "about.json"
    if not file.exists() or seconds > json.loads(file.read_text())["seconds"]:  # a study that is done takes no time
        file.write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, default=datasets.DEFAULT_OUT, help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("data")
    runs = commands.add_parser("run")
    runs.add_argument("studies", nargs="+", choices=STUDIES)
    runs.add_argument(
        "--out", type=Path, default=Path("runs"), help="where the studies' runs go (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.command == "data":
        data(options.tables)
        return
    for key in options.studies:
        run(key, options.tables, options.out)


if __name__ == "__main__":
    main()
