"""Run the peers on the benchmark splits, one after another, skipping results that exist.

    python benchmarks/datasets.py
    python benchmarks/peers/run_all.py --timm-repo TIMM                  # everything, in order of weight
    python benchmarks/peers/run_all.py --timm-repo TIMM --queue jobs.txt --max-minutes 30

A result is benchmarks/results/peers/TASK-K-TOOL.json; delete it to run it again. jobs.txt names one job a line, such as
fastai-solar2-0, in the order to run them; it is read anew before each job, so that it can be changed meanwhile. A job
that fails is tried once more after the others.
"""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import common

PEERS_DIR = Path(__file__).resolve().parent
SCRIPTS = {"fastai": "fastai_finetune.py", "timm": "timm_train.py"}
TASKS = tuple(common.SIZE_OF_TASK_PX)
SPLITS = range(5)
ATTEMPTS = 2  # a run of many minutes can lose its memory to something else


@dataclass(frozen=True)
class Job:
    """One peer on one split of one task."""

    tool: str
    task: str
    split: int

    @property
    def name(self) -> str:
        """Such as fastai-solar2-0."""
        return f"{self.tool}-{self.task}-{self.split}"

    @property
    def result_name(self) -> str:
        """File name of its result."""
        return f"{self.task}-{self.split}-{self.tool}.json"


def queue() -> list[Job]:
    """All jobs, the most telling first: the main task's five splits, one split of the others, then the rest."""
    first = [Job("fastai", "solar2", split) for split in SPLITS]
    first += [Job(tool, task, 0) for tool in ("fastai", "timm") for task in ("solar2", "solar8", "digits", "fashion")]
    cheap_first = ("digits", "fashion", "solar8", "solar2")
    rest = [Job(tool, task, split) for task in cheap_first for split in SPLITS for tool in SCRIPTS]
    return list(dict.fromkeys(first + rest))


def command(job: Job, args: argparse.Namespace) -> list[str]:
    """The runner's command line."""
    words = [sys.executable, str(PEERS_DIR / SCRIPTS[job.tool])]
    words += ["--csv", str(args.data / f"{job.task}-{job.split}.csv")]
    words += ["--scratch", str(args.scratch), "--out", str(args.results / job.result_name)]
    return words + (["--timm-repo", str(args.timm_repo)] if job.tool == "timm" else [])


def run(job: Job, args: argparse.Namespace) -> bool:
    """Run one job and say how it went."""
    started = time.monotonic()
    print(f"{time.strftime('%H:%M:%S')} {job.name} ...", flush=True)
    done = subprocess.run(command(job, args), check=False)
    minutes = (time.monotonic() - started) / 60
    print(f"{time.strftime('%H:%M:%S')} {job.name} exit {done.returncode} after {minutes:.1f} min", flush=True)
    return done.returncode == 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    cache = Path.home() / ".cache" / "imgkit-bench"
    parser = argparse.ArgumentParser(description="Run the peers on the benchmark splits.")
    parser.add_argument("--data", type=Path, default=cache, help="folder that benchmarks/datasets.py wrote")
    parser.add_argument("--results", type=Path, default=PEERS_DIR.parent / "results" / "peers")
    parser.add_argument("--scratch", type=Path, default=cache / "scratch", help="weights and checkpoints")
    parser.add_argument("--timm-repo", type=Path, help="checkout of pytorch-image-models; without it, timm is skipped")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="run these alone, in this order")
    parser.add_argument("--queue", type=Path, help="text file of jobs, one a line (default: all jobs)")
    parser.add_argument("--max-minutes", type=float, default=float("inf"), help="start no job after this many minutes")
    return parser.parse_args()


def next_job(args: argparse.Namespace, failures: Counter[Job]) -> Job | None:
    """The first job without a result that has failed least often, or None when nothing is left."""
    jobs = [job for job in queue() if args.timm_repo or job.tool != "timm"]
    names = args.only or (args.queue.read_text().split() if args.queue else [job.name for job in jobs])
    by_name = {job.name: job for job in jobs}
    jobs = [by_name[name] for name in names]
    open_jobs = [job for job in jobs if not (args.results / job.result_name).exists() and failures[job] < ATTEMPTS]
    return min(open_jobs, key=lambda job: failures[job], default=None)


def hold_lock(scratch: Path) -> IO[str]:
    """A lock that lives as long as the returned file: two queues at once would spoil each other's times."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = (scratch / "run_all.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"Another run_all.py is at work with the scratch folder {scratch}.") from None
    return file


def main() -> None:
    """Work through the queue."""
    args = parse_arguments()
    lock = hold_lock(args.scratch)
    deadline = time.monotonic() + args.max_minutes * 60
    failures: Counter[Job] = Counter()
    while (job := next_job(args, failures)) is not None and time.monotonic() < deadline:
        if not run(job, args):
            failures[job] += 1
    lock.close()
    lost = [job.name for job, count in failures.items() if count == ATTEMPTS]
    if lost:
        raise SystemExit(f"failed: {', '.join(lost)}")


if __name__ == "__main__":
    main()
