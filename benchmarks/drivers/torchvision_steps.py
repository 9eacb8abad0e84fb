"""The loop that people write themselves: torchvision's ImageFolder and transforms, a DataLoader, and timm's network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import stopwatch

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


def loader_of(given: stopwatch.argparse.Namespace) -> DataLoader:
    """Random resized crops and flips of the training pictures."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [transforms.RandomResizedCrop(given.size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return DataLoader(
        datasets.ImageFolder(given.data / "train", transforms.Compose([*steps, normalise])),
        batch_size=given.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
        pin_memory=torch.device(given.device).type == "cuda",
    )


def main() -> None:
    """Train all layers."""
    given = stopwatch.arguments("A plain loop.", "train").parse_args()
    import timm
    import torch

    loader, device = loader_of(given), torch.device(given.device)
    memory = torch.channels_last if given.channels_last else torch.contiguous_format
    model = timm.create_model(given.model, num_classes=given.classes).to(device, memory_format=memory).train()
    run = torch.compile(model) if given.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    seconds = []
    for _ in range(given.epochs):
        began = time.perf_counter()
        for images, targets in loader:
            sent = images.to(device, non_blocking=True, memory_format=memory)  # (B, 3, H, W)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=given.precision == "bfloat16"):
                loss = torch.nn.functional.cross_entropy(run(sent), targets.to(device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        stopwatch.settled(device)
        seconds.append(time.perf_counter() - began)
    images_each = [len(loader) * given.batch_size] * given.epochs
    stopwatch.leave(given.out, stopwatch.rate(images_each, seconds), epochs_s=seconds)


if __name__ == "__main__":
    main()
