"""The machine: device, loader workers, and what fits."""

import copy
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from imgkit import machine
from imgkit.data.workers import start_method
from imgkit.depthwise import quick_depthwise
from imgkit.errors import DeviceError, UsageError, brief, ran_out

_KINDS = ("cpu", "cuda", "mps")
_OTHER_DEVICE = "Use --device cpu, or install a driver that fits this torch."
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_MANY = 8  # loader processes: handing over costs a millisecond for each, measured
_NO_KERNEL = "does not have a deterministic implementation"
_CPU_INFO = Path("/proc/cpuinfo")


def choose_device(wanted: str, hint: str = _OTHER_DEVICE) -> torch.device:
    """The device that `wanted` names ("auto", "cpu", "cuda", "cuda:1", "mps").

    Args:
        wanted: its name.
        hint: what to do where torch does not see it.

    Raises:
        UsageError: if it is none of these.
        DeviceError: if torch does not see it.
    """
    if wanted.partition(":")[0] not in ("auto", *_KINDS):
        raise UsageError(f"--device {wanted!r} is not known.", "Use auto, cpu, cuda, cuda:N or mps.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"--device {wanted} was asked for, but torch {torch.__version__} cannot use it: {reason}",
            hint,
        ) from None
    return device


def choose_workers(asked: int | None, device: torch.device, sharing: int = 1) -> int:
    """How many processes load images, if not as asked.

    For a GPU of CUDA, and where they take turns with the network, as many as there are cores, up to 8; elsewhere two at
    most, which leave it a core. The cores are those of this machine's, where so many trainings are `sharing` them.
    """
    if asked is not None:
        return asked
    cores = _cores(sharing)
    many = min(_MANY, cores)
    return many if device.type == "cuda" or in_turn(device, many, sharing) else min(2, cores - 1)


def in_turn(device: torch.device, workers: int, sharing: int = 1) -> bool:
    """Whether so many processes read while the network waits for a batch, and not while it computes.

    So it is where both have all cores: each thread of the network has a share of a layer, and all wait for the one
    whose core a loader has. Half as many threads as cores are all, since a processor may count each core twice.
    Measured on two cores with tf_efficientnet_lite0: 1.05 times the updates of one process that reads ahead, 1.10 times
    the answers. Where processes are not forked it was not measured, and they read ahead.
    """
    cores, threads = _cores(sharing), torch.get_num_threads()
    has_all = threads > 1 and cores <= 2 * threads
    return device.type == "cpu" and start_method() == "fork" and has_all and workers >= min(_MANY, cores)


def _cores(sharing: int) -> int:
    return max(1, machine.cores() // sharing)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Give back afterwards what a run sets for its whole process: torch's threads and deterministic algorithms."""
    threads, workspace = torch.get_num_threads(), os.environ.get(_WORKSPACE)
    exact, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact, warn_only=warns)
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def use_settings(threads: int | None, *, deterministic: bool) -> None:
    """Set torch's threads (None: as they are) and whether only deterministic algorithms are used."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS is refused without it


def memory_format(device: torch.device) -> torch.memory_format:
    """How images and weights lie in memory there: channels last, which convolutions are fastest with.

    On Apple's GPUs channels first: torch's gradients of batch norm and pooling are wrong with the other, or end the
    process (pytorch issues 175189 and 175190), and those of convolutions are many times as slow (193349).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def has_half(device: torch.device) -> torch.dtype | None:
    """The format of two bytes that is worth a trial there; float16 on a GPU that only emulates bfloat16."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # else it is the first one that is asked
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else None


def check_memory(
    model: nn.Module,
    device: torch.device,
    image_size: tuple[int, int],
    batch: int,
    micro_batch: int | None,
    autocast: torch.dtype | None,
    channels: int = 3,
) -> None:
    """See that an update fits on a device with memory of its own: one pass at full size on a copy of the model.

    Not on the CPU, where the system ends a process that takes too much instead of refusing.

    Raises:
        DeviceError: if it does not fit; the hint names the largest part of the batch, by halving, that does. Or if
            only deterministic kernels are used, and there is none.
    """
    fits = tried = micro_batch or batch
    while device.type != "cpu" and fits > 0 and not _fits(model, device, (fits, channels, *image_size), autocast):
        fits //= 2
    give_back_memory(device)
    if fits < tried:
        raise out_of_memory(device, image_size, batch, micro_batch, fits)


def give_back_memory(device: torch.device) -> None:
    """Give a GPU back what torch keeps of freed memory, after a trial: others allocate there too, as NCCL does."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def out_of_memory(
    device: torch.device, image_size: tuple[int, int], batch: int, micro_batch: int | None, fits: int | None = None
) -> DeviceError:
    """The error for an update that did not fit: what was tried, and the part of it that does (None: half may)."""
    tried = micro_batch or batch
    smaller = tried // 2 if fits is None else fits
    return DeviceError(
        f"Out of memory on {device} with {tried} images of {image_size[0]}×{image_size[1]} at once.",
        f"Add --micro-batch {smaller}: the same batch of {batch} in smaller parts."
        if smaller > 0
        else "Try a smaller --image-size or a smaller model: imgkit models",
    )


def no_room(device: torch.device, images: int) -> DeviceError:
    """The error for `images` at a time that could not be scored for want of memory; no update was tried."""
    return DeviceError(
        f"Out of memory on {device} while {images} images at a time were scored.",
        "Close other programs, or score on another device (--device cpu); a smaller network needs less: imgkit models",
    )


def versions() -> dict[str, str]:
    """Versions of what can change a result."""
    names = ("imgkit-timm", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def describe(device: torch.device) -> str:
    """`CPU, 2 threads (AMD EPYC, AVX2)`, or the GPU's name and memory and the processor beside it, for people.

    The processor and the instruction set that torch uses on it stand in both: kernels for other instructions round
    otherwise, and the head is solved on the CPU.
    """
    name = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name} {found.total_memory / 2**30:.0f} GiB ({name})"
    threads = torch.get_num_threads()
    return f"{device.type.upper()}, {threads} thread{'s' * (threads > 1)} ({name})"


def processor() -> str:
    """The processor's model name, as Linux tells it; elsewhere what Python knows, at least its architecture."""
    try:
        told = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        told = None
    return " ".join(told[1].split()) if told else platform.processor() or platform.machine()


def _fits(model: nn.Module, device: torch.device, shape: tuple[int, ...], autocast: torch.dtype | None) -> bool:
    try:
        images = torch.zeros(*shape, device=device).contiguous(memory_format=memory_format(device))
        tried = copy.deepcopy(model).train()
        if len(images) == 1:  # of which batch norm may have no statistics
            for module in tried.modules():
                module.train(not isinstance(module, nn.modules.batchnorm._BatchNorm))
        step_seconds(tried, images, autocast)
    except Exception as error:
        if _NO_KERNEL in str(error):
            raise DeviceError(
                f"run.deterministic = true, and torch has no such kernel on {device}: {brief(error)}",
                "Leave out run.deterministic, or take another network or --head.",
            ) from error
        if not ran_out(error):
            raise
        return False
    return True


def step_seconds(model: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> float:
    """One forward and backward pass."""
    begin = time.perf_counter()
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        logits = model(images)
    with quick_depthwise(images.device, dtype):
        logits.float().sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    seconds = time.perf_counter() - begin
    model.zero_grad(set_to_none=True)
    return seconds


def _cpu_has_bfloat16() -> bool:
    try:
        flags = _CPU_INFO.read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
