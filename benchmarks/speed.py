"""How fast imgkit is, beside the no-data limit and its peers: benchmarks/results/speed/*.json, docs/speed.md.

    python benchmarks/speed.py train --model tf_efficientnet_lite0      # all layers; images a second of epochs 2 and on
    python benchmarks/speed.py train --model resnet50
    python benchmarks/speed.py frozen                                   # ten epochs of a head on a frozen trunk
    python benchmarks/speed.py predict                                  # 5,000 JPEGs
    python benchmarks/speed.py command                                  # imgkit --help, import torch
    python benchmarks/speed.py index                                    # a million files
    python benchmarks/speed.py quality                                  # the time to fastai's score on solar cells
    python benchmarks/speed.py checkpoint                               # how long a training waits for one
    python benchmarks/speed.py table                                    # the page and its chart, from the JSON

Each contestant is a process of its own that does its work once; in a repeat all take turns, in the next one in the
other order. In `train`, imgkit stays and does an epoch in each repeat, and the limit some steps, while others wait.
`--peer-repeats` of the repeats have peers in them. Ratios are those of one repeat, and medians and ranges are told.
Where a peer has flags that may be faster, the first repeat tries them all and the others take the best. A scenario that
was stopped goes on with the next repeat; one that is whole is left as it is: delete its JSON to measure anew. On two
quiet cores train takes about 15 minutes and 9 for each repeat with peers (lite0), frozen 12, predict 20, index and
checkpoint 5 each, command 1, quality 26, or 2 with --stored-peers; all estimated. `--images`, `--repeats` and `--out`
shrink it to see that it works.

Besides `pip install 'imgkit-timm[demo,plot]'`, each optional; rows that lack it are left out, and said to be:

    git clone https://github.com/huggingface/pytorch-image-models TIMM    # --timm-repo TIMM: timm's scripts
    pip install fastai 'fastprogress<1.1'                                 # or --target DIR, and --fastai-path DIR
    python benchmarks/datasets.py --tasks solar2                          # for `quality`

Every machine that torch runs on: `--device cuda` for a GPU (written for one, not yet tried on one).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import speed_contestants as contestants
import speed_page
import speed_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speed_contestants import Contestant

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "speed"
CACHE = Path.home() / ".cache" / "imgkit-bench" / "speed"
BATCH = {"tf_efficientnet_lite0": 32, "resnet50": 16}  # on a CPU; a GPU has 128 of all
LIMIT_S = 3600  # that a contestant may take


def environment(given: argparse.Namespace) -> dict[str, str]:
    """That of every process: the tree around this file, so many threads, no network, only the device asked for."""
    paths = [str(ROOT), *([str(given.fastai_path)] if given.fastai_path else []), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": str(given.threads)}
    own |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    own |= {} if given.device.startswith("cuda") else {"CUDA_VISIBLE_DEVICES": ""}
    # Modules are compiled once, as where they are installed.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | own


def attempt(one: Contestant, variant: str, scratch: Path, env: dict[str, str]) -> dict[str, Any]:
    """Run a contestant once, in a fresh folder: its `values` by who, and what else its driver tells.

    One that fails has `error` instead, so that a peer that cannot do something costs its own row alone.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        out = Path(folder) / "found.json"
        words = [word.format(out=out, scratch=folder) for word in one.variants[variant]]
        load, began = os.getloadavg()[0], time.perf_counter()
        try:
            done = subprocess.run(
                words, env=env, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            failed = "" if done.returncode == 0 else " ".join(done.stderr.strip().splitlines()[-2:]) or "no message"
        except subprocess.TimeoutExpired:
            failed = f"not done after {LIMIT_S} s"
        wall_s = time.perf_counter() - began
        about = {"variant": variant, "load": round(load, 2), "wall_s": round(wall_s, 2)}
        if failed:
            return {**about, "values": {one.who: None}, "error": failed[-300:]}
        if one.whole:
            return {**about, "values": {one.who: wall_s}}
        found = json.loads(out.read_text())
    values = found.pop("values", None) or {"": found.pop("value")}
    return {**about, "values": {one.who + more: value for more, value in values.items()}, **found}


def measure(
    scenario: contestants.Scenario, found: dict[str, Any], given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yields `found` with the runs of another repeat, for as many as are wanted."""
    scratch, env = given.cache / "scratch", environment(given)
    scratch.mkdir(parents=True, exist_ok=True)
    done = 1 + max((run["repeat"] for run in found["runs"]), default=-1)
    staying = [one for one in scenario.contestants if one.turns and done < given.repeats]
    with ExitStack() as stack:
        kept = {one.who: stack.enter_context(speed_turns.Kept(one, scratch, env)) for one in staying}
        for repeat in range(done, given.repeats):
            there = [one for one in scenario.contestants if not one.peer or repeat < given.peer_repeats]
            runs = []
            for one in there if repeat % 2 == 0 else there[::-1]:
                best = speed_page.best_variant(found["runs"], one.who, more=scenario.more)
                for variant in one.variants if best is None else [best]:
                    result = kept[one.who].turn() if one.turns else attempt(one, variant, scratch, env)
                    for who, value in result.pop("values").items():
                        runs.append({"repeat": repeat, "of": one.who, "who": who, "value": value, **result})
                        told = result.get("error") if value is None else f"{value:,.4g} {scenario.unit}"
                        print(f"{repeat + 1}/{given.repeats} {who} ({variant}): {told}", flush=True)
            found["runs"] += runs
            yield found


def begin(scenario: contestants.Scenario, file: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What was measured so far, or an empty result with the machine and the settings.

    Raises:
        SystemExit: if the file is of other settings, or of another machine.
    """
    about = {
        "schema": 1,
        "scenario": scenario.name,
        "unit": scenario.unit,
        "more": scenario.more,
        "settings": scenario.settings,
        "contestants": [one.who for one in scenario.contestants],
        "left_out": scenario.left_out,
        "machine": machine(given),
    }
    if not file.exists():
        return {**about, "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "runs": []}
    found: dict[str, Any] = json.loads(file.read_text())
    other = [key for key, value in about.items() if found.get(key) != value]
    if other:
        told = f"{file} has other values of {', '.join(other)}: delete it to measure anew, or give another --out."
        raise SystemExit(told)
    return found


def machine(given: argparse.Namespace) -> dict[str, Any]:
    """Hardware, system, threads and versions."""
    import torch

    from imgkit.device import describe, versions

    torch.set_num_threads(given.threads)
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "device": describe(torch.device(given.device)),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "threads": given.threads,
        "versions": {**versions(), **contestants.peer_versions(given)},
    }


def run(given: argparse.Namespace) -> None:
    """Measure the scenario, and write after each repeat."""
    given.cache.mkdir(parents=True, exist_ok=True)
    for scenario in contestants.scenarios(given):
        for text in scenario.left_out:
            print(f"left out: {text}", flush=True)
        file = given.out / f"{scenario.name}.json"
        found = begin(scenario, file, given)
        for found in measure(scenario, found, given):  # noqa: B020 - the same, longer each time
            given.out.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1) + "\n")
            partial.replace(file)
        print(*speed_page.scenario_lines(found), sep="\n")
    shutil.rmtree(given.cache / "scratch", ignore_errors=True)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*contestants.WHAT, "table"))
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--images", type=int, help="training 480, predict 5000, index 1000000 where left out")
    parser.add_argument("--repeats", type=int, help="of imgkit and the limit (default: what the scenario asks for)")
    parser.add_argument("--peer-repeats", type=int, default=3, help="of them with peers (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="of train 3, of frozen 10 where left out")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=int,
        help="loader processes (default: imgkit's own choice; else cores - 1 up to 2, or 16 for a GPU)",
    )
    parser.add_argument("--compile", action="store_true", help="the limit and timm's best flags may be compiled")
    parser.add_argument("--only", nargs="+", metavar="WHO", help="contestants whose name begins so")
    parser.add_argument("--timm-repo", type=Path, help="checkout of pytorch-image-models")
    parser.add_argument("--fastai-path", type=Path, help="folder that fastai was installed into")
    parser.add_argument("--data", type=Path, default=CACHE.parent, help="quality: what benchmarks/datasets.py wrote")
    parser.add_argument("--stored-peers", action="store_true", help="quality: fastai's time as it is stored, not run")
    parser.add_argument("--cache", type=Path, default=CACHE, help="pictures and scratch (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON (default: %(default)s)")
    return parser


def complete(given: argparse.Namespace) -> argparse.Namespace:
    """The defaults that depend on others."""
    gpu, cores = given.device.startswith("cuda"), os.cpu_count() or 1
    given.batch_size = given.batch_size or (128 if gpu else BATCH.get(given.model, 16))
    given.workers_of_imgkit = given.workers
    given.workers = given.workers if given.workers is not None else min(16, cores) if gpu else min(2, cores - 1)
    given.epochs = given.epochs or (10 if given.what == "frozen" else 3)
    given.repeats = given.repeats or contestants.WHAT[given.what]
    given.out, given.cache = given.out.resolve(), given.cache.resolve()
    return given


def main() -> None:
    """Measure, or write the page."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it started ends with it
    given = arguments().parse_args()
    if given.what == "table":
        speed_page.write(given.out)
        return
    run(complete(given))


if __name__ == "__main__":
    sys.exit(main())
