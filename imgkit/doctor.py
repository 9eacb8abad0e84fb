"""`imgkit doctor`: whether this machine can do what a run needs, each part tried for real, in seconds.

Nothing is fetched. What is tried: the packages together, memory, cores, devices, the disk that runs go to and the
cache, shared memory, the hub's door, a process that loads pictures, training steps that repeat to the bit, a checkpoint
written and read.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from imgkit import checkpoint, machine
from imgkit.checkpoint import Checkpoint
from imgkit.data.builtin import builtin_folder, cache_folder
from imgkit.data.decode import load_image
from imgkit.data.rows import count
from imgkit.device import choose_device, describe, memory_format, versions
from imgkit.errors import DiskError, ImgkitError, UsageError
from imgkit.files import sync
from imgkit.models.weights import hub_answers, hub_cache
from imgkit.quantity import about_bytes
from imgkit.weight_packages import installed_networks

Verdict = Literal["ok", "warn", "fail"]
_ROOM = 2 * 2**30  # bytes below which a disk is too full; two checkpoints of a ResNet-50 with AdamW take 0.6 GiB
_MEMORY = 2 * 2**30  # bytes; importing torch takes 0.5, a small network at 224 px another one
_SHARED = 128 * 2**20  # bytes: three batches of 32 pictures at 224 px take 15 MB, and a GPU's 16 in hand 77
_SLOW_SYNC_S = 0.5  # for 1 MiB; a disk over the network may take that
_STEPS = 3
_GRADIENTS = 0.05  # of their size, that those of two kinds of device may differ by: rounding, of TF32 too
_ELSEWHERE = "Write runs elsewhere:  --out FOLDER"
_ASIDE = ".imgkit-doctor-"  # what the names of its own folders begin with; they are removed


class Finding(NamedTuple):
    """What one check found: `words` for people, `advice` where the verdict is not "ok"."""

    name: str
    verdict: Verdict
    words: str
    advice: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where a doctor looks: the folder that runs go to, and the device by its name."""

    out: Path
    device: str = "auto"


def examine(place: Place) -> Iterator[Finding]:
    """Each check in turn; one that fails in a way nobody thought of is a finding, too, and the others go on.

    Raises:
        UsageError: if there is no such device.
    """
    for name, check in _CHECKS.items():
        began = time.perf_counter()
        try:
            found = check(place)
        except UsageError:
            raise
        except ImgkitError as error:
            found = Finding(name, "fail", error.message, error.hint)
        except Exception as error:  # whatever it is, the text is for a bug report
            found = Finding(name, "fail", f"{type(error).__name__}: {error}", "Report this text as a bug.")
        yield found._replace(name=name, words=_short(found.words), seconds=time.perf_counter() - began)


def worst(findings: list[Finding]) -> Verdict:
    """What to say of all together: "fail" before "warn" before "ok"."""
    found = {finding.verdict for finding in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def _ok(words: str) -> Finding:
    return Finding("", "ok", words)


def _warn(words: str, advice: str) -> Finding:
    return Finding("", "warn", words, advice)


def _short(text: str) -> str:
    """Text of one line, without the name of the user in paths below the home folder."""
    home = str(Path.home())
    return " ".join(text.replace(home, "~").split()) if len(home) > 1 else " ".join(text.split())


def _versions(place: Place) -> Finding:
    found = " · ".join(f"{name.removesuffix('-timm')} {number}" for name, number in versions().items())
    old = [text for text in _requirements() if not _satisfied(text)]
    if old:
        return _warn(f"{found}; imgkit asks for {', '.join(old)}", "Mend them:  pip install --upgrade imgkit-timm")
    return _ok(found)


def _requirements() -> list[str]:
    """What the installed distribution asks for, extras left out."""
    with suppress(PackageNotFoundError):
        return [text for text in requires("imgkit-timm") or () if "extra ==" not in text]
    return []


def _satisfied(requirement: str) -> bool:
    """Whether the lower and upper bounds of `name>=1.2,<3` hold; other forms are taken as held."""
    match = re.match(r"([\w.-]+)", requirement)
    try:
        here = _numbers(version(match[1])) if match else ()
    except PackageNotFoundError:
        return False
    at_least = all(here >= _numbers(bound) for bound in re.findall(r">=\s*([\d.]+)", requirement))
    return at_least and all(here < _numbers(bound) for bound in re.findall(r"<\s*([\d.]+)", requirement))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _together(place: Place) -> Finding:
    """Whether torch and torchvision were built for each other: the operators of the one are known to the other."""
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([0.9, 0.8]), 0.5)
    assert kept.tolist() == [0]
    return _ok("torchvision's operators answer, so it fits this torch")


