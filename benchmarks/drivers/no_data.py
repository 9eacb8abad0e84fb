"""The limit of a training: the same network stepping on one synthetic batch that never leaves the device.

Forward, cross-entropy, backward and AdamW, with batch norm in training mode, in several number and memory formats; the
best one counts, with imgkit's gradients of depthwise convolutions and with torch's. glibc is told to keep freed memory,
as imgkit tells it. Nothing is decoded, augmented, normalised,
sent, counted, evaluated or saved.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = {  # name: channels_last, bfloat16, compiled, imgkit's backward pass
    "float32, contiguous": (False, False, False, False),
    "float32, channels_last": (True, False, False, False),
    "bfloat16, channels_last": (True, True, False, False),
    "bfloat16, channels_last, imgkit's gradients": (True, True, False, True),
    "bfloat16, channels_last, compiled": (True, True, True, False),
}
WARM_UP = 3  # steps


def rounds(given: stopwatch.argparse.Namespace, name: str) -> Iterator[float]:
    """Images a second of one format, on a network of its own, of so many steps each time that one is asked for."""
    import timm
    import torch

    from imgkit.depthwise import quick_depthwise

    channels_last, half, compiled, own = FORMATS[name]
    memory = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(given.model, num_classes=given.classes).to(given.device, memory_format=memory).train()
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    images = torch.randn(given.batch_size, 3, given.size, given.size, device=given.device).to(memory_format=memory)
    targets = torch.randint(given.classes, (given.batch_size,), device=given.device)

    def step() -> None:
        with torch.autocast(torch.device(given.device).type, dtype=torch.bfloat16, enabled=half):
            logits = run(images)  # (B, K)
        with quick_depthwise(torch.device(given.device), torch.bfloat16 if own else None):
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARM_UP):
        step()
    while True:
        stopwatch.settled(given.device)
        began = time.perf_counter()
        for _ in range(given.steps):
            step()
        stopwatch.settled(given.device)
        yield given.batch_size * given.steps / (time.perf_counter() - began)


def main() -> None:
    """Step in each format, one after the other; then, where turns are asked for, in the best one."""
    parser = stopwatch.arguments("The no-data rate.", "train")
    parser.add_argument("--steps", type=int, default=12, help="of each format, after three that do not count")
    given = parser.parse_args()
    turns = stopwatch.Turns() if given.turns else None
    import torch

    from imgkit.freed_memory import keep_freed_memory

    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    names = [name for name, (_, _, compiled, _) in FORMATS.items() if given.compile or not compiled]
    rates = {name: next(rounds(given, name)) for name in names}
    best = max(rates, key=lambda name: rates[name])
    if turns is not None:
        for rate in rounds(given, best):
            turns.over(rate, format=best, rates=rates)
    stopwatch.leave(given.out, rates[best], format=best, rates=rates)


if __name__ == "__main__":
    main()
