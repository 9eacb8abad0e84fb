"""JPEGs of a realistic size for benchmarks/speed.py: 500 x 375 px, quality 95, some 80 kB each.

Random parts of scikit-learn's two photographs (a temple, a flower), enlarged a little: they cost a decoder what
photographs cost it, no two have the same bytes, and nothing has to be fetched. What they show matters to no clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT, QUALITY = 500, 375, 95
CLASSES = 10
VAL = 40  # pictures of validation: few, since only training is timed


def write_jpegs(folder: Path, train: int, val: int = VAL) -> Path:
    """`folder` with train/CLASS/ and val/CLASS/, CLASSES of each; one that is whole already is left as it is."""
    mark, told = folder.with_name(f"{folder.name}.whole"), f"{train} {val} {QUALITY}"
    if mark.exists() and mark.read_text() == told:
        return folder
    scenes = photographs()
    for split, count, seed in (("train", train, 0), ("val", val, 1)):
        write_split(folder / split, count, scenes, seed)
    mark.write_text(told)
    return folder


def write_split(folder: Path, count: int, scenes: list[Image.Image], seed: int) -> None:
    """`count` pictures in class folders, by turns."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    for number in range(count):
        scene, side = scenes[number % len(scenes)], random.uniform(0.8, 1.0)
        width, height = round(side * WIDTH), round(side * HEIGHT)
        left, top = random.integers(0, scene.width - width + 1), random.integers(0, scene.height - height + 1)
        part = scene.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        file = folder / f"class{number * CLASSES // count}" / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        part.save(file, quality=QUALITY)


def photographs() -> list[Image.Image]:
    """640 x 427 px each."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def about(folder: Path) -> dict[str, int | str]:
    """How many pictures there are, and how large."""
    sizes = [file.stat().st_size for file in folder.rglob("*.jpg")]
    return {"pictures": len(sizes), "pixels": f"{WIDTH} x {HEIGHT}", "mean_kb": round(sum(sizes) / len(sizes) / 1000)}
