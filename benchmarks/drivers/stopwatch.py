"""What the drivers of benchmarks/speed.py share: their arguments, the rate of epochs, and the file that they leave.

A driver is a process that does one tool's work once and leaves a JSON file: `value`, or several `values` by what is
added to its name, and what else there is to know. Imports and start-up are outside of what it times. Nothing here
imports a heavy library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

WARM_UP = 1  # epochs that are not counted: workers start, caches fill, memory is taken


def arguments(description: str, *works: str) -> argparse.ArgumentParser:
    """The flags of all drivers; `works` are what this one can do, the first positional argument."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", choices=works)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to leave")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for all else")
    parser.add_argument("--data", type=Path, help="folder with train/CLASS/ and val/CLASS/, or of pictures to label")
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=1 + WARM_UP)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--turns", action="store_true", help="an epoch for each line on stdin, answered on stdout")
    return parser


class Turns:
    """Work that is done a turn at a time: an answer for the turn that is over, then a wait for the next one.

    What else the process prints goes to stderr from now on.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def over(self, value: float, **more: object) -> None:
        """Answer, and return when the next turn begins; where nobody asks for one, the process ends."""
        print(json.dumps({"value": value, **more}), file=self._answers, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # in the middle of whatever was going on


def rate(images: Sequence[int], seconds: Sequence[float]) -> float:
    """Images a second of the epochs after the first.

    Raises:
        ValueError: if there is no second epoch.
    """
    if len(seconds) <= WARM_UP or len(images) != len(seconds):
        raise ValueError(f"{len(seconds)} epochs of {len(images)} counts leave none to be timed")
    return sum(images[WARM_UP:]) / sum(seconds[WARM_UP:])


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def settled(device: torch.device | str) -> None:
    """Wait until the device has done what it was asked for, so that the clock tells the truth."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def leave(out: Path, value: float | None = None, *, values: dict[str, float] | None = None, **more: Any) -> None:  # noqa: ANN401
    """Write what was found, whole or not at all, and the versions of what is loaded by now."""
    loaded = {name: sys.modules[name] for name in ("torch", "timm", "fastai", "torchvision") if name in sys.modules}
    told = {name: str(getattr(module, "__version__", "?")) for name, module in loaded.items()}
    found = {**({"value": value} if values is None else {"values": values}), **more, "loaded": told}
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.rename(out)
