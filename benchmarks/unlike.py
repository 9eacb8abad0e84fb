"""Whether pictures of another kind are told from those of the training: `predict --unlike` against probabilities.

    python benchmarks/datasets.py                                   # once: pictures and splits
    python benchmarks/unlike.py --json benchmarks/unlike.json       # trains what is not in --runs yet
    python benchmarks/unlike.py --tasks digits --most 100 --json /tmp/unlike.json
    python benchmarks/unlike.py --json benchmarks/unlike.json --table   # the table of docs/rejection.md alone

A run of `probe` on split 0 of each task (or on `--splits`) answers its own test images and pictures of the others, at
most `--most` of each: AUROC of the share that `--unlike` tells and of 1 - probability, the share of the others that
`--unlike 0.95` leaves open, and of its own test images: the false alarms, promised to be 5 %.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from conformal import trained
from datasets import DEFAULT_OUT
from quality import MODEL, SIZE_PX
from sklearn.metrics import roc_auc_score
from tables import ROOT, table, write

from imgkit.api import Run
from imgkit.evaluate import read_index
from imgkit.predict import Prediction
from imgkit.screen import Screen

PAGE = ROOT / "docs" / "rejection.md"
SHARE = 0.95
FOLDERS = {"digits": "digits", "fashion": "fashion", "solar2": "solar"}


def files_of(folder: Path, most: int) -> list[str]:
    """A keyed draw of the pictures of a folder."""
    files = sorted(map(str, folder.iterdir()))
    return [files[row] for row in np.sort(np.random.default_rng(0).permutation(len(files))[:most])]


def own_test(run: Run, most: int) -> list[str]:
    """The test images of a run."""
    index = read_index(run.folder, run.folder.read_json("run.json"))
    return [str(index.path(row)) for row in index.rows("test").tolist()[:most]]


def answers_of(run: Run, files: list[str]) -> list[Prediction]:
    """What the run says of files, and how unlike they are."""
    return list(run.predict(files, unlike=SHARE, device="cpu", screen=Screen()))


def auroc(own: list[float], other: list[float]) -> float:
    """That the others have the greater value."""
    return float(roc_auc_score([0] * len(own) + [1] * len(other), [*own, *other]))


def measure(run: Run, task: str, split: int, data: Path, most: int) -> list[dict[str, Any]]:
    """A row for each other data set."""
    began = time.perf_counter()
    own = answers_of(run, own_test(run, most))
    seconds, rows = time.perf_counter() - began, []
    for other, folder in FOLDERS.items():
        if other == task:
            continue
        found = answers_of(run, files_of(data / folder, most))
        rows.append(
            {
                "task": task,
                "split": split,
                "other": other,
                "n_own": len(own),
                "n_other": len(found),
                "auroc_unlike": auroc([one.unlike or 0 for one in own], [one.unlike or 0 for one in found]),
                "auroc_prob": auroc([-one.prob for one in own], [-one.prob for one in found]),
                "left_open": float(np.mean([one.rejected == "unlike" for one in found])),
                "false_alarms": float(np.mean([one.rejected == "unlike" for one in own])),
                "first_call_s": round(seconds, 1),
            }
        )
    return rows


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The table of the page."""
    rows = []
    for row in found["rows"]:
        cells = [
            row["task"],
            row["other"],
            str(row["n_other"]),
            f"{row['auroc_unlike']:.3f}",
            f"{row['auroc_prob']:.3f}",
        ]
        open_, alarms = (f"{100 * row[name]:.1f} %" for name in ("left_open", "false_alarms"))
        rows.append([*cells, open_, f"{alarms} of {row['n_own']}"])
    head = ["run of", "pictures of", "so many", "AUROC", "by 1 - probability", "left open", "own test images left open"]
    return {"unlike.json": table(head, rows)}


def main() -> None:
    """Measure each task and print its rows; or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_OUT, help="pictures and tables (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=DEFAULT_OUT / "runs", help="runs (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=FOLDERS, default=["digits", "fashion"])
    parser.add_argument("--splits", type=int, nargs="+", default=[0])
    parser.add_argument("--most", type=int, default=200, help="pictures of each data set (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--table", action="store_true", help="write the table of the page from the JSON, and stop")
    args = parser.parse_args()
    if args.table:
        write(PAGE, tables(json.loads(args.json.read_text())))
        return
    rows = []
    for task, split in product(args.tasks, args.splits):
        run = Run(trained(args.runs, args.data, task, split))
        rows += measure(run, task, split, args.data, args.most)
        for row in rows[-2:]:
            print(json.dumps(row), flush=True)
    if args.json is not None:
        about = {"model": MODEL, "recipe": "probe", "size_px": SIZE_PX, "share": SHARE}
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
