"""Benchmark data: four labelled image sets and five splits of each, outside the repository.

    python benchmarks/datasets.py                  # writes pictures and TASK-K.csv to ~/.cache/imgkit-bench
    python benchmarks/datasets.py --make-splits    # maintainers only: draws benchmarks/splits/*.csv anew

| task    | classes | images | what                                                                           |
|---------|---------|--------|--------------------------------------------------------------------------------|
| solar2  |       2 |  2,624 | PyPI elpv-dataset, 300 px grey solar cells; defective if probability > 0.5      |
| solar8  |       8 |  2,624 | the same pictures; cell type (2) x defect probability 0, 1/3, 2/3, 1            |
| digits  |      10 |  1,797 | scikit-learn load_digits, 0-16 scaled to 0-255, 8 px enlarged to 32 (bilinear)  |
| fashion |      10 |  8,000 | Fashion-MNIST, 28 px; a stratified draw from 70,000 (dataset-fashion-mnist)     |

Each TASK-K.csv (K = 0..4) has the columns path, label, split; paths are relative to the folder of the CSV. Test is
20 % of the images, validation 20 % of the rest, both stratified by label; solar2 shares the splits of solar8. The
splits come from the committed benchmarks/splits/*.csv, which hold names and letters alone: no labels and no pictures,
since the solar cells' licence (CC BY-NC-SA 4.0) does not go with this repository's.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS_DIR = Path(__file__).resolve().parent / "splits"
DEFAULT_OUT = Path.home() / ".cache" / "imgkit-bench"
FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")
TASKS = {"solar2": "solar", "solar8": "solar", "digits": "digits", "fashion": "fashion"}  # task -> picture set
SPLIT_COUNT = 5
TEST_SHARE = 0.2
VAL_SHARE = 0.2  # of what the test leaves
SPLIT_OF_LETTER = {"t": "train", "v": "val", "e": "test"}

FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
FASHION_POOL = 8000  # of 70,000, so that 2,000 are tested
FASHION_SEED = 20_170_825
DIGITS_SIDE_PX = 32
SOLAR_GRADES = {0: "sound", 1: "doubtful", 2: "suspect", 3: "broken"}  # thirds of the defect probability


def solar_root() -> Path:
    """Folder of the elpv-dataset package, found without importing it."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise SystemExit("The solar tasks need the package elpv-dataset: pip install elpv-dataset")
    return Path(spec.origin).parent / "data"


def solar_labels(task: str) -> dict[str, str]:
    """Image stem -> class name, for solar2 or solar8."""
    labels: dict[str, str] = {}
    for line in (solar_root() / "labels.csv").read_text().splitlines():
        path, probability, cell_type = line.split()
        thirds = round(float(probability) * 3)
        two = "defective" if float(probability) > 0.5 else "functional"
        labels[Path(path).stem] = two if task == "solar2" else f"{cell_type}-{SOLAR_GRADES[thirds]}"
    return labels


