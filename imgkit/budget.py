"""What a network may be at most: its size, its parameters, and how long one image takes. Looked at before training."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timm.models import split_model_name_tag
from torch import nn

from imgkit.device import memory_format
from imgkit.errors import GateError
from imgkit.models.relatives import Relative, Weight, lighter, weigh
from imgkit.quantity import BYTES, format_bytes, parse_bytes, parse_count, parse_ms, unit_of
from imgkit.recipe.load import Loaded
from imgkit.recipe.toml import value_text

_WARM_UP, _TIMED = 3, 9  # forward passes of one image
_SHOWN = 3  # smaller networks that are named
_COUNTED = "parameters and buffers, float32"


@dataclass(frozen=True)
class Limit:
    """A limit, and what was measured against it.

    Args:
        what: "size" in bytes, "params", or "latency" in milliseconds.
        text: the limit as given, "100MB".
        origin: where it was given: "--max-size", "file my.toml", or "the network's own".
        most: the limit.
        found: what was measured.
        where: the device of a latency; empty for the others.
    """

    what: str
    text: str
    origin: str
    most: float
    found: float
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the network is within it."""
        return self.found <= self.most

    @property
    def words(self) -> str:
        """`97.70 MiB (parameters and buffers, float32)`."""
        if self.what == "size":
            return f"{format_bytes(int(self.found), unit_of(self.text))} ({_COUNTED})"
        if self.what == "params":
            return f"{int(self.found):,} parameters"
        return f"{self.found:.1f} ms for one image on {self.where} (median of {_TIMED})"


def measure(
    model: nn.Module, loaded: Loaded, *, size: tuple[int, int], device: torch.device, machine: str
) -> list[Limit]:
    """What each limit of the recipe's `[budget]` is, and what the model measures; one that is not set is left out.

    Args:
        model: on its device; left in the mode that it was in.
        loaded: the recipe; `size = "auto"` is the model's own `max_size`, if it has one.
        size: (height, width) of images, pixels.
        device: of the model.
        machine: the device for people.
    """
    budget, origins, weight = loaded.recipe.budget, loaded.origins, weigh(model)
    own = getattr(model, "max_size", "none")
    limits = []
    text = own if budget.size == "auto" else budget.size
    if text != "none":
        origin = "the network's own" if budget.size == "auto" else origins["budget.size"]
        limits.append(Limit("size", text, origin, parse_bytes(text), weight.size_bytes))
    if budget.params is not None:
        most = parse_count(budget.params)
        limits.append(Limit("params", budget.params, origins["budget.params"], most, weight.parameters))
    if budget.latency is not None:
        most_ms, shape = parse_ms(budget.latency), (loaded.recipe.model.in_chans, *size)
        found = latency_ms(model, shape, device)
        limits.append(Limit("latency", budget.latency, origins["budget.latency"], most_ms, found, machine))
    return limits


def latency_ms(model: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
    """The median time of a forward pass over one image of `shape` (C, H, W), after some to warm up.

    In evaluation mode and float32.
    """
    return 1e3 * forward_seconds(model, (1, *shape), device, warm_up=_WARM_UP, passes=_TIMED)


def forward_seconds(
    model: nn.Module, shape: tuple[int, int, int, int], device: torch.device, *, warm_up: int, passes: int
) -> float:
    """The median time of `passes` forward passes over images of zeros (B, C, H, W), after `warm_up` others.

    In evaluation mode and float32; the model is left in the mode that it was in.
    """
    before = model.training
    images = torch.zeros(*shape, device=device).contiguous(memory_format=memory_format(device))
    times = []
    model.eval()
    with torch.inference_mode():
        for _ in range(warm_up + passes):
            began = time.perf_counter()
            model(images).cpu()  # device sync
            times.append(time.perf_counter() - began)
    model.train(before)
    return median(times[warm_up:])


def check(limits: list[Limit], *, name: str, loaded: Loaded, classes: int) -> None:
    """See that every limit holds.

    Args:
        limits: from `measure`.
        name: of the network, timm's.
        loaded: the recipe.
        classes: K.

    Raises:
        GateError: naming each limit that does not, and what would fit.
    """
    over = [limit for limit in limits if not limit.holds]
    if not over:
        return
    arch = split_model_name_tag(name)[0]
    lines = [
        f"{arch} with {classes:,} classes: {limit.words}, over the limit of {limit.text} ({limit.origin})"
        for limit in over
    ]
    raise GateError("\n".join(lines), "\n".join(_advice(limits, over, arch, loaded, classes)))


def check_file(limit: Mapping[str, Any], file: Path) -> None:
    """See that the written file of weights is within the limit: its list of names comes on top of what was counted.

    Args:
        limit: that of size, as `about_limits` wrote it into run.json.
        file: of the weights.

    Raises:
        GateError: if it is over the limit.
    """
    written, unit = file.stat().st_size, unit_of(limit["limit"])
    if written > limit["most"]:
        raise GateError(
            f"{file} takes {format_bytes(written, unit)}, over the limit of {limit['limit']} ({limit['origin']}). "
            f"Before training {limit['words']} were counted; the list of their names comes on top.",
            "The model is complete and is kept. Raise the limit by the difference, or train a smaller network.",
        )


def about_limits(limits: list[Limit]) -> dict[str, dict[str, Any]]:
    """The limits as run.json has them, by what they limit."""
    return {
        limit.what: {
            "limit": limit.text,
            "origin": limit.origin,
            "most": limit.most,
            "found": limit.found,
            "words": limit.words,
            **({"counted": _COUNTED} if limit.what == "size" else {}),
            **({"device": limit.where, "passes": _TIMED} if limit.where else {}),
        }
        for limit in limits
    }


def _advice(limits: list[Limit], over: list[Limit], arch: str, loaded: Loaded, classes: int) -> list[str]:
    """What would fit, and how the limit is lifted."""
    unit = next((unit_of(limit.text) for limit in limits if limit.what == "size"), "MB")
    found = lighter(arch, loaded.recipe.model, classes)
    fitting = sorted(
        (one for one in found if all(_fits(limit, one.weight) for limit in limits)),
        key=lambda one: one.weight,
        reverse=True,
    )
    own = [one for one in fitting if one.name == arch]
    others = [one for one in fitting if one.name != arch][:_SHOWN]
    lines = [_line(one, arch, unit, loaded) for one in (*own, *others)]
    timed = any(limit.what == "latency" for limit in over)
    if lines:
        lines.insert(0, f"Smaller, {'not timed' if timed else 'and within the limits'}:")
    else:
        lines.append("No network of its family is small enough; all of them with their sizes:  imgkit models")
    size = next((limit for limit in over if limit.what == "size"), None)
    if size is not None:
        half = int(size.found) // 2
        if half <= size.most:
            lines.append(f"In half precision it would be {format_bytes(half, unit)}; imgkit counts and writes float32.")
        lines.append(_other_unit(size))
    lines += [_without(limit) for limit in over]
    return [line for line in lines if line]


def _without(limit: Limit) -> str:
    """How to do without a limit, which depends on where it was given."""
    if limit.what == "size":
        return "Without the limit:  --max-size none"
    if limit.origin.startswith(("file", "recipe")):
        return f"Without the limit:  --set budget.{limit.what}=none"
    return f"Without the limit: leave out {limit.origin.rstrip('=')}"


def _fits(limit: Limit, weight: Weight) -> bool:
    if limit.what == "latency":
        return True  # smaller at least
    return (weight.size_bytes if limit.what == "size" else weight.parameters) <= limit.most


def _line(one: Relative, arch: str, unit: str, loaded: Loaded) -> str:
    size = f"{one.weight.parameters / 1e6:.2f} M parameters, {format_bytes(one.weight.size_bytes, unit)}"
    if one.name != arch:
        return f"  {one.name}  {size}"
    given = loaded.recipe.model.options
    changed = [f"--set model.options.{key}={value_text(value)}" for key, value in one.options.items()]
    new = [word for word, key in zip(changed, one.options, strict=True) if one.options[key] != given.get(key)]
    return f"  {' '.join(new)}  {size}"


def _other_unit(size: Limit) -> str:
    """A limit that was meant in the other unit: 97.70 MiB are 102.44 MB."""
    unit = unit_of(size.text)
    other = unit.replace("iB", "B").replace("K", "k") if "i" in unit else unit.replace("B", "iB").replace("k", "K")
    if size.found > size.most / BYTES[unit] * BYTES[other]:
        return ""
    amount = size.text.replace(unit, other).replace(" ", "")
    return f"It is {format_bytes(int(size.found), other)}: within {amount}, if that was meant:  --max-size {amount}"
