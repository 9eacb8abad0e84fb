"""imgkit's side of the quality benchmark, and the table of everybody's results.

    python benchmarks/datasets.py                                   # once: pictures and splits
    python benchmarks/quality.py run --recipes probe finetune       # 4 tasks × 5 splits; skips what is done
    python benchmarks/quality.py table                              # results.json, docs/benchmarks.md, recipe headers

Each run is a fresh process: `imgkit finetune tf_efficientnet_lite0 --recipe R` on one committed split, validation
carved out of train, test scored once. Peers: benchmarks/peers/run_all.py. Scores are compared split by split
(paired); an interval that holds zero means that the difference cannot be told from noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MODEL = "tf_efficientnet_lite0"
SIZE_PX = {"solar2": 224, "solar8": 224, "digits": 64, "fashion": 64}
SPLITS = range(5)
CURRENT = ("imgkit finetune", "imgkit probe")  # the recipes as they are; other rows are compared with these
LOOKED_AT = {  # splits whose test helped to choose the recipes
    "solar2": frozenset({0}),
    "solar8": frozenset(SPLITS),
    "digits": frozenset({0}),
}
MEASURED = "# Solar cells, 2 classes, 224 px:"  # how the line in a recipe's header begins that `table` writes
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # Student's t, two-sided 95 %, by degrees of freedom


def run_one(data: Path, task: str, split: int, recipe: str, sets: list[str]) -> dict[str, Any]:
    """Train in a fresh process; test scores, and wall and processor seconds of the whole command."""
    load_start = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "imgkit", "finetune", MODEL, "--data", str(data / f"{task}-{split}.csv")]
        command += ["--recipe", recipe, "--image-size", str(SIZE_PX[task]), "--seed", str(split)]
        command += ["--out", folder, "--name", "run", *(word for item in sets for word in ("--set", item))]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        # A cache of its own, so that reading and checking the images counts every time.
        subprocess.run(
            command, check=True, env={**os.environ, "IMGKIT_CACHE": f"{folder}/cache"}, stderr=subprocess.DEVNULL
        )
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        place = Path(folder) / "run"
        metrics = json.loads(next(place.glob("evaluations/test@*/metrics.json")).read_text())
        history = [json.loads(line) for line in (place / "history.jsonl").read_text().splitlines()]
        about = json.loads((place / "run.json").read_text())
    return {
        "tool": "imgkit",
        "recipe": Path(recipe).stem,
        "task": task,
        "split": split,
        "top1": metrics["top1"],
        "f1_macro": metrics["f1_macro"],
        "n_test": metrics["n"],
        "wall_s": round(wall_s, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "load_start": round(load_start, 2),
        "load_end": round(os.getloadavg()[0], 2),
        "best_step": metrics["step"],
        "val_f1_macro": [row["val/f1_macro"] for row in history],
        "val_loss": [row["val/loss"] for row in history],
        "format": about["format"],
        "threads": about["threads"],
        "sets": sets,
        "versions": about["versions"],
        "machine": {"cpu": processor(), "cores": os.cpu_count()},
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def run(options: argparse.Namespace) -> None:
    """Every run that is not there yet."""
    for split in options.splits:
        for task in options.tasks:
            for recipe in options.recipes:
                label = options.label or Path(recipe).stem
                file = RESULTS / "imgkit" / f"{task}-{split}-{label}.json"
                if file.exists():
                    continue
                result = run_one(options.data, task, split, recipe, options.set)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result | {"recipe": label}, indent=1) + "\n")
                print(
                    f"{task} {split} {label}: macro F1 {result['f1_macro']:.3f}, {result['wall_s']:.0f} s", flush=True
                )


def collect() -> list[dict[str, Any]]:
    """Every stored result, one per task, split and contestant."""
    found = []
    for file in sorted([*RESULTS.glob("imgkit/*.json"), *RESULTS.glob("peers/*.json")]):
        result = json.loads(file.read_text())
        result["who"] = f"imgkit {result['recipe']}" if file.parent.name == "imgkit" else file.stem.rsplit("-", 1)[1]
        result["task"], result["split"] = file.stem.split("-")[0], int(file.stem.split("-")[1])
        found.append(result)
    return found


def mean_interval(values: list[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % t-interval (None for a single value)."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """By task: each contestant's mean, and each one's difference to the others on the splits they share."""
    summary: dict[str, Any] = {}
    for task in SIZE_PX:
        mine = [result for result in results if result["task"] == task]
        by_who: dict[str, dict[int, dict[str, Any]]] = {}
        for result in mine:
            by_who.setdefault(result["who"], {})[result["split"]] = result
        summary[task] = {
            "contestants": {who: describe(list(splits.values())) for who, splits in by_who.items()},
            "differences": [
                difference(left, right, by_who, leave_out)
                for left, right in itertools.product(CURRENT, by_who)
                for leave_out in ((frozenset(), LOOKED_AT[task]) if task in LOOKED_AT else (frozenset(),))
                if left in by_who and right != left and (left, right) != CURRENT[::-1]
            ],
        }
    return summary


def describe(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the splits."""
    mean, half = mean_interval([result["f1_macro"] for result in results])
    return {
        "splits": [result["split"] for result in results],
        "f1_macro": [result["f1_macro"] for result in results],
        "f1_macro_mean": mean,
        "f1_macro_half_width": half,
        "top1_mean": statistics.fmean(result["top1"] for result in results),
        "cpu_s_median": statistics.median(result["cpu_s"] for result in results),
        "wall_s_median": statistics.median(result["wall_s"] for result in results),
        "wall_s_range": [min(result["wall_s"] for result in results), max(result["wall_s"] for result in results)],
        "load_start_max": max(result["load_start"] for result in results),
    }


def difference(
    left: str, right: str, by_who: dict[str, dict[int, dict[str, Any]]], leave_out: frozenset[int] = frozenset()
) -> dict[str, Any]:
    """Paired difference in macro F1, left minus right."""
    shared = sorted((by_who[left].keys() & by_who[right].keys()) - leave_out)
    pairs = [by_who[left][split]["f1_macro"] - by_who[right][split]["f1_macro"] for split in shared]
    mean, half = mean_interval(pairs) if pairs else (None, None)
    return {"left": left, "right": right, "splits": shared, "f1_macro_mean": mean, "half_width": half}


def table(options: argparse.Namespace) -> None:
    """Write results.json and the page made from it."""
    results = collect()
    summary = summarise(results)
    content = {
        "model": MODEL,
        "imgkit": version("imgkit-timm"),
        "machine": next((result["machine"] for result in results if "machine" in result), None),
        "summary": summary,
        "results": results,
    }
    (HERE / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    (HERE.parent / "docs" / "benchmarks.md").write_text(page(content))
    for who, one in summary["solar2"]["contestants"].items():
        recipe = HERE.parent / "recipes" / f"{who.removeprefix('imgkit ')}.toml"
        if recipe.exists():
            line = measured(one, content["machine"]["cores"])
            recipe.write_text(re.sub(rf"^{MEASURED}.*$", line, recipe.read_text(), flags=re.MULTILINE))


def measured(one: dict[str, Any], cores: int) -> str:
    """The line of a recipe's header that tells what it reached."""
    mean, half = one["f1_macro_mean"], one["f1_macro_half_width"]
    interval = "" if half is None else f", 95 % interval {mean - half:.3f} to {mean + half:.3f}"
    splits = f"{len(one['splits'])} split{'s' if len(one['splits']) > 1 else ''}"
    minutes = one["wall_s_median"] / 60
    return f"{MEASURED} macro F1 {mean:.3f} (mean of {splits}{interval}), {minutes:.1f} min on {cores} cores."


def page(content: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# Quality and time",
        "",
        "Written by `python benchmarks/quality.py table` from `benchmarks/results.json`; do not edit.",
        "",
        f"Network `{content['model']}` with the same ImageNet weights for everybody. Five committed splits: test 20 %, "
        "validation 20 % of the rest; test is scored once. Rows cover the splits run so far; only paired differences "
        "compare like with like. Macro F1: mean over the splits ± half the 95 % t-interval. "
        "Time: medians of one whole command, start of Python included; processor seconds count both cores and hardly "
        "depend on what else the machine did, wall seconds do (load: the highest load average at a start). "
        "Rows named -unweighted are of the recipes before they weighed classes and `finetune` chose by macro F1, rows "
        "named -standardised of heads solved on standardised features. "
        f"While the recipes were made, test results were looked at ({looked_at()}; benchmarks/NOTES.md): figures "
        "there are kinder than new pictures would be. Those of other splits were not.",
        f"Machine: {content['machine']['cpu']}, {content['machine']['cores']} cores." if content["machine"] else "",
    ]
    for task, found in content["summary"].items():
        if not found["contestants"]:
            continue
        lines += [
            "",
            f"## {task}",
            "",
            "| who | splits | macro F1 | top-1 | processor s | wall s | load |",
            "|---|---|---|---|---|---|---|",
        ]
        ranked = sorted(found["contestants"].items(), key=lambda item: -item[1]["f1_macro_mean"])
        for who, one in ranked:
            spread = "" if one["f1_macro_half_width"] is None else f" ± {one['f1_macro_half_width']:.3f}"
            lines.append(
                f"| {who} | {len(one['splits'])} | {one['f1_macro_mean']:.3f}{spread} | {100 * one['top1_mean']:.1f} % "
                f"| {one['cpu_s_median']:.0f} | {one['wall_s_median']:.0f} | {one['load_start_max']:.1f} |"
            )
        lines += ["", "Paired differences in macro F1 on shared splits:", ""]
        lines += [difference_line(one) for one in found["differences"] if one["splits"]]
    return "\n".join([*lines, *label_sets()]) + "\n"


def looked_at() -> str:
    """Which splits' test results helped to choose the recipes, in words."""
    return ", ".join(f"{task} {','.join(map(str, sorted(splits)))}" for task, splits in LOOKED_AT.items())


def label_sets() -> list[str]:
    """The section on several labels an image, from multilabel.json; none where that was not measured."""
    if not (HERE / "multilabel.json").exists():
        return []
    found = json.loads((HERE / "multilabel.json").read_text())
    columns = {
        "mAP": [row["map"] for row in found["rows"]],
        "macro F1 at 0.5": [row["f1_macro"]["at_0.5"] for row in found["rows"]],
        "fitted": [row["f1_macro"]["fitted"] for row in found["rows"]],
        "exact sets at 0.5": [row["subset_accuracy"]["at_0.5"] for row in found["rows"]],
        "fitted ": [row["subset_accuracy"]["fitted"] for row in found["rows"]],
        "cal. error before": [row["ece"]["before"] for row in found["rows"]],
        "after": [row["ece"]["after"] for row in found["rows"]],
    }
    means = [mean_interval(values) for values in columns.values()]
    empty = sum(row["empty"] for row in found["rows"]) / len(found["rows"])
    return [
        "",
        "## Several labels an image",
        "",
        f"Solar cells with the labels {' and '.join(found['labels'])}; {100 * empty:.0f} % of the images have none. "
        f"Recipe `{found['recipe']}`; thresholds and temperature are fitted on validation. In percent; means ± half "
        "the 95 % t-interval.",
        "",
        f"| {' | '.join(['split', *columns])} |",
        f"|{'---|' * (1 + len(columns))}",
        *(
            f"| {row['split']} | {' | '.join(f'{100 * values[place]:.1f}' for values in columns.values())} |"
            for place, row in enumerate(found["rows"])
        ),
        f"| mean | {' | '.join(f'{100 * mean:.1f} ± {100 * (half or 0):.1f}' for mean, half in means)} |",
    ]


def difference_line(one: dict[str, Any]) -> str:
    """One paired difference, with its interval where there are splits enough for one."""
    start = f"* {one['left']} − {one['right']}: {one['f1_macro_mean']:+.3f}"
    if one["half_width"] is None:
        return f"{start} on one split, too few for an interval"
    low, high = one["f1_macro_mean"] - one["half_width"], one["f1_macro_mean"] + one["half_width"]
    told = "" if low > 0 or high < 0 else " (cannot be told from zero)"
    splits = ", ".join(map(str, one["splits"]))
    return f"{start}, 95 % interval {low:+.3f} to {high:+.3f}, splits {splits}{told}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "imgkit-bench")
    parser.add_argument("--tasks", nargs="+", choices=tuple(SIZE_PX), default=tuple(SIZE_PX))
    parser.add_argument("--splits", nargs="+", type=int, default=list(SPLITS))
    parser.add_argument("--recipes", nargs="+", default=["probe", "finetune"])
    parser.add_argument("--set", action="append", default=[], help="passed on to imgkit; give a --label with it")
    parser.add_argument("--label", help="name of a variant, instead of the recipe's")
    options = parser.parse_args()
    if options.set and not options.label:
        parser.error("--set changes the recipe: name the variant with --label")
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()
