"""Images a second of loading alone: decoded each time, and prepared.

    python benchmarks/loading.py OUT.json [--images 600] [--workers 0 1 2] [--repeats 3]

JPEGs of 500 x 375 px (quality 90) are cut from scikit-learn's two photographs and loaded for one epoch, as training and
as evaluation see them, alternately; the median rate and its range are written. The network does not run.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from imgkit.data.augment import TrainTransform
from imgkit.data.batches import eval_batches, train_batches
from imgkit.data.index import Index, PathTable, hash_array
from imgkit.data.keep import keep_pictures
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import about
from imgkit.data.preprocessing import Preprocessing
from imgkit.recipe.augment import AugmentSettings

WIDTH, HEIGHT, BATCH = 500, 375, 32
RULE = Preprocessing((224, 224), 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3)
FRAMINGS = {
    "scale jitter 0.9 to 1.1": AugmentSettings(crop=None, scale_jitter=(0.9, 1.1)),
    "crops from 0.5": AugmentSettings(crop=(0.5, 1.0)),
    "crops from 0.08": AugmentSettings(crop=(0.08, 1.0)),
}


def write_jpegs(folder: Path, n: int) -> Index:
    """An index of n JPEGs: random parts of two photographs, no two with the same bytes."""
    scenes = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    random, names, digests, sizes = np.random.default_rng(0), [f"{i:06d}.jpg" for i in range(n)], [], []
    for number, name in enumerate(names):
        scene = scenes[number % 2]
        side = random.uniform(0.8, 1.0)
        width, height = round(side * WIDTH), round(side * HEIGHT)
        left, top = random.integers(0, scene.width - width + 1), random.integers(0, scene.height - height + 1)
        cut = scene.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        cut.save(folder / name, quality=90)
        content = (folder / name).read_bytes()
        digests.append(hashlib.sha256(content).hexdigest())
        sizes.append(len(content))
    zeros, offsets = np.zeros(n, dtype=np.int64), np.arange(n + 1, dtype=np.int64)
    paths, hashes = PathTable.of(names), hash_array(digests)
    return Index(
        folder, paths, ("a",), zeros, offsets, np.zeros(n, np.int8), None, np.array(sizes, dtype=np.int64), hashes
    )


def rate(index: Index, workers: int, transform: TrainTransform | None) -> float:
    """Images a second of one epoch; without a transform, of evaluation. Starting the processes counts."""
    rows, most = np.arange(len(index), dtype=np.int64), 64_000_000
    began = time.perf_counter()
    if transform is None:
        found = eval_batches(index, rows, preprocessing=RULE, batch_size=BATCH, workers=workers, max_pixels=most)
    else:
        steps = -(-len(rows) // BATCH)
        found = train_batches(
            index,
            rows,
            transform=transform,
            seed=0,
            first_epoch=0,
            batch_size=BATCH,
            steps_per_epoch=steps,
            start=0,
            stop=steps,
            workers=workers,
            max_pixels=most,
        )
    with closing(found):
        images = sum(len(batch.ids) for batch in found)
    return images / (time.perf_counter() - began)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["IMGKIT_CACHE"] = str(Path(temporary) / "cache")
        folder = Path(temporary) / "jpegs"
        folder.mkdir()
        index = write_jpegs(folder, given.images)
        rows = np.arange(given.images, dtype=np.int64)
        results = []
        for name, augment in FRAMINGS.items():
            need = TrainTransform(RULE, augment).min_side
            for side in (need, 320):
                shutil.rmtree(PictureStore(about(side)).folder, ignore_errors=True)
                began = time.perf_counter()
                keep_pictures(
                    index, rows, side, workers=max(given.workers), max_pixels=64_000_000, progress=lambda *_: None
                )
                made = given.images / (time.perf_counter() - began)
                disk = sum(file.stat().st_size for file in PictureStore(about(side)).folder.iterdir())
                for workers in given.workers:
                    rates = {"direct": [], "prepared": []}
                    for _ in range(given.repeats):
                        rates["direct"].append(rate(index, workers, TrainTransform(RULE, augment)))
                        rates["prepared"].append(rate(index, workers, TrainTransform(RULE, augment, prepared=side)))
                    results.append(row(f"{name}, side {side}", workers, rates, made, disk / given.images))
        for workers in given.workers:
            direct = [rate(index, workers, None) for _ in range(given.repeats)]
            results.append({"what": "evaluation", "workers": workers, "direct": direct})
        keep_pictures(index, rows, RULE, workers=0, max_pixels=64_000_000, progress=lambda *_: None)
        for result in results[-len(given.workers) :]:
            prepared = [rate(index, result["workers"], None) for _ in range(given.repeats)]
            result.update(row("evaluation", result["workers"], {"direct": result["direct"], "prepared": prepared}))
    given.out.write_text(json.dumps(results, indent=1))


def row(what: str, workers: int, rates: dict[str, list[float]], made: float = 0.0, size: float = 0.0) -> dict:
    """One line of the results, printed."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = [after / before for before, after in zip(rates["direct"], rates["prepared"], strict=True)]
    spans = {name: f"{min(found):.0f} to {max(found):.0f}" for name, found in rates.items()}
    told = ", ".join(f"{name} {medians[name]:.0f} ({spans[name]})" for name in rates)
    print(f"{what}, {workers} workers: {told}; ratio {statistics.median(ratios):.2f}", flush=True)
    return {"what": what, "workers": workers, **rates, "ratios": ratios, "made_per_s": made, "bytes_each": size}


if __name__ == "__main__":
    main()
