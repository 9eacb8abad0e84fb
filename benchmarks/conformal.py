"""Whether sets of classes and promised accuracies hold what they say, on real predictions.

    python benchmarks/datasets.py                                   # once: pictures and splits
    python benchmarks/conformal.py --json conformal.json            # trains what is not in --runs yet
    python benchmarks/conformal.py --tasks digits --splits 0 --runs /tmp/runs --json /tmp/conformal.json
    python benchmarks/conformal.py --json benchmarks/conformal.json --table    # the tables of docs/rejection.md alone

Runs of the recipe `probe` on one split each. Three questions, by the calibrated probabilities of each run's own model:

sets       Test images are split in two at random, 200 times: one half chooses the quantile, the other one is covered.
           Neither chose weights or temperature, so the mean has to be the promise, within 1 %.
in use     The quantile of validation, as `predict --conformal` has it, covers so much of test. Validation chose the
           temperature (and with other recipes the checkpoint): the mean difference over runs is what that costs.
promise    Validation sets of 420 images are drawn with replacement from the test images, 200 times: how often a
           threshold of `--target-accuracy` is chosen that does not reach it over all of them; at most 5 of 100 may be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DEFAULT_OUT
from quality import MODEL, SIZE_PX
from tables import ROOT, table, write

from imgkit.calibration import Calibration
from imgkit.conformal import fit
from imgkit.evaluations import read_logits
from imgkit.report.stored import Answers, stored_of
from imgkit.run import RunFolder
from imgkit.selective import threshold_for

PAGE = ROOT / "docs" / "rejection.md"
DRAWS = 200
LEVELS = (0.8, 0.9, 0.95)
TARGETS = (0.9, 0.95)
DRAWN = 420  # images of a validation set of `promise`: that of the solar cells


def trained(runs: Path, data: Path, task: str, split: int) -> RunFolder:
    """The run of one split, trained if it is not there."""
    name = f"{task}-{split}"
    if not RunFolder(runs / name).has_model:
        command = [sys.executable, "-m", "imgkit", "finetune", MODEL, "--data", str(data / f"{name}.csv")]
        command += ["--recipe", "probe", "--image-size", str(SIZE_PX[task]), "--seed", str(split)]
        subprocess.run([*command, "--out", str(runs), "--name", name], check=True)
    return RunFolder(runs / name)


def scored(folder: RunFolder, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities (N, K) and true classes (N,) of a split."""
    stored = stored_of(folder, split)
    assert stored is not None
    logits, answers = read_logits(stored.folder), stored.answers
    assert logits is not None
    assert isinstance(answers, Answers)
    calibration = Calibration.from_dict(folder.read_json("model/calibration.json"))
    return calibration.probabilities(logits), answers.targets


def covered(probs: np.ndarray, targets: np.ndarray, rule: Any) -> tuple[float, float]:  # noqa: ANN401
    """The share of images whose set holds the truth, and classes a set on average."""
    sets = rule.sets(probs)
    return float(sets[np.arange(len(targets)), targets].mean()), float(sets.sum(axis=1).mean())


def sets_of(folder: RunFolder, level: float, draws: int) -> dict[str, float]:
    """Coverage over halves of test, and of test by validation."""
    (val, val_targets), (probs, targets) = scored(folder, "val"), scored(folder, "test")
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        order = rng.permutation(len(targets))
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        found.append(covered(probs[other], targets[other], fit(probs[one], targets[one], level)))
    coverage, size = covered(probs, targets, fit(val, val_targets, level))
    return {
        "coverage": statistics.mean(one for one, _ in found),
        "deviation": statistics.stdev(one for one, _ in found),
        "size": statistics.mean(size for _, size in found),
        "in_use_coverage": coverage,
        "in_use_size": size,
        "n_val": len(val_targets),
        "n_test": len(targets),
    }


def promise_of(folder: RunFolder, target: float, draws: int) -> dict[str, float]:
    """How often a promised accuracy is missed, how often none is promised, and how much is answered on average."""
    probs, targets = scored(folder, "test")
    prob, right = probs.max(axis=1), probs.argmax(axis=1) == targets
    rng, missed, kept = np.random.default_rng(1), 0, []
    for _ in range(draws):
        drawn = rng.integers(0, len(right), DRAWN)
        threshold = threshold_for(prob[drawn], right[drawn], target)
        if threshold is not None:
            given = prob >= threshold
            missed += bool(right[given].mean() < target)
            kept.append(float(given.mean()))
    return {
        "missed": missed / draws,
        "promised": len(kept) / draws,
        "answered": statistics.mean(kept) if kept else 0.0,
        "accuracy": float(right.mean()),
    }


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page: sets and promises, over all runs."""
    return {"conformal.json, sets": _sets(found), "conformal.json, promises": _promises(found)}


def _sets(found: dict[str, Any]) -> str:
    rows = []
    for level in LEVELS:
        mine = [row for row in found["rows"] if row["what"] == "sets" and row["level"] == level]
        halves, used = ([row[score] for row in mine] for score in ("coverage", "in_use_coverage"))
        error = f" ± {_points(statistics.stdev(used) / len(used) ** 0.5)}" if len(used) > 1 else ""
        spread = f"{_percent(statistics.mean(halves))} (a run {_points(min(halves))} to {_points(max(halves))})"
        sizes = statistics.mean(row["size"] for row in mine)
        in_use = _percent(statistics.mean(used)) + error
        rows.append([f"{100 * level:.0f} %", str(len(mine)), spread, f"{sizes:.2f}", in_use])
    head = ["promised", "runs", f"over {found['draws']} halvings of test", "classes a set", "by validation, as in use"]
    return table(head, rows)


def _promises(found: dict[str, Any]) -> str:
    rows = []
    for task in dict.fromkeys(row["task"] for row in found["rows"]):
        for target in TARGETS:
            mine = [row for row in found["rows"] if (row["what"], row["task"]) == ("promise", task)]
            mine = [row for row in mine if row["level"] == target]
            means = {name: statistics.mean(row[name] for row in mine) for name in ("accuracy", "promised", "missed")}
            told = [row["answered"] for row in mine if row["promised"]]
            cells = [task, _percent(means["accuracy"]), f"{100 * target:.0f} %", _percent(means["promised"])]
            cells += [_percent(statistics.mean(told)) if told else "", _percent(means["missed"])]
            rows.append(cells)
    return table(["task", "right answers", "asked for", "promised", "answered then", "missed, of all draws"], rows)


def _percent(share: float) -> str:
    return f"{_points(share)} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def main() -> None:
    """Measure each run and print a row for each level; or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_OUT, help="pictures and tables (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=DEFAULT_OUT / "runs", help="runs (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=SIZE_PX, default=["fashion", "solar2", "digits"])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--table", action="store_true", help="write the tables of the page from the JSON, and stop")
    args = parser.parse_args()
    if args.table:
        write(PAGE, tables(json.loads(args.json.read_text())))
        return
    rows = []
    for task in args.tasks:
        for split in args.splits:
            folder = trained(args.runs, args.data, task, split)
            for level in LEVELS:
                found = sets_of(folder, level, args.draws)
                rows.append({"task": task, "split": split, "what": "sets", "level": level, **found})
            for target in TARGETS:
                found = promise_of(folder, target, args.draws)
                rows.append({"task": task, "split": split, "what": "promise", "level": target, **found})
            for row in rows[-len(LEVELS) - len(TARGETS) :]:
                print(json.dumps(row), flush=True)
    found = {"model": MODEL, "recipe": "probe", "draws": args.draws, "rows": rows}
    print(_sets(found))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