def _memory(place: Place) -> Finding:
    free, total = machine.free_memory(), machine.memory()
    words = f"{count(machine.cores(), 'core')}, {count(torch.get_num_threads(), 'thread')} of torch"
    if free is None or total is None:
        return _ok(f"{words}; this system does not tell its memory")
    words += f" · {about_bytes(free)} of {about_bytes(total)} memory free"
    return _ok(words) if free >= _MEMORY else _warn(words, "Close other programs, or take a small --micro-batch.")


def _device(place: Place) -> Finding:
    device = choose_device(place.device)
    words = describe(device)
    if device.type == "cpu" and Path("/proc/driver/nvidia/version").exists():
        return _warn(
            f"{words}; there is an NVIDIA driver that torch {torch.__version__} does not use",
            "Install a torch for CUDA, or a driver that is new enough for this one.",
        )
    return _ok(words)


def _runs(place: Place) -> Finding:
    return _disk(place.out, _ELSEWHERE)


def _cache(place: Place) -> Finding:
    found = _disk(cache_folder(), "Choose another folder:  IMGKIT_CACHE=FOLDER")
    return found._replace(words=f"{found.words} · it holds {about_bytes(_size(cache_folder()))}")


def _disk(folder: Path, advice: str) -> Finding:
    """A folder, which need not exist: how much room there is, and whether what is written reaches the disk."""
    with _written_in(folder, advice) as above, tempfile.TemporaryDirectory(prefix=_ASIDE, dir=above) as name:
        free = shutil.disk_usage(above).free
        file = Path(name) / "one"
        began = time.perf_counter()
        file.write_bytes(b"1" * 2**20)
        sync(file)
        file.rename(Path(name) / "two")
        sync(Path(name))
        seconds = time.perf_counter() - began
    words = f"{folder} · {about_bytes(free)} free · 1 MiB is on the disk after {1000 * seconds:.0f} ms"
    return _ok(words) if free >= _ROOM and seconds < _SLOW_SYNC_S else _warn(words, advice)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there.

    Raises:
        NotADirectoryError: if that is a file.
    """
    found = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not found.is_dir():
        raise NotADirectoryError(f"{found} is no folder")
    return found


@contextmanager
def _written_in(folder: Path, advice: str) -> Iterator[Path]:
    """The folder, or the nearest one above it that is there; what the system refuses is no bug, and has this advice."""
    try:
        yield _there(folder)
    except OSError as error:
        raise DiskError(f"{folder} cannot be written to: {error.strerror or error}", advice) from error


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += 0 if file.is_symlink() or not file.is_file() else file.stat().st_size
    return total


def _weights(place: Place) -> Finding:
    here = installed_networks()
    words = f"packages for {', '.join(here)}" if here else "no package of weights"
    words += f" · hub's cache {hub_cache()}, {about_bytes(_size(hub_cache()))}"
    if hub_answers():
        return _ok(f"{words} · the hub answers")
    return _warn(f"{words} · the hub does not answer", "What is here:  imgkit models --cached; others:  --weights FILE")


def _shared(place: Place) -> Finding:
    shared = Path("/dev/shm")  # noqa: S108  # nothing is written there
    if not shared.is_dir():
        return _ok("this system has no /dev/shm; torch takes other ways")
    free = shutil.disk_usage(shared).free
    words = f"{about_bytes(free)} free in {shared}"
    if free >= _SHARED:
        return _ok(words)
    return _warn(words, "Processes that load images need more: --workers 0, or docker run --shm-size=1g")


def _loading(place: Place) -> Finding:
    """A picture decoded in another process, which sends its pixels through shared memory."""
    file = min(builtin_folder("synthetic:2x2").rglob("*.png"))
    try:
        (pixels,) = torch.utils.data.DataLoader(_Pictures(file), num_workers=1, batch_size=None, timeout=60)
    except RuntimeError as error:  # also what an error over there is raised as
        return Finding("", "fail", f"a process for loading ended: {error}", "Train without:  --workers 0")
    assert pixels.shape == (32, 32, 3)
    return _ok("a process beside this one decodes a picture")


class _Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """One picture, as the loaders read it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __len__(self) -> int:
        return 1

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.array(load_image(self.file)))


