"""What scoring cost: time, memory, energy. They stand in cost.json, apart from the metrics, which repeat to the bit."""

import sys
from typing import Any

import torch

from imgkit.device import describe

_SCHEMA = 1


def cost_of(
    images: int, *, seconds: float, network_seconds: float, device: torch.device, joules: float | None = None
) -> dict[str, Any]:
    """What cost.json holds.

    Args:
        images: scored, at least one.
        seconds: from the first picture asked for to the last answer.
        network_seconds: of these, in which the network was at work; in the others it waited for pictures.
        device: where it was.
        joules: that the processors took meanwhile, see `energy.Meter`; None where that is not known.
    """
    energy = {} if joules is None else {"processor_joules": round(joules, 2)}
    return {
        "schema": _SCHEMA,
        "images": images,
        "seconds": round(seconds, 3),
        "network_seconds": round(network_seconds, 3),
        "images_per_second": round(images / seconds, 2),
        "device": describe(device),
        "peak_memory": peak_memory(),
        "device_peak_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        **energy,
    }


def peak_memory() -> int | None:
    """The most memory, in bytes, that this process has had so far (its resident set); None where that is not told."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB
