"""The limit of a training: the same network stepping on one synthetic batch that never leaves the device.

Forward, cross-entropy, backward and AdamW, with batch norm in training mode, in several number and memory formats; the
best one counts, with imgkit's gradients of depthwise convolutions and with torch's. glibc is told to keep freed memory,
as imgkit tells it. Nothing is decoded, augmented, normalised,
sent, counted, evaluated or saved.
"""

from __future__ import annotations

import time

import stopwatch

FORMATS = {  # name: channels_last, bfloat16, compiled, imgkit's backward pass
    "float32, contiguous": (False, False, False, False),
    "float32, channels_last": (True, False, False, False),
    "bfloat16, channels_last": (True, True, False, False),
    "bfloat16, channels_last, imgkit's gradients": (True, True, False, True),
    "bfloat16, channels_last, compiled": (True, True, True, False),
}
WARM_UP = 3  # steps


def steps_per_second(given: stopwatch.argparse.Namespace, name: str, steps: int) -> float:
    """Of one format, on a network of its own."""
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
    began = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            stopwatch.settled(given.device)
            began = time.perf_counter()
        with torch.autocast(torch.device(given.device).type, dtype=torch.bfloat16, enabled=half):
            logits = run(images)  # (B, K)
        with quick_depthwise(torch.device(given.device), torch.bfloat16 if own else None):
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    stopwatch.settled(given.device)
    return steps / (time.perf_counter() - began)


def main() -> None:
    """Step in each format, one after the other."""
    parser = stopwatch.arguments("The no-data rate.", "train")
    parser.add_argument("--steps", type=int, default=12, help="of each format, after three that do not count")
    given = parser.parse_args()
    import torch

    from imgkit.freed_memory import keep_freed_memory

    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    names = [name for name, (_, _, compiled, _) in FORMATS.items() if given.compile or not compiled]
    rates = {name: given.batch_size * steps_per_second(given, name, given.steps) for name in names}
    best = max(rates, key=lambda name: rates[name])
    stopwatch.leave(given.out, rates[best], format=best, rates=rates)


if __name__ == "__main__":
    main()