def _training(place: Place) -> Finding:
    """The same few steps twice: finite, and the same to the bit, which is what resume rests on."""
    device = choose_device(place.device)
    away = _away(_gradients(device), _gradients(torch.device("cpu")))
    if not away <= _GRADIENTS:  # NaN is not
        told = f"gradients on {device} are not those of the processor, {away:.0%} of their size away"
        return Finding("", "fail", told, "Try a newer torch, or --device cpu.")
    first, again = _trained(device), _trained(device)
    if not all(torch.isfinite(value).all() for value in first.values()):
        return Finding("", "fail", f"{_STEPS} steps on {device} gave numbers that are not finite", "Try --device cpu.")
    if not all(torch.equal(value, again[name]) for name, value in first.items()):
        advice = "Where they have to repeat:  --set run.deterministic=true"
        return _warn(f"{_STEPS} steps on {device}, done twice, gave other bits", advice)
    return _ok(f"{_STEPS} steps on {device}, done twice, gave the same bits")


def _trained(device: torch.device) -> dict[str, torch.Tensor]:
    model, loss = _small(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(_STEPS):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.cpu() for name, value in model.state_dict().items()}


def _gradients(device: torch.device) -> torch.Tensor:
    model, loss = _small(device)
    loss().backward()
    return torch.cat([parameter.grad.cpu().flatten() for parameter in model.parameters() if parameter.grad is not None])


def _away(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).norm() / right.norm())


def _small(device: torch.device) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """A network of layers whose gradients were wrong on one kind of device or another, and its loss of a few images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolved = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        pooled = nn.AvgPool2d(3, 1, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8)
        layers = nn.Sequential(nn.Conv2d(3, 3, 1), *convolved, *pooled, nn.Flatten(), nn.Linear(8 * 13 * 13, 4))
        images, labels = torch.rand(8, 3, 32, 32), torch.arange(8) % 4
    model = layers.to(device).to(memory_format=memory_format(device))
    images, labels = images.to(device).contiguous(memory_format=memory_format(device)), labels.to(device)
    return model, lambda: nn.functional.cross_entropy(model(images), labels)


def _saving(place: Place) -> Finding:
    """A checkpoint of 16 MiB by the protocol of runs, beside where runs go, and read back."""
    weights = {"weight": torch.arange(4 * 2**20, dtype=torch.float32)}
    warnings: list[str] = []
    with _written_in(place.out, _ELSEWHERE) as above, tempfile.TemporaryDirectory(prefix=_ASIDE, dir=above) as name:
        folder = Path(name)
        state: dict[str, Any] = {"fingerprint": ""}
        checkpoint.save(folder, Checkpoint(1, weights, {}, state), keep=1, best=None, warn=warnings.append)
        found = checkpoint.load(folder, warnings.append)
    if found is None or not torch.equal(found.model["weight"], weights["weight"]) or warnings:
        return Finding("", "fail", f"a checkpoint came back otherwise: {'; '.join(warnings)}", "Mistrust this disk.")
    return _ok("a checkpoint of 16 MiB is written, verified and read back")


def _terminal(place: Place) -> Finding:
    if sys.stdout is None:
        return _ok("standard output is closed")
    encoding = sys.stdout.encoding or "ascii"
    words = f"{encoding}, {shutil.get_terminal_size().columns} columns"
    try:
        "★ ·".encode(encoding)
    except UnicodeEncodeError:
        return _warn(f"{words}; some signs are replaced", "For all of them:  PYTHONUTF8=1")
    return _ok(words)


_CHECKS: dict[str, Callable[[Place], Finding]] = {
    "Versions": _versions,
    "Together": _together,
    "Machine": _memory,
    "Device": _device,
    "Runs": _runs,
    "Cache": _cache,
    "Weights": _weights,
    "Shared": _shared,
    "Loading": _loading,
    "Training": _training,
    "Saving": _saving,
    "Terminal": _terminal,
}
