"""Pascal VOC (Everingham et al. 2010) and what is laid out like it: a list of images for each class and split.

    JPEGImages/2008_000008.jpg
    ImageSets/Main/horse_train.txt                lines of an image's name and 1, -1 or 0

1: an object of the class is in the image; -1: none is; 0: one is, but it is hard to see ("difficult"). An image has
all the labels that its lines do not deny, perhaps none.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from imgkit.data.columns import Rows
from imgkit.data.csv_text import read_text
from imgkit.data.entries import entries
from imgkit.data.folders import add_tree_notes, walk
from imgkit.data.rows import Row, Source, count, is_folder
from imgkit.errors import DataError, printable

_LISTS = "ImageSets/Main"
_IMAGES = "JPEGImages/"
_FILE = re.compile(r"(?P<label>.+)_(?P<split>train|val|trainval|test)\.txt")

Marks = dict[str, int]
"""Name of an image -> 1, 0 or -1."""


def is_here(root: Path) -> bool:
    """Whether there are images and at least one list for a class."""
    lists = root / _LISTS
    there = is_folder(root / _IMAGES) and is_folder(lists)
    return there and any(_FILE.fullmatch(entry.name) for entry in entries(lists))


def read(root: Path, shown: str) -> Source:
    """Read the labels of each image from the lists of each split; trainval only where train and val are not there.

    Raises:
        DataError: if a list is not of its form, lists of one split do not name the same images, an image is in two
            splits, or a class has no list for a split.
    """
    tree = walk(root)
    lists = _lists(root / _LISTS)
    tree.other[:] = [name for name in tree.other if not name.startswith(("ImageSets/", "Annotations/"))]
    source = Source(root, shown, Rows(), task="multilabel")
    add_tree_notes(tree, source)
    files: dict[str, str] = {}
    for image in tree.images:
        if image.startswith(_IMAGES) and image.count("/") == 1:
            other = files.setdefault(PurePosixPath(image).stem, image)
            if other != image:
                raise DataError(
                    f"{printable(other)} and {printable(image)} have one name in {_LISTS}/.", "Remove one of them."
                )
    seen: dict[str, str] = {}
    hard = missing = 0
    for split, by_class in lists.items():
        names = _names(by_class, split)
        for name in names:
            if name in seen:
                raise DataError(
                    f"{printable(name)} is in two splits, {seen[name]} and {split}.", "Take it out of one of them."
                )
            seen[name] = split
            if name not in files:
                missing += 1
                continue
            hard += sum(marks[name] == 0 for marks in by_class.values())
            labels = tuple(sorted(label for label, marks in by_class.items() if marks[name] >= 0))
            source.rows.append(Row(files[name], labels, None if split == "trainval" else split, None))
    if not source.rows:
        raise DataError(
            f"No image that {_LISTS}/ of {shown} names is in {_IMAGES}.", f"The names are those of {_IMAGES}NAME.jpg."
        )
    _say(source, hard=hard, missing=missing, unlisted=len(files.keys() - seen.keys()), images=len(tree.images))
    return source


def _say(source: Source, *, hard: int, missing: int, unlisted: int, images: int) -> None:
    if hard:
        source.notes.append(f"{count(hard, 'label is', 'labels are')} marked 0, difficult, and taken as there.")
    if missing:
        source.warnings.append(f"{count(missing, 'image')} named in {_LISTS}/ not in {_IMAGES}.")
    if unlisted:
        source.notes.append(f"{count(unlisted, 'image')} of {_IMAGES} in no list, left out.")
    others = images - len(source.rows) - unlisted
    if others:
        source.notes.append(f"{count(others, 'image')} outside {_IMAGES} left out.")


def _lists(folder: Path) -> dict[str, dict[str, Marks]]:
    """Split -> class -> marks; without trainval where its parts are there."""
    found: dict[str, dict[str, Marks]] = {}
    for file in sorted(folder.iterdir()):
        match = _FILE.fullmatch(file.name)
        if match:
            found.setdefault(match["split"], {})[match["label"]] = {}
    if "train" in found and "val" in found:
        found.pop("trainval", None)
    classes = sorted({label for by_class in found.values() for label in by_class})
    for split, by_class in found.items():
        for label in classes:
            if label not in by_class:
                raise DataError(
                    f"{_LISTS}/{printable(label)}_{split}.txt is missing; other classes have a list for {split}.",
                    "Every class has a list for every split.",
                )
            by_class[label] = _marks(folder / f"{label}_{split}.txt")
    return found


def _marks(file: Path) -> Marks:
    shown = f"{_LISTS}/{printable(file.name)}"
    found: Marks = {}
    for number, line in enumerate(read_text(file, shown).splitlines(), 1):
        if not line.strip():
            continue
        cells = line.split()
        if len(cells) != 2 or cells[1] not in {"1", "-1", "0"}:
            raise DataError(
                f"{shown}: line {number:,} is {printable(line)!r}.", "A line holds the name of an image and 1, -1 or 0."
            )
        if cells[0] in found:
            raise DataError(f"{shown} names {printable(cells[0])} twice (line {number:,}).", "Keep one of the lines.")
        found[cells[0]] = int(cells[1])
    return found


def _names(by_class: Mapping[str, Marks], split: str) -> list[str]:
    """The images of a split, which all its lists name."""
    (first, marks), *others = by_class.items()
    for label, other in others:
        odd = sorted(marks.keys() ^ other.keys())
        if odd:
            has, lacks = (first, label) if odd[0] in marks else (label, first)
            raise DataError(
                f"{printable(odd[0])} is in {_LISTS}/{printable(has)}_{split}.txt, but not in "
                f"{printable(lacks)}_{split}.txt.",
                "The lists of a split name the same images, each with 1, -1 or 0.",
            )
    return sorted(marks)
