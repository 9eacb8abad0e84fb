"""A list of images for each label, as in MIRFlickr-25000 (Huiskes and Lew 2008) and courses that use it.

    images/im17.jpg
    annotations/baby.txt                          a line for each image that has the label: 17, im17 or im17.jpg

An image in no list has no label. A number means the image whose name ends in it.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from imgkit.data.columns import Rows
from imgkit.data.csv_text import read_text
from imgkit.data.entries import entries, leads_inside
from imgkit.data.folders import add_tree_notes, walk
from imgkit.data.rows import EXTENSIONS, Row, Source, count, is_folder, listed
from imgkit.errors import DataError, printable

_LISTS, _IMAGES = "annotations", "images"
_NUMBER = re.compile(r"[0-9]+$", re.ASCII)


def is_here(root: Path) -> bool:
    """Whether images/ holds images directly, and annotations/ nothing but text files."""
    if not (is_folder(root / _LISTS) and is_folder(root / _IMAGES)):
        return False
    lists = [entry for entry in entries(root / _LISTS) if not entry.name.startswith(".")]
    if not lists or any(leads_inside(entry) or not entry.name.endswith(".txt") for entry in lists):
        return False
    return any(entry.name.lower().endswith(EXTENSIONS) for entry in entries(root / _IMAGES))


def read(root: Path, shown: str) -> Source:
    """Read each list; every image of images/ is a row, with the labels of the lists that name it.

    Raises:
        DataError: if two images answer to one name or number that a list has, a list names an image twice, or none of
            the lists names an image that is there.
    """
    tree = walk(root)
    lists = sorted(name for name in tree.other if name.startswith(f"{_LISTS}/"))
    tree.other[:] = [name for name in tree.other if name not in lists]
    source = Source(root, shown, Rows(), task="multilabel")
    add_tree_notes(tree, source)
    images = [image for image in tree.images if image.startswith(f"{_IMAGES}/")]
    names = _names(images)
    labels: dict[str, list[str]] = {image: [] for image in images}
    missing: set[str] = set()
    for name in lists:
        label = PurePosixPath(name).stem
        for number, line in _lines(root / name, name):
            found = names.get(line, [])
            if len(found) > 1:
                raise DataError(
                    f"{printable(name)}: line {number:,} is {printable(line)!r}, which is the name of "
                    f"{count(len(found), 'image')}: {listed(found)}.",
                    "Write the whole name of the image.",
                )
            if not found:
                missing.add(line)
            elif label in labels[found[0]]:
                raise DataError(
                    f"{printable(name)} names {found[0]} twice (line {number:,}).", "Keep one of the lines."
                )
            else:
                labels[found[0]].append(label)
    if not any(labels.values()):
        raise DataError(
            f"None of the lists in {_LISTS}/ of {shown} names an image of {_IMAGES}/.",
            f"A line is the name of an image, such as {printable(PurePosixPath(images[0]).name)}, or the number in it.",
        )
    source.rows.extend(Row(image, tuple(sorted(held)), None, None) for image, held in labels.items())
    none, others = sum(not held for held in labels.values()), len(tree.images) - len(images)
    _say(source, lists, missing, none=none, others=others)
    return source


def _lines(file: Path, name: str) -> Iterable[tuple[int, str]]:
    """The lines of a list that are not empty, each with its number."""
    numbered = enumerate(read_text(file, printable(name)).splitlines(), 1)
    return ((number, text) for number, line in numbered if (text := line.strip()))


def _names(images: Iterable[str]) -> dict[str, list[str]]:
    """What a line may call an image: its file name, that without extension, and the number at the end of this."""
    found: dict[str, list[str]] = {}
    for image in images:
        path = PurePosixPath(image)
        number = _NUMBER.search(path.stem)
        for name in {path.name, path.stem, *((number[0], str(int(number[0]))) if number else ())}:
            found.setdefault(name, []).append(image)
    return found


def _say(source: Source, lists: Iterable[str], missing: Iterable[str], *, none: int, others: int) -> None:
    if none:
        source.notes.append(f"{count(none, 'image is', 'images are')} in no list and so without a label.")
    held = source.rows.held()
    empty = sorted({PurePosixPath(name).stem for name in lists} - held)
    if empty:
        source.warnings.append(f"{count(len(empty), 'label')} without an image: {listed(empty)}.")
    gone = sorted(missing)
    if gone:
        source.warnings.append(f"{count(len(gone), 'image')} named in {_LISTS}/ not in {_IMAGES}/: {listed(gone)}.")
    if others:
        source.notes.append(f"{count(others, 'image')} outside {_IMAGES}/ left out.")
