"""How many planted label errors `imgkit data label-errors` ranks first, beside other rankings and cleanlab.

    python benchmarks/datasets.py                                          # once: pictures and tables
    python benchmarks/label_errors.py --json benchmarks/label_errors.json  # measures; goes on where it was stopped
    python benchmarks/label_errors.py --json benchmarks/label_errors.json --table   # the table of docs/label-errors.md

Of all images of a task 5 % get another label, drawn uniformly; then the labels are ranked by one solve, and it is
counted how many of the planted ones are among the first 10 %. Seed 0 is also ranked without planted errors: what is
estimated to be wrong then is wrong in the original, or hard. cleanlab's figures are there where it is importable; it
gets the same probabilities.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from tables import write
from task_features import MODEL, SIZE_PX, Task, load_task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "label-errors.md"
TASKS = ("digits", "fashion", "solar2", "solar8")
SHARE, TOP, BAR = 0.05, 0.10, 0.80
SEEDS = range(5)
RANKINGS = {
    "imgkit": "imgkit",
    "margin": "normalised margin",
    "joint_first": "confident joint, then margin",
    "cleanlab": "cleanlab",
    "chance": "chance",
}


def plant(labels: NDArray[np.int64], classes: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of which SHARE are another class, uniformly; and which ones, ascending."""
    import numpy as np

    rng = np.random.default_rng([seed, 2026])
    rows = np.sort(rng.choice(len(labels), round(SHARE * len(labels)), replace=False))
    wrong = labels.copy()
    wrong[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return wrong, rows


def rankings(probs: NDArray[np.float64], given: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Scores (n,) by ranking, the lowest the most suspect."""
    import numpy as np

    from imgkit.confident import self_confidence, thresholds

    rows, others = np.arange(len(given)), probs.copy()
    others[rows, given] = -1.0
    margin = probs[rows, given] - others.max(axis=1)
    reached = np.where(probs >= thresholds(probs, given), probs, -1.0)
    off = (reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != given)
    found = {"imgkit": self_confidence(probs, given), "margin": margin, "joint_first": margin - 2.0 * off}
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return found
    return found | {"cleanlab": get_label_quality_scores(given, probs, method="normalized_margin")}


def measure(task: Task, seed: int, *, planted: bool) -> dict[str, Any]:
    """One solve and what it tells of the planted labels."""
    import numpy as np

    from imgkit.label_errors import find_label_errors

    began = time.perf_counter()
    given, wrong = plant(task.labels, task.classes, seed) if planted else (task.labels, np.empty(0, np.int64))
    errors = find_label_errors(task.features, given, classes=task.classes, seed=seed)
    seconds = time.perf_counter() - began
    top, right = round(TOP * len(given)), errors.suggested == task.labels
    about: dict[str, Any] = {
        "images": len(given),
        "planted": len(wrong),
        "estimated": round(float(errors.estimated.sum()), 1),
        "suspects": len(errors.suspects),
        "right": round(float(right.mean()), 4),
        "seconds": round(seconds, 1),
    }
    if not planted:
        return about | cleanlab_count(errors.probs, given)
    hits = {
        name: round(float(np.isin(wrong, np.argsort(scores, kind="stable")[:top]).mean()), 4)
        for name, scores in rankings(errors.probs, given).items()
    }
    about |= {"in_top": hits, "in_suspects": round(float(np.isin(wrong, errors.suspects).mean()), 4)}
    about |= {"true_class_suggested": round(float(right[wrong].mean()), 4)}
    return about | cleanlab_count(errors.probs, given)


def cleanlab_count(probs: NDArray[np.float64], given: NDArray[np.int64]) -> dict[str, int]:
    """How many errors cleanlab counts, where it is importable."""
    try:
        from cleanlab.count import num_label_issues
    except ImportError:
        return {}
    return {"cleanlab_estimated": int(num_label_issues(given, probs, estimation_method="off_diagonal_calibrated"))}


def run(file: Path, tasks: list[str], seeds: int) -> None:
    """Measure what the file does not hold yet, and write it after each solve."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"model": MODEL, "tasks": {}}
    for name in tasks:
        done, task = found["tasks"].setdefault(name, {"image_px": SIZE_PX[name]}), None
        for key in ["original", *(str(seed) for seed in range(seeds))]:
            if key in done:
                continue
            task = task or load_task(name)
            done[key] = measure(task, 0 if key == "original" else int(key), planted=key != "original")
            print(name, key, done[key], flush=True)
            file.write_text(json.dumps(found, indent=1) + "\n")


def table(found: dict[str, Any]) -> str:
    """Markdown: planted errors among the first 10 %, mean and range over seeds, and the estimates."""
    shown = [one for one in RANKINGS if one != "chance" and _has(found, one)]
    head = [
        "task",
        "images",
        *(RANKINGS[one] for one in shown),
        "chance",
        "bar",
        "planted",
        "estimated",
        "in the original",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, done in found["tasks"].items():
        seeds = [value for key, value in done.items() if key.isdigit()]
        if not seeds:
            continue
        cells = [name, f"{seeds[0]['images']:,}"]
        for one in shown:
            values = [100 * seed["in_top"][one] for seed in seeds]
            cells.append(f"{statistics.fmean(values):.0f} % ({min(values):.0f} to {max(values):.0f})")
        mean = statistics.fmean(seed["in_top"]["imgkit"] for seed in seeds)
        estimated = statistics.fmean(seed["estimated"] for seed in seeds)
        original = done.get("original", {}).get("estimated")
        cells += [
            f"{100 * TOP:.0f} %",
            "met" if mean >= BAR else "missed",
            str(seeds[0]["planted"]),
            f"{estimated:.0f}",
        ]
        lines.append(f"| {' | '.join([*cells, '' if original is None else f'{original:.0f}'])} |")
    return "\n".join(lines)


def _has(found: dict[str, Any], ranking: str) -> bool:
    seeds = [value for done in found["tasks"].values() for key, value in done.items() if key.isdigit()]
    return bool(seeds) and all(ranking in seed["in_top"] for seed in seeds)


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    return {"label_errors.json": table(found)}


def main() -> None:
    """Read the command line; measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "label_errors.json")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--table", action="store_true", help="write the table of the page from the JSON, and stop")
    args = parser.parse_args()
    if not args.table:
        run(args.json, args.tasks, args.seeds)
    write(PAGE, tables(json.loads(args.json.read_text())))


if __name__ == "__main__":
    main()