def digit_images() -> tuple[NDArray[np.uint8], list[str]]:
    """Pictures (1797, 8, 8) in 0..255, and their class names."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return pixels, [str(target) for target in bunch.target]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format: two zero bytes, type 8, rank, big-endian int32 lengths, then the data."""
    import numpy as np

    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fashion_images() -> tuple[NDArray[np.uint8], list[str]]:
    """Pictures (70000, 28, 28), train before test, and their class names."""
    import numpy as np

    if not FASHION_DIR.is_dir():
        raise SystemExit(f"The task fashion needs {FASHION_DIR}: apt-get install dataset-fashion-mnist")
    images = [read_idx(FASHION_DIR / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [read_idx(FASHION_DIR / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    return np.concatenate(images), [FASHION_CLASSES[code] for code in np.concatenate(labels)]


def labels_of(task: str) -> dict[str, str]:
    """Image stem -> class name of every picture the task could use."""
    if TASKS[task] == "solar":
        return solar_labels(task)
    _, labels = digit_images() if task == "digits" else fashion_images()
    width = 4 if task == "digits" else 5
    return {f"{index:0{width}d}": label for index, label in enumerate(labels)}


# --- the committed splits ------------------------------------------------------------------------------------------


def draw_split(names: list[str], strata: list[str], seed: int) -> dict[str, str]:
    """Image stem -> letter, stratified."""
    from sklearn.model_selection import train_test_split

    rest, test, rest_strata, _ = train_test_split(
        names, strata, test_size=TEST_SHARE, random_state=seed, stratify=strata
    )
    _, val = train_test_split(rest, test_size=VAL_SHARE, random_state=seed, stratify=rest_strata)
    letters = dict.fromkeys(names, "t") | dict.fromkeys(val, "v")
    return letters | dict.fromkeys(test, "e")


def fashion_pool(labels: dict[str, str]) -> dict[str, str]:
    """The stratified draw of FASHION_POOL pictures that the splits are made from."""
    from sklearn.model_selection import train_test_split

    names, strata = list(labels), list(labels.values())
    pool, _ = train_test_split(names, train_size=FASHION_POOL, random_state=FASHION_SEED, stratify=strata)
    return {name: labels[name] for name in sorted(pool)}


def make_splits() -> None:
    """Write benchmarks/splits/*.csv: one row a picture, one letter a split (t train, v val, e test)."""
    SPLITS_DIR.mkdir(parents=True, exist_ok=True)
    for pictures, task in (("solar", "solar8"), ("digits", "digits"), ("fashion", "fashion")):
        labels = labels_of(task)
        if task == "fashion":
            labels = fashion_pool(labels)
        names, strata = list(labels), list(labels.values())
        columns = [draw_split(names, strata, seed=k) for k in range(SPLIT_COUNT)]
        rows = [f"{name},{''.join(column[name] for column in columns)}" for name in names]
        (SPLITS_DIR / f"{pictures}.csv").write_text("\n".join(["name,splits", *rows]) + "\n")


def read_splits(pictures: str) -> dict[str, str]:
    """Image stem -> one letter for each of the five splits, such as "ttvte"."""
    with (SPLITS_DIR / f"{pictures}.csv").open(newline="") as file:
        return {row["name"]: row["splits"] for row in csv.DictReader(file)}


# --- the pictures and the tables -----------------------------------------------------------------------------------


def write_pictures(pictures: str, names: list[str], folder: Path) -> None:
    """Write one PNG a name into the folder; a full folder is left alone."""
    if folder.is_dir() and len(list(folder.glob("*.png"))) == len(names):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if pictures == "solar":
        for name in names:
            shutil.copyfile(solar_root() / "images" / f"{name}.png", folder / f"{name}.png")
        return
    from PIL import Image

    pixels, _ = digit_images() if pictures == "digits" else fashion_images()
    for name in names:
        image = Image.fromarray(pixels[int(name)])
        if pictures == "digits":
            image = image.resize((DIGITS_SIDE_PX, DIGITS_SIDE_PX), Image.Resampling.BILINEAR)
        image.save(folder / f"{name}.png")


def table_rows(task: str, split_index: int) -> Iterator[tuple[str, str, str]]:
    """Path, label and split of every picture of the task."""
    labels = labels_of(task)
    for name, letters in read_splits(TASKS[task]).items():
        yield f"{TASKS[task]}/{name}.png", labels[name], SPLIT_OF_LETTER[letters[split_index]]


def prepare(task: str, out: Path) -> None:
    """Write the pictures and the five tables of one task."""
    write_pictures(TASKS[task], list(read_splits(TASKS[task])), out / TASKS[task])
    for split_index in range(SPLIT_COUNT):
        with (out / f"{task}-{split_index}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "label", "split"))
            writer.writerows(table_rows(task, split_index))


def main() -> None:
    """Read the command line and prepare what it asks for."""
    parser = argparse.ArgumentParser(description="Prepare the benchmark data outside the repository.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--make-splits", action="store_true", help="draw benchmarks/splits/*.csv anew and stop")
    args = parser.parse_args()
    if args.make_splits:
        make_splits()
        return
    for task in args.tasks:
        prepare(task, args.out)
        print(f"{task}: {SPLIT_COUNT} tables in {args.out}")


if __name__ == "__main__":
    main()
