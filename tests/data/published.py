"""Folders laid out as data sets were published, small: names and formats are the real ones, the images are empty."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat


def synsets(n: int) -> list[str]:
    """Names such as WordNet has, n of them, in the order of the alphabet."""
    return [f"n{1440764 + 13007 * number:08d}" for number in range(n)]


def touch(root: Path, *names: str) -> Path:
    """Empty files: the readers do not look inside."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(file: Path, *lines: str) -> Path:
    """A text file of lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def val_name(number: int) -> str:
    """The stem of a validation image of ImageNet, counted from 1."""
    return f"ILSVRC2012_val_{number:08d}"


def imagenet(root: Path, classes: int = 6, val: int = 9, *, base: str = ".", each: int = 2) -> dict[str, str]:
    """train/ and a flat val/; returns the synset of each validation image by stem. No list of them is written."""
    names = synsets(classes)
    touch(root / base, *(f"train/{name}/{name}_{number}.JPEG" for name in names for number in range(each)))
    truth = {val_name(number): names[(5 * number + 1) % classes] for number in range(1, val + 1)}
    touch(root / base, *(f"val/{stem}.JPEG" for stem in truth))
    return truth


def solution(root: Path, truth: Mapping[str, str]) -> None:
    """Kaggle's list, in an order of its own, some with several boxes."""
    rows = [f"{stem},{synset} 85 1 499 272 {synset} 3 4 5 6 " for stem, synset in reversed(truth.items())]
    write(root / "LOC_val_solution.csv", "ImageId,PredictionString", *rows)


def ids_of(names: list[str]) -> dict[str, int]:
    """Numbers that do not follow the alphabet, as ILSVRC2012_ID does not."""
    shuffled = np.random.default_rng(0).permutation(len(names)).tolist()
    return {name: shuffled[at] + 1 for at, name in enumerate(names)}


def ground_truth(place: Path, truth: Mapping[str, str], ids: Mapping[str, int]) -> None:
    """The challenge's list of numbers."""
    write(place / "ILSVRC2012_validation_ground_truth.txt", *(str(ids[truth[stem]]) for stem in sorted(truth)))


def meta(place: Path, ids: Mapping[str, int]) -> None:
    """The development kit's meta.mat: classes by number, then a synset above them."""
    kind = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")]
    by_id = sorted((number, name) for name, number in ids.items())
    rows = [(float(number), name, f"word {number}", "gloss", 0.0, 0.0) for number, name in by_id]
    rows.append((float(len(ids) + 1), "n00001740", "entity", "gloss", 2.0, np.array([1.0, 2.0])))
    place.mkdir(parents=True, exist_ok=True)
    savemat(place / "meta.mat", {"synsets": np.array([rows], dtype=kind).T})


def tiny_imagenet(root: Path, classes: int = 5, val: int = 7) -> dict[str, str]:
    """The whole archive; returns the synset of each validation image by file name."""
    names = synsets(classes)
    for name in names:
        touch(root, *(f"train/{name}/images/{name}_{number}.JPEG" for number in range(2)))
        boxes = [f"{name}_{number}.JPEG\t0\t10\t63\t58" for number in range(2)]
        write(root / "train" / name / f"{name}_boxes.txt", *boxes)
    truth = {f"val_{number}.JPEG": names[3 * number % classes] for number in range(val)}
    touch(root, *(f"val/images/{name}" for name in truth), "test/images/test_0.JPEG", "test/images/test_1.JPEG")
    write(root / "val" / "val_annotations.txt", *(f"{name}\t{synset}\t0\t32\t44\t62" for name, synset in truth.items()))
    write(root / "wnids.txt", *reversed(names))
    write(root / "words.txt", "n00001740\tentity", *(f"{name}\tword, other {name}" for name in names))
    return truth


def voc(root: Path, marks: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Path:
    """Lists of split -> image -> class -> 1, 0 or -1, and the images."""
    for split, images in marks.items():
        touch(root, *(f"JPEGImages/{name}.jpg" for name in images), *(f"Annotations/{name}.xml" for name in images))
        for label in sorted({label for by_class in images.values() for label in by_class}):
            lines = [f"{name} {by_class[label]:2d}" for name, by_class in images.items()]
            write(root / "ImageSets" / "Main" / f"{label}_{split}.txt", *lines)
        write(root / "ImageSets" / "Main" / f"{split}.txt", *images)
    return root


def label_lists(root: Path, images: int, holders: Mapping[str, Sequence[int]]) -> Path:
    """Images im1, im2, … and for each label the list of the numbers that have it."""
    touch(root, *(f"images/im{number}.jpg" for number in range(1, images + 1)))
    for label, numbers in holders.items():
        write(root / "annotations" / f"{label}.txt", *map(str, numbers))
    return root
