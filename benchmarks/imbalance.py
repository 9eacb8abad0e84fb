"""What helps where classes are of very different size: the study r5-imbalance on Fashion-MNIST with long-tailed counts.

    python benchmarks/imbalance.py --json benchmarks/imbalance.json            # studies; they go on where they stopped
    python benchmarks/imbalance.py --json benchmarks/imbalance.json --table    # the table of docs/imbalance.md alone

Five draws of 28 px pictures: 10 classes of 1,000 * 100**(-rank / 9) images each, 1,000 to 10, of which every seventh is
for validation; which class is rare is drawn anew each time. Test is the same in all: 100 images of every class. A draw
is a study of its own, whose seed is the draw's number. Values are on test: macro F1; accuracy of the four commonest,
the three middle and the three rarest classes; calibration error. Differences are in pairs of one draw, with Student's
95 % interval over draws. Some 15 minutes of processor time, estimated. Needs Fashion-MNIST as datasets.py does.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DEFAULT_OUT, FASHION_CLASSES, fashion_images, write_pictures
from tables import write

from imgkit.studies.estimates import difference

ROOT = Path(__file__).parents[1]
PAGE, STUDY = ROOT / "docs" / "imbalance.md", ROOT / "recipes" / "studies" / "r5-imbalance.toml"
DRAWS, LARGEST, RATIO, TESTED, VAL_EVERY = 5, 1000, 100, 100, 7
GROUPS = {"common": slice(0, 4), "middle": slice(4, 7), "rare": slice(7, 10)}
"""Ranks of the classes in each third, the commonest first."""
SCORES = {"f1_macro": "macro F1", "common": "common", "middle": "middle", "rare": "rare", "ece": "cal. error"}
BASE = "nothing"


def counts() -> list[int]:
    """Images of each class by its rank, validation included: 1,000, 599, …, 10."""
    k = len(FASHION_CLASSES)
    return [round(LARGEST * RATIO ** (-rank / (k - 1))) for rank in range(k)]


def ranks(draw: int) -> list[str]:
    """The classes of a draw, the commonest first."""
    return [FASHION_CLASSES[code] for code in np.random.default_rng([draw, 0]).permutation(len(FASHION_CLASSES))]


def rows_of(draw: int, labels: list[str]) -> list[tuple[str, str, str]]:
    """Name, label and split of each picture of a draw; `labels` are those of all 70,000, train before test."""
    known = np.array(labels)
    rows = []
    for name, n in zip(ranks(draw), counts(), strict=True):
        mine = np.flatnonzero(known == name)
        test, rest = mine[mine >= 60_000][:TESTED], mine[mine < 60_000]
        drawn = np.random.default_rng([draw, 1, FASHION_CLASSES.index(name)]).permutation(rest)[:n]
        rows += [(f"{index:05d}", name, "test") for index in test]
        rows += [
            (f"{index:05d}", name, "val" if place % VAL_EVERY == 1 else "train") for place, index in enumerate(drawn)
        ]
    return rows


def write_table(draw: int, out: Path) -> Path:
    """The pictures and the table of a draw, under `out`; returns the table."""
    rows = rows_of(draw, fashion_images()[1])
    write_pictures("fashion", [name for name, _, _ in rows], out / f"fashion-imbalance-{draw}")
    file = out / f"fashion-imbalance-{draw}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "split"))
        writer.writerows((f"fashion-imbalance-{draw}/{name}.png", label, split) for name, label, split in rows)
    return file


def run_study(draw: int, out: Path) -> Path:
    """Train what is not there yet of a draw's study; returns its folder."""
    folder = out / f"imbalance-{draw}"
    text = STUDY.read_text()
    assert "seeds = [0, 1, 2]" in text
    file = out / f"imbalance-{draw}.toml"
    file.write_text(text.replace("seeds = [0, 1, 2]", f"seeds = [{draw}]"))
    table = write_table(draw, out)
    words = ["study", str(file), "--data", str(table), "--out", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "imgkit", *words], check=True, env={"IMGKIT_CACHE": str(out / "cache"), **os.environ}
    )
    return folder


def scores_of(run: Path, order: list[str]) -> dict[str, float]:
    """What a run scored on test; `order` are the classes, the commonest first."""
    (place,) = run.glob("evaluations/test@*")
    metrics = json.loads((place / "metrics.json").read_text())
    with (place / "per_class.csv").open(newline="") as stream:
        recall = {row["class"]: float(row["recall"]) for row in csv.DictReader(stream)}
    thirds = {name: float(np.mean([recall[one] for one in order[part]])) for name, part in GROUPS.items()}
    return {"f1_macro": metrics["f1_macro"], **thirds, "ece": metrics["ece"]}


def collect(folders: dict[int, Path]) -> dict[str, Any]:
    """The scores of every variant by draw."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for draw, folder in folders.items():
        for run in sorted(folder.glob("*-seed*")):
            name = run.name.rpartition("-seed")[0]
            found.setdefault(name, {})[str(draw)] = scores_of(run, ranks(draw))
    return {
        "data": "Fashion-MNIST, long-tailed",
        "counts": counts(),
        "tested": TESTED * len(FASHION_CLASSES),
        "draws": sorted(folders),
        "scores": found,
    }


def table(found: dict[str, Any]) -> str:
    """The table of the page: means over draws, and differences to nothing with intervals."""
    titles = " | ".join(SCORES.values())
    lines = [f"| | {titles} | macro F1 against nothing | rare against nothing |", "|---" * (len(SCORES) + 3) + "|"]
    order = sorted(found["scores"], key=lambda name: (name != BASE, name))
    for name in order:
        by_draw = found["scores"][name]
        means = [float(np.mean([one[score] for one in by_draw.values()])) for score in SCORES]
        cells = [f"{100 * mean:.1f}" for mean in means]
        for score in ("f1_macro", "rare"):
            cells.append("" if name == BASE else _gap(found["scores"], name, score))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gap(scores: dict[str, dict[str, dict[str, float]]], name: str, score: str) -> str:
    """`+3.1 (+1.0 to +5.2)`, in points."""
    values, against = ({int(draw): one[score] for draw, one in scores[which].items()} for which in (name, BASE))
    gap = difference(values, against)
    if gap is None:
        return ""
    ends = gap.ends
    within = "" if ends is None else f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    return f"{100 * gap.mean:+.1f}{within}"


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    return {"imbalance.json": table(found)}


def main() -> None:
    """Run the studies of the draws asked for, write the JSON, and put its table on the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="where the figures go, or come from with --table")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help="pictures, tables and runs (default: %(default)s)"
    )
    parser.add_argument("--draws", type=int, nargs="+", choices=range(DRAWS), default=list(range(DRAWS)))
    parser.add_argument("--table", action="store_true", help="write the table of the page alone")
    args = parser.parse_args()
    if not args.table:
        args.out.mkdir(parents=True, exist_ok=True)
        found = collect({draw: run_study(draw, args.out) for draw in args.draws})
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(args.json.read_text())
    write(PAGE, tables(found))


if __name__ == "__main__":
    main()
