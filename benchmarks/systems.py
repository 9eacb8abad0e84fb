"""Three of the published systems on real pictures that can be had anywhere, and the pages about them.

    python benchmarks/systems.py data              # once: pictures and tables
    python benchmarks/systems.py run r1 r2 r3      # the studies of benchmarks/systems/, their plots, docs/systems/
    python benchmarks/systems.py page              # the page alone

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import multilabel
from quality import processor

HERE = Path(__file__).resolve().parent
SHORT = "~/.cache/imgkit-bench"  # where tables lie, on pages
WORDS = {"top1": "accuracy", "loss": "loss", "f1_macro": "macro F1", "map": "mAP"}
DOCS = HERE.parent / "docs" / "systems"


class Shown(NamedTuple):
    """A study of benchmarks/systems/, the table that it is trained on, and the plots of each variant on the page."""

    name: str
    table: str
    plots: tuple[str, ...]


TRAIN, VAL = 20_000, 5_000  # of Fashion-MNIST's 60,000
STUDIES = {
    "r1": Shown("r1-fashion", "fashion-25k.csv", ("accuracy", "delta-accuracy", "loss")),
    "r2": Shown("r2-solar", "solar-sets-0.csv", ("loss", "f1")),
    "r3": Shown("r3-solar", "solar2-0.csv", ("f1",)),
}


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
    shown = STUDIES[key]
    place, page = out / shown.name, DOCS / shown.name
    began, load = time.time(), os.getloadavg()[0]
    imgkit("study", f"benchmarks/systems/{shown.name}.toml", "--data", str(tables / shown.table), "--out", str(place))
    seconds = time.time() - began
    page.mkdir(parents=True, exist_ok=True)
    for name in ("study.md", "study.csv"):
        (page / name).write_text((place / name).read_text().replace(str(tables), SHORT))
    for folder in sorted(place.glob("*-seed0")):
        imgkit("plot", str(folder))
        for plot in shown.plots:
            file = f"{folder.name.removesuffix('-seed0').replace('+', '-')}-{plot}.svg"
            shutil.copyfile(folder / "plots" / f"{plot}.svg", page / file)
    about = json.loads(min(place.glob("*-seed0/run.json")).read_text())
    machine = {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    facts = {"seconds": round(seconds), "load_start": round(load, 2), "versions": about["versions"], "machine": machine}
    file = page / "about.json"
    if not file.exists() or seconds > json.loads(file.read_text())["seconds"]:  # a study that is done takes no time
        file.write_text(json.dumps(facts, indent=1) + "\n")


def write_page() -> None:
    """docs/systems/README.md, from what lies beside it."""
    parts = [
        "# Published systems on real pictures\n\n"
        "Written by `python benchmarks/systems.py page`; do not edit. Three of the [published systems]"
        "(../reference-systems.md), smaller, on pictures that anybody can have: Fashion-MNIST (Debian's package "
        "`dataset-fashion-mnist`) and solar cells (the package `elpv-dataset`). Each is one study.\n"
    ]
    for shown in STUDIES.values():
        folder = DOCS / shown.name
        if (folder / "about.json").exists():
            parts.append(_section(shown, folder))
    (DOCS / "README.md").write_text("\n".join(parts))


def _section(shown: Shown, folder: Path) -> str:
    text = (HERE / "systems" / f"{shown.name}.toml").read_text()
    about, title = json.loads((folder / "about.json").read_text()), text.splitlines()[0].removeprefix("# ")
    rows = list(csv.DictReader((folder / "study.csv").read_text().splitlines()))
    versions, machine = about["versions"], about["machine"]
    variants = list(dict.fromkeys(row["subject"] for row in rows if row["kind"] == "score"))
    lines = [
        f"## {title}\n",
        "    python benchmarks/systems.py data\n"
        f"    imgkit study benchmarks/systems/{shown.name}.toml --data {SHORT}/{shown.table} --out runs/{shown.name}\n"
        f"    imgkit plot runs/{shown.name}/VARIANT-seed0\n",
        f"{len(variants)} variants, {round(about['seconds'] / 60)} min on {machine['cores']} cores ({machine['cpu']}; "
        f"other work shared them) with torch {versions['torch']} and timm {versions['timm']}. Scores, costs and "
        f"differences: [all tables]({shown.name}/study.md).\n",
        *_scores(rows, variants),
        *_said(rows),
    ]
    for name in variants:
        plain = name.replace("+", "-")
        lines += [" ".join(f"![{name}: {plot}]({shown.name}/{plain}-{plot}.svg)" for plot in shown.plots) + "\n"]
    return "\n".join(lines)


def _scores(rows: Sequence[Mapping[str, str]], variants: Sequence[str]) -> list[str]:
    quantities = [name for name in WORDS if any(row["quantity"] == name for row in rows)]
    titles = [f"{WORDS[name]}, {split}" for name in quantities for split in ("train", "test")]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for variant in variants:
        cells = []
        for name in quantities:
            for split in ("train", "test"):
                row = next(
                    row
                    for row in rows
                    if (row["kind"], row["subject"], row["split"], row["quantity"]) == ("score", variant, split, name)
                )
                cells.append(_with_interval(row))
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return [*lines, ""]


def _with_interval(row: Mapping[str, str]) -> str:
    scale, unit = (1.0, "") if row["quantity"] == "loss" else (100.0, " %")
    digits = 3 if row["quantity"] == "loss" else 1
    half = f" ± {scale * (float(row['high']) - float(row['mean'])):.{digits}f}" if row["high"] else ""
    return f"{scale * float(row['mean']):.{digits}f}{half}{unit}"


def _said(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Which differences of macro F1 on test the intervals over seeds can tell from zero, and which they cannot."""
    found = [row for row in rows if row["kind"] in ("difference", "effect") and row["quantity"] == "f1_macro"]
    clear, unclear = [], []
    for row in found:
        words = row["subject"] + (f" − {row['against']}" if row["against"] else "")
        if not row["low"]:
            continue
        ends = f"{100 * float(row['low']):+.1f} to {100 * float(row['high']):+.1f} points"
        (clear if float(row["low"]) * float(row["high"]) > 0 else unclear).append(f"{words} ({ends})")
    if not clear and not unclear:
        return ["One seed each: how much of a difference is the seed's, these runs do not tell.\n"]
    lines = [f"Macro F1 on test, by seeds. Told apart: {'; '.join(clear) or 'nothing'}."]
    return [*lines, f"Cannot be told apart: {'; '.join(unclear) or 'nothing'}. {len(found)} comparisons.\n"]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, default=datasets.DEFAULT_OUT, help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("data")
    commands.add_parser("page")
    runs = commands.add_parser("run")
    runs.add_argument("studies", nargs="+", choices=STUDIES)
    runs.add_argument(
        "--out", type=Path, default=Path("runs"), help="where the studies' runs go (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.command == "data":
        data(options.tables)
        return
    if options.command == "page":
        write_page()
        return
    for key in options.studies:
        run(key, options.tables, options.out)
        write_page()


if __name__ == "__main__":
    main()
