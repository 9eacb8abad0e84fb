"""A small multi-label data set: pictures with coloured patches, many of them with none."""

from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("blue", "green", "red")
SIDE_PX = 32


def write_patches(folder: Path, n: int = 120, seed: int = 0) -> Path:
    """Pictures of `n` noises with a patch for each of their labels, about half of them without any, and their CSV.

    Label sets are cells joined by ";"; splits are in the column `split`: three of five rows train, one val, one test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = ["path,labels,split"]
    for number in range(n):
        held = rng.random(3) < (0.0 if rng.random() < 0.4 else 0.4)
        pixels = rng.integers(90, 130, (SIDE_PX, SIDE_PX, 3))
        for k in np.flatnonzero(held):  # blue, green, red: channels 2, 1, 0
            row, column = rng.integers(0, SIDE_PX - 12, 2)
            pixels[row : row + 12, column : column + 12, 2 - k] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03d}.png")
        names = ";".join(np.array(LABELS)[held])
        lines.append(f"{number:03d}.png,{names},{('train', 'train', 'train', 'val', 'test')[number % 5]}")
    (folder / "patches.csv").write_text("\n".join(lines) + "\n")
    return folder / "patches.csv"
