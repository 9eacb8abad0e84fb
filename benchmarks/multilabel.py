"""Two labels a solar cell, defective and monocrystalline: thresholds fitted on validation against 0.5.

    python benchmarks/multilabel.py                        # 5 splits of 2,624 cells, `probe` of tf_efficientnet_lite0
    python benchmarks/multilabel.py --splits 0 --smoke     # a few images, to see that it works

A sound polycrystalline cell has no label, so many sets are empty. The splits are those of the other solar tasks. For
each split test is scored once; multilabel.json gets mAP, macro F1 and exact sets with thresholds of 0.5 and with the
fitted ones, and the calibration error before and after the temperature; `quality.py table` puts them on the page. Needs
the package elpv-dataset.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import DEFAULT_OUT, SPLIT_COUNT, SPLIT_OF_LETTER, read_splits, solar_root, write_pictures

MODEL = "tf_efficientnet_lite0"
LABELS = ("defective", "mono")
RESULTS = Path(__file__).parent / "multilabel.json"


def label_rows(split: int) -> list[tuple[str, str, int, int]]:
    """Path, split, and 1 or 0 for each of LABELS, of every cell; defective above a probability of 0.5."""
    held = {}
    for line in (solar_root() / "labels.csv").read_text().splitlines():
        path, probability, cell_type = line.split()
        held[Path(path).stem] = (int(float(probability) > 0.5), int(cell_type == "mono"))
    return [
        (f"solar/{name}.png", SPLIT_OF_LETTER[letters[split]], *held[name])
        for name, letters in read_splits("solar").items()
    ]


def write_table(split: int, out: Path) -> Path:
    """The pictures and the table of one split, under `out`; returns the table."""
    write_pictures("solar", list(read_splits("solar")), out / "solar")
    file = out / f"solar-sets-{split}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "split", *LABELS))
        writer.writerows(label_rows(split))
    return file


def measure(table: Path, seed: int, *, smoke: bool) -> dict[str, Any]:
    """metrics.json of test, of a fresh run on one table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "imgkit", "finetune", MODEL, "--data", str(table), "--recipe", "probe"]
        command += [word for label in LABELS for word in ("--label-col", label)]
        command += ["--seed", str(seed), "--out", folder, "--name", "run", *(["--smoke"] if smoke else [])]
        subprocess.run(command, check=True)
        found: dict[str, Any] = json.loads(next(Path(folder).glob("run/evaluations/test@*/metrics.json")).read_text())
    return found


def main() -> None:
    """Measure the splits asked for, and print a row for each and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="pictures and tables (default: %(default)s)")
    parser.add_argument("--splits", type=int, nargs="+", choices=range(SPLIT_COUNT), default=list(range(SPLIT_COUNT)))
    parser.add_argument("--smoke", action="store_true", help="a few images; the numbers mean nothing")
    args = parser.parse_args()
    rows = []
    for split in args.splits:
        found = measure(write_table(split, args.out), split, smoke=args.smoke)
        before = found["uncalibrated"]
        rows.append(
            {
                "split": split,
                "n_test": found["n"],
                "empty": found["empty"],
                "map": found["map"],
                "f1_macro": {"at_0.5": before["f1_macro"], "fitted": found["f1_macro"]},
                "subset_accuracy": {"at_0.5": before["subset_accuracy"], "fitted": found["subset_accuracy"]},
                "ece": {"before": before["ece"], "after": found["ece"]},
                "temperature": found["calibration"]["temperature"],
                "thresholds": found["thresholds"],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    if not args.smoke:
        RESULTS.write_text(
            json.dumps({"model": MODEL, "recipe": "probe", "labels": LABELS, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
