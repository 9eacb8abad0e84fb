"""Whether `imgkit data learning-curve` foretells what more images bring: benchmarks/learning_curve.json.

    python benchmarks/datasets.py                                              # once: pictures and tables
    python benchmarks/learning_curve.py --json benchmarks/learning_curve.json  # measures; goes on where it was stopped
    python benchmarks/learning_curve.py --json benchmarks/learning_curve.json --table  # that of docs/learning-curve.md

A repeat draws a fifth of a task's images to be held out, and half of the others: the curve of that half is measured and
extrapolated to twice as many. Then all of the others are learnt from, and the gain that came is compared with the one
that was foretold and with its interval. Repeats share images, so a task's repeats are not independent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from tables import write
from task_features import MODEL, SIZE_PX, Task, load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "learning-curve.md"
TASKS = ("digits", "solar2", "fashion", "solar8")
REPEATS, HELD_OUT = 6, 0.2
NAMES = {"f1_macro": "macro F1", "top1": "top-1"}


@contextmanager
def silent(label: str) -> Iterator[Callable[[int, int], None]]:
    """A line of progress that nobody sees."""
    yield lambda done, total: None


def measure(task: Task, repeat: int) -> dict[str, Any]:
    """One half, what it foretells, and what the other half brought."""
    import numpy as np

    from imgkit.keys import key
    from imgkit.learning_curve import SCORES, SEEDS, Probes, nested, trace

    began, rows = time.perf_counter(), np.arange(len(task.labels))
    counts = np.bincount(task.labels, minlength=task.classes)
    weights = np.sqrt(counts.mean() / counts)[task.labels]  # as the recipe `probe` weighs classes, up to a factor
    whole = Probes(task.features, task.labels, None, weights)
    held_out = nested(task.labels, None, HELD_OUT, key("held out", repeat))
    others = np.setdiff1d(rows, held_out)
    half = others[nested(task.labels[others], None, 0.5, key("half", repeat))]
    about: dict[str, Any] = {"classes": task.classes, "seed": repeat, "watched": silent}
    curve = trace(whole.select(half), whole.select(held_out), seeds=SEEDS, **about)
    full = trace(whole.select(others), whole.select(held_out), seeds=1, fractions=(1.0,), **about)
    found: dict[str, Any] = {"images": len(half), "all": len(others), "held_out": len(held_out)}
    for score in SCORES:
        told, came = curve.extrapolated[score], float(full.scores(score)[0, 0] - curve.scores(score)[-1, 0])
        one: dict[str, Any] = {"came": round(came, 5), "score": round(float(curve.scores(score)[-1, 0]), 5)}
        if isinstance(told, str):
            found[score] = one | {"refused": told}
            continue
        one |= {"foretold": round(told.gain, 5), "interval": [round(end, 5) for end in told.interval]}
        found[score] = one | {"refused": told.refused, "held": told.interval[0] <= came <= told.interval[1]}
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def run(file: Path, tasks: list[str], repeats: int) -> None:
    """Measure what the file does not hold yet, and write it after each repeat."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"model": MODEL, "tasks": {}}
    for name in tasks:
        done, task = found["tasks"].setdefault(name, {"image_px": SIZE_PX[name], "repeats": {}}), None
        for repeat in range(repeats):
            if str(repeat) in done["repeats"]:
                continue
            task = task or load_task(name)
            done["repeats"][str(repeat)] = measure(task, repeat)
            print(name, repeat, done["repeats"][str(repeat)], flush=True)
            file.write_text(json.dumps(found, indent=1) + "\n")


def table(found: dict[str, Any]) -> str:
    """Markdown: gains foretold and gains that came, and how many intervals held them."""
    head = [
        "task",
        "images",
        "score",
        "repeats",
        "foretold",
        "came",
        "typical error",
        "half the interval",
        "held",
        "refused",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    held, told = 0, 0
    for name, done in found["tasks"].items():
        for score, title in NAMES.items():
            repeats = [one[score] for one in done["repeats"].values()]
            kept = [one for one in repeats if not one["refused"]]
            images = next(iter(done["repeats"].values()))
            cells = [name, f"{images['images']:,} → {images['all']:,}", title, str(len(repeats))]
            if kept:
                miss = statistics.fmean(abs(one["came"] - one["foretold"]) for one in kept)
                half = statistics.fmean((one["interval"][1] - one["interval"][0]) / 2 for one in kept)
                cells += [_mean(one["foretold"] for one in kept), _mean(one["came"] for one in kept)]
                cells += [f"{miss:.3f}", f"{half:.3f}", f"{sum(one['held'] for one in kept)} of {len(kept)}"]
                held, told = held + sum(one["held"] for one in kept), told + len(kept)
            else:
                cells += [""] * 5
            lines.append(f"| {' | '.join([*cells, str(len(repeats) - len(kept))])} |")
    return "\n".join([*lines, "", f"{held} of {told} intervals held the gain that came."])


def _mean(values: Iterator[float]) -> str:
    return f"{statistics.fmean(values):+.3f}".replace("-", "−")


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    return {"learning_curve.json": table(found)}


def main() -> None:
    """Read the command line; measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "learning_curve.json")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--table", action="store_true", help="write the table of the page from the JSON, and stop")
    args = parser.parse_args()
    if not args.table:
        run(args.json, args.tasks, args.repeats)
    write(PAGE, tables(json.loads(args.json.read_text())))


if __name__ == "__main__":
    main()
