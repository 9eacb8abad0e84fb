"""`imgkit data check`: images a second, and what it finds of planted duplicates.

    python benchmarks/check.py --json benchmarks/check.json              # all three parts
    python benchmarks/check.py --json benchmarks/check.json --table      # the tables of docs/data-check.md alone
    python benchmarks/check.py --parts speed --images 10000

speed    JPEGs of 320 x 240 px (parts of scikit-learn's photographs, quality 90) in ten classes are checked with an
         empty cache and again; each time in a new process, whose imports do not count. Wall and processor seconds.
exact    2,000 photographs in train and val; copies of the same bytes and of the same pixels (JPEG saved as PNG, PNG as
         BMP) across splits: how many are found, how many are named that are none, in which time.
near     1,000 pictures of each set of benchmarks/datasets.py with a variant each: recall by kind of variant, and pairs
         of different pictures among all pictures of the set that are taken for one ("false": those of one content are
         not counted, and nobody looked whether the others show one thing).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DEFAULT_OUT
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image
from tables import ROOT, table, write

from imgkit.data.near import ALIKE, CUT, DISTANCE, near_pairs

PAGE = ROOT / "docs" / "data-check.md"
PARTS = ("speed", "exact", "near")
SETS = ("fashion", "solar", "digits")
REPEATS = 3  # of the part speed
VARIANTS = 1000  # pictures of a set that get a variant
COSINES = (0.98, 0.985, 0.99, 0.992, 0.995)

MEASURE = """
import json, resource, sys, time
from imgkit.check.whole import check
from imgkit.recipe.schema import DataSettings
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
before, began = cpu(), time.perf_counter()
checked = check(DataSettings(path=sys.argv[1]))
wall_s, cpu_s = time.perf_counter() - began, cpu() - before
rows = [(s.kind, one.path, one.other) for s in checked.sections for one in s.findings]
print(json.dumps({"images": len(checked.found.index), "wall_s": wall_s, "cpu_s": cpu_s, "findings": rows}))
"""


def checked(folder: Path, cache: Path) -> dict[str, Any]:
    """One check in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "IMGKIT_CACHE": str(cache)},
    )
    return json.loads(done.stdout)


def speed(work: Path, images: int) -> dict[str, Any]:
    """Seconds of first and second checks, several times."""
    folder = work / "speed"
    for number, picture in enumerate(photographs(images, (320, 240))):
        place = folder / f"class{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number:06d}.jpg", quality=90)
    found: dict[str, list[dict[str, Any]]] = {"first": [], "again": []}
    for _ in range(REPEATS):
        shutil.rmtree(work / "cache-speed", ignore_errors=True)
        for name, done in found.items():
            one = checked(folder, work / "cache-speed")
            done.append({**one, "findings": len(one["findings"])})
            print(f"speed, {name}: {done[-1]}", flush=True)
    return found


def exact(work: Path, files: int = 2000, planted: int = 100) -> dict[str, Any]:
    """What is found of copies across splits, and what else is named."""
    folder = work / "exact"
    wanted = set()
    random = np.random.default_rng(1)
    for split in ("train", "val"):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
    for number, picture in enumerate(photographs(files - 2 * planted, (320, 240))):
        label, split = "ab"[number % 2], "val" if number % 5 == 4 else "train"
        file = folder / split / label / f"{number:05d}.{'png' if number % 3 else 'jpg'}"
        picture.save(file, **({} if number % 3 else {"quality": 90}))
    sources = sorted((folder / "train").rglob("*.*"))
    for number, row in enumerate(random.choice(len(sources), 2 * planted, replace=False).tolist()):
        source = sources[row]
        copy = folder / "val" / source.parent.name / f"copy{number:04d}{source.suffix}"
        if number < planted:
            copy.write_bytes(source.read_bytes())
        else:
            copy = copy.with_suffix(".bmp" if source.suffix == ".png" else ".png")
            Image.open(source).save(copy)
        wanted.add((source.relative_to(folder).as_posix(), copy.relative_to(folder).as_posix()))
    found = checked(folder, work / "cache-exact")
    named = {(path, other) for kind, path, other in found.pop("findings") if kind in {"leak", "copy", "two-labels"}}
    result = {**found, "planted": len(wanted), "found": len(wanted & named), "false": len(named - wanted)}
    print(f"exact: {result}", flush=True)
    return result


