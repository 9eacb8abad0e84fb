"""A few pictures, and the batches of them: by imgkit, and by a loop that does no more than the definition says."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, train_batches
from imgkit.data.decode import load_image
from imgkit.data.index import Index, PathTable
from imgkit.data.preprocessing import Preprocessing
from imgkit.keys import key, order
from imgkit.recipe.augment import AugmentSettings

Ints = npt.NDArray[np.int64]
RULE = Preprocessing((8, 8), 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TRANSFORM = TrainTransform(RULE, AugmentSettings(vflip=0.5, jitter=(0.4, 0.4, 0.4, 0.1)))
N, SEED = 13, 7
ROWS = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12])  # 3 and 10 are held out; 12 has no label


def write_pictures(root: Path) -> Index:
    """13 small pictures of noise in three classes, the last one without a label."""
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(N)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(root / name)
    counts = np.array([1] * (N - 1) + [0])
    return Index(
        root=root,
        paths=PathTable.of(names),
        classes=("a", "b", "c"),
        codes=np.arange(N - 1) % 3,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        splits=np.zeros(N, dtype=np.int8),
        groups=None,
        sizes=np.ones(N, dtype=np.int64),
        hashes=np.zeros((N, 32), dtype=np.uint8),
    )


def training(
    index: Index,
    workers: int = 0,
    start: int = 0,
    stop: int = 8,
    batch_size: int = 4,
    rows: Ints = ROWS,
    *,
    in_turn: bool = False,
) -> Generator[Batch, None, None]:
    """Batches by imgkit."""
    return train_batches(
        index,
        rows,
        transform=TRANSFORM,
        seed=SEED,
        first_epoch=2,
        batch_size=batch_size,
        steps_per_epoch=-(-len(rows) // batch_size),
        start=start,
        stop=stop,
        workers=workers,
        max_pixels=10_000,
        in_turn=in_turn,
    )


def naive(index: Index, step: int, batch_size: int = 4, rows: Ints = ROWS) -> Batch:
    """The batch of a step as the documentation defines it."""
    steps_per_epoch = -(-len(rows) // batch_size)
    epoch = 2 + step // steps_per_epoch
    shuffled = [int(rows[i]) for i in order(SEED, epoch, len(rows))]
    first = (step % steps_per_epoch) * batch_size
    ids = shuffled[first : first + batch_size]
    images = [TRANSFORM(load_image(index.path(row)), key(SEED, "aug", epoch, row)) for row in ids]
    targets = [-1 if row == 12 else row % 3 for row in ids]
    return Batch(torch.stack(images), torch.tensor(targets), torch.tensor(ids))


def same(a: Batch, b: Batch) -> bool:
    """Whether two are equal bit for bit."""
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))
