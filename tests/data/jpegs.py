"""JPEGs of several sizes, as an index."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from imgkit.data.index import Index, PathTable, hash_array

SIZES = ((60, 45), (45, 60), (30, 24), (90, 40), (200, 150))


def scene(width: int, height: int, seed: int) -> Image.Image:
    """A picture with a natural spectrum: amplitudes that fall with the frequency."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    channels = []
    for _ in range(3):
        waves = np.fft.rfft2(random.normal(size=(height, width))) / frequency
        waves[0, 0] = 0
        plane = np.fft.irfft2(waves, (height, width))
        channels.append(np.clip(128 + 50 * plane / max(plane.std(), 1e-9), 0, 255))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def write_jpegs(folder: Path, n: int, sizes: Sequence[tuple[int, int]] = SIZES) -> Index:
    """An index of n pictures of two classes, all of them for training."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.jpg" for number in range(n)]
    for number, name in enumerate(names):
        scene(*sizes[number % len(sizes)], seed=number).save(folder / name, quality=95)
    contents = [(folder / name).read_bytes() for name in names]
    return Index(
        root=folder,
        paths=PathTable.of(names),
        classes=("a", "b"),
        codes=np.arange(n, dtype=np.int64) % 2,
        offsets=np.arange(n + 1, dtype=np.int64),
        splits=np.zeros(n, dtype=np.int8),
        groups=None,
        sizes=np.array([len(content) for content in contents], dtype=np.int64),
        hashes=hash_array(hashlib.sha256(content).hexdigest() for content in contents),
    )