def near(task: str) -> dict[str, Any]:
    """Recall by kind of variant, and pairs of different pictures, at several cosines."""
    files = sorted((DEFAULT_OUT / task).glob("*.png"))
    pictures = [Image.open(file).convert("RGB") for file in files]
    own = np.stack([thumb(picture) for picture in pictures])
    same = {picture.tobytes() for picture in pictures}
    chosen = np.random.default_rng(0).choice(len(files), min(VARIANTS, len(files)), replace=False)
    results: dict[str, Any] = {
        "pictures": len(files),
        "pairs": len(files) * (len(files) - 1) // 2,
        "contents": len(same),
    }
    for cosine in COSINES:
        pairs = near_pairs(own, alike=cosine)
        false = sum(
            pictures[one].tobytes() != pictures[two].tobytes()
            for one, two in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        )
        recall = {}
        for kind, change in KINDS.items():
            variants = np.stack([thumb(change(pictures[row])) for row in chosen.tolist()])
            found = near_pairs(np.concatenate([own, variants]), alike=cosine)
            ends = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
            hits = sum((row, len(own) + number) in ends for number, row in enumerate(chosen.tolist()))
            recall[kind] = hits / len(chosen)
        results[f"{cosine:g}"] = {"false": false, "recall": recall}
        told = ", ".join(f"{kind} {share:.3f}" for kind, share in recall.items())
        print(f"near, {task}, {cosine:g}: {false} false pairs of {results['pairs']:,}; recall {told}", flush=True)
    return results


def thumb(picture: Image.Image) -> np.ndarray:
    """As `imgkit.data.look` makes it."""
    return np.asarray(picture.convert("L").resize((16, 16), Image.Resampling.BILINEAR))


def recoded(picture: Image.Image) -> Image.Image:
    """Through a JPEG of quality 75."""
    content = BytesIO()
    picture.save(content, "JPEG", quality=75)
    return Image.open(content).convert("RGB")


def cropped(picture: Image.Image) -> Image.Image:
    """Without 2 % of each side at both ends, as large as before: a small picture has no such whole pixels."""
    width, height = picture.size
    box = (CUT * width, CUT * height, (1 - CUT) * width, (1 - CUT) * height)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def resized(picture: Image.Image) -> Image.Image:
    """To 70 % of its sides."""
    return picture.resize((round(0.7 * picture.width), round(0.7 * picture.height)), Image.Resampling.BICUBIC)


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda picture: picture,
    "JPEG 75": recoded,
    "resized to 70 %": resized,
    "darker by 20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "brighter by 20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "cropped by 2 %": cropped,
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def photographs(n: int, size: tuple[int, int]) -> list[Image.Image]:
    """Random parts of two photographs, of many scales: no two show the same."""
    scenes = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    random, found = np.random.default_rng(0), []
    for number in range(n):
        scene = scenes[number % 2]
        width = int(random.integers(120, 400))
        height = round(width * size[1] / size[0])
        left, top = random.integers(0, scene.width - width), random.integers(0, scene.height - height)
        found.append(scene.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BILINEAR))
    return found


TITLES = {"fashion": "Fashion-MNIST, 28 px", "solar": "solar cells, 300 px", "digits": "digits, 32 px"}


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    kinds = [kind for kind in KINDS if kind != "exact"]
    rows = []
    for task, one in found["near"].items():
        at = one[f"{found['alike']:g}"]
        shares = [f"{100 * at['recall'][kind]:.1f} %" for kind in kinds]
        rows.append([TITLES[task], f"{one['pairs']:,}", str(at["false"]), *shares])
    near_table = table(["set", "pairs in all", "taken for one", *kinds], rows)
    return {"check.json, near": near_table, "check.json, speed": _speed_table(found)}


def _speed_table(found: dict[str, Any]) -> str:
    exact_, rows = found["exact"], []
    seconds = f"{exact_['wall_s']:.1f} s"
    copies = f"{exact_['found']} of {exact_['planted']} copies, {exact_['false']} false"
    rows.append([f"{exact_['images']:,} photographs, first time", seconds, f"{copies}", "at most 5 s"])
    for name, bar in (("first", 1_000), ("again", 20_000)):
        times = [one["wall_s"] for one in found["speed"][name]]
        images = found["speed"][name][0]["images"]
        rate = f"{images / statistics.median(times):,.0f} images/s"
        span = f"{min(times):.2f} to {max(times):.2f} s" if len(times) > 1 else f"{times[0]:.2f} s"
        when = "first time" if name == "first" else "again, in another process"
        rows.append([f"{images:,} JPEGs of 320 x 240 px, {when}", span, rate, f"at least {bar:,}"])
    return table(["check of", "wall time", "what came", "bar"], rows)


def main() -> None:
    """Measure, print, and write the JSON where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=10_000, help="of the part speed")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--table", action="store_true", help="write the tables of the page from the JSON, and stop")
    given = parser.parse_args()
    if given.table:
        write(PAGE, tables(json.loads(given.json.read_text())))
        return
    results: dict[str, Any] = {"distance": DISTANCE, "alike": ALIKE, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if "exact" in given.parts:
            results["exact"] = exact(work)
        if "near" in given.parts:
            results["near"] = {task: near(task) for task in SETS}
        if "speed" in given.parts:
            results["speed"] = speed(work, given.images)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
