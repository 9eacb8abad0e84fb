"""The number formats of training by name, and which one a run gets."""

import copy
import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imgkit.data.builtin import cache_folder
from imgkit.device import describe, give_back_memory, has_half, memory_format, step_seconds, versions
from imgkit.errors import ran_out
from imgkit.files import replace_bytes
from imgkit.recipe.schema import Recipe

FORMATS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in, by the words of `train.precision` and run.json; None: no autocast."""
_FASTER = 0.8  # half precision has to take at most this share of float32's time: more than a busy machine's noise
_WITHIN = 0.5  # of the size of float32's logits: with random weights of deep networks rounding alone makes 0.2
_FEW = 8  # images of a trial step on a CPU
_TRIALS = 3  # steps of each format, in turn, after one to warm up


class Format(NamedTuple):
    """A number format of updates.

    Attributes:
        autocast: None: float32.
        why: why it was taken, in words that begin with its name.
        measured: whether a measurement chose it, so that another one might choose otherwise.
    """

    autocast: torch.dtype | None
    why: str
    measured: bool = False


def format_name(autocast: torch.dtype | None) -> str:
    """The word for a format."""
    return next(name for name, dtype in FORMATS.items() if dtype is autocast)


def choose_format(
    images: int,
    recipe: Recipe,
    model: nn.Module,
    device: torch.device,
    image_size: tuple[int, int],
    *,
    smoke: bool,
) -> Format:
    """The number format of updates, decided once; a `smoke` run is too short to measure for.

    Times are remembered in the cache folder, by machine, threads, versions, network and size of the images.
    `images` are the most of a forward pass of an update; 0 where no update goes through the network.
    """
    asked = recipe.train.precision
    if asked != "auto":
        slow = device.type == "cpu" and FORMATS[asked] is not None and has_half(device) is None
        return Format(FORMATS[asked], f"{asked}: asked for" + ", though this processor only emulates it" * slow)
    if recipe.run.deterministic:
        return Format(None, "float32: deterministic runs do not choose by a measurement")
    if smoke:
        return Format(None, "float32: a smoke run does not choose by a measurement")
    if not images:
        return Format(None, "float32: no update goes through the network")
    return measure_format(model, device, (images, recipe.model.in_chans, *image_size))


def measure_format(model: nn.Module, device: torch.device, shape: tuple[int, ...]) -> Format:
    """The faster format for training: bfloat16 autocast, if its answers are near float32's, or float32.

    Tried on a copy of the model, forward and backward, before the first step; times of earlier trials are remembered,
    and answers compared each time. A GPU is tried with all images of a forward pass, `shape` (B, C, H, W), or as many
    halvings fewer as fit: on few, the start of each kernel takes its time and not the arithmetic. A CPU is tried with
    at most 8. A GPU that only emulates bfloat16 is tried with float16 instead; a CPU never is.
    """
    half, (batch, *rest) = has_half(device), shape
    if half is None and device.type == "cpu":
        return Format(None, "float32: this processor has no bfloat16 instructions")
    if half is None:
        return Format(None, "float32: bfloat16 is not tried on mps")
    name, file = format_name(half), _file(model, device, shape)
    tried = max(2, batch if device.type == "cuda" else min(batch, _FEW))
    trial = _remembered(file)
    while trial is None:
        trial = _trial(model, device, (tried, *rest), half)
        give_back_memory(device)
        if trial is not None:
            _remember(file, trial)
        elif tried == 2:
            return Format(None, f"float32: out of memory in trial steps of 2 images on {device}")
        tried = max(2, tried // 2)
    seconds = f"{trial.half * 1000:.0f} ms against {trial.exact * 1000:.0f} ms a trial step of {trial.images} images"
    seconds += f" in float32, measured on {trial.date}"
    if not trial.half <= _FASTER * trial.exact:
        return Format(None, f"float32: {name} is not clearly faster here ({seconds})", measured=True)
    away = _away(copy.deepcopy(model), _images(device, (min(trial.images, _FEW), *rest)), half)
    if not away <= _WITHIN:  # NaN is not
        far = f"float32: {name} gives other logits, {away:.0%} of their size away ({seconds})"
        return Format(None, far, measured=True)
    return Format(half, f"{name}: {seconds}", measured=True)


class _Trial(NamedTuple):
    """The quickest step of each format, in seconds, with so many images."""

    exact: float
    half: float
    images: int
    date: str


def _images(device: torch.device, shape: tuple[int, ...]) -> torch.Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=memory_format(device))


def _trial(model: nn.Module, device: torch.device, shape: tuple[int, ...], half: torch.dtype) -> _Trial | None:
    """The times of steps in float32 and in `half`, on a copy of the model; None where memory runs out."""
    slow = fast = float("inf")
    try:
        trial, images = copy.deepcopy(model).train(), _images(device, shape)
        for number in range(1 + _TRIALS):  # in turn: what else the machine does then meets both
            times = step_seconds(trial, images, None), step_seconds(trial, images, half)
            if number:
                slow, fast = min(slow, times[0]), min(fast, times[1])
    except Exception as error:
        if not ran_out(error):
            raise
        return None
    return _Trial(slow, fast, len(images), f"{datetime.now(UTC):%Y-%m-%d}")


def _away(model: nn.Module, images: torch.Tensor, half: torch.dtype) -> float:
    """How far logits in half precision are from float32's, by their size: |a - b| / |b|, both norms over the batch.

    Without dropout, and with batch norm's own statistics of these images: stored ones of random weights are none.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    with torch.inference_mode():
        exact = model(images).float()
        with torch.autocast(images.device.type, dtype=half):
            found = model(images).float()
        return float((found - exact).norm() / exact.norm().clamp_min(1e-12))


def _file(model: nn.Module, device: torch.device, shape: tuple[int, ...]) -> Path:
    about = [describe(device), versions(), str(model), shape]
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "trials" / f"{name}.json"


def _remembered(file: Path) -> _Trial | None:
    """The times of an earlier run; None where there are none, or the file is not whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        times = float(found["exact"]), float(found["half"])
        return _Trial(*times, int(found["images"]), str(found["date"]))
    return None


def _remember(file: Path, trial: _Trial) -> None:
    with suppress(OSError):  # the cache may be read-only, or full: the next run measures again
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(file, json.dumps(trial._asdict()).encode())
