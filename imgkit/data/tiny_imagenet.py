"""Tiny ImageNet (Stanford CS231n), as its archive lays it out.

Files and folders::

    train/n01443537/images/n01443537_0.JPEG, train/n01443537/n01443537_boxes.txt
    val/images/val_0.JPEG, val/val_annotations.txt
    test/images/test_0.JPEG                       without labels: left out
    wnids.txt, words.txt
"""

import re
from pathlib import Path

from imgkit.data.columns import Rows
from imgkit.data.csv_text import read_text
from imgkit.data.folders import add_rows, add_tree_notes, walk
from imgkit.data.imagenet import SYNSET, add_names
from imgkit.data.index import SPLITS
from imgkit.data.rows import Row, Source, count, is_file, listed
from imgkit.errors import DataError, printable

ANNOTATIONS = "val/val_annotations.txt"
_BOXES = re.compile(r"train/(n[0-9]{8})/\1_boxes\.txt")


def is_here(root: Path) -> bool:
    """Whether there is the list of validation labels."""
    return is_file(root / ANNOTATIONS)


def read(root: Path, shown: str) -> Source:
    """Read train/ by its folders and val/images/ by val_annotations.txt.

    Raises:
        DataError: if the list is not of its form, or lacks an image; or if train/ has a class that wnids.txt lacks.
    """
    tree = walk(root)
    source = Source(root, shown, Rows())
    truth = _annotations(root)
    known = ("wnids.txt", "words.txt", ANNOTATIONS)
    tree.other[:] = [name for name in tree.other if name not in known and _BOXES.fullmatch(name) is None]
    add_tree_notes(tree, source)
    add_rows(tree, source, "train", folder="train")
    val = {image.removeprefix("val/images/"): image for image in tree.images if image.startswith("val/")}
    lacking = sorted(val.keys() - truth.keys())
    if lacking:
        raise DataError(
            f"{ANNOTATIONS} has no line for {count(len(lacking), 'image')} of val/images/, first "
            f"{printable(lacking[0])}.",
            "Take the list as it was published.",
        )
    source.rows.extend(Row(image, (truth[name],), "val", None) for name, image in val.items())
    gone = len(truth) - len(val)
    if gone:
        source.notes.append(f"{count(gone, 'image')} of {ANNOTATIONS} not in val/images/.")
    unlabelled = [image for image in tree.images if not image.startswith(("train/", "val/"))]
    if unlabelled:
        first = printable(unlabelled[0])
        source.notes.append(f"{count(len(unlabelled), 'image')} without labels left out, such as {first}.")
    _check_classes(root, source)
    add_names(root / "words.txt", source)
    return source


def _annotations(root: Path) -> dict[str, str]:
    """File name to synset, of lines such as `val_0.JPEG<tab>n03444034<tab>0<tab>32<tab>44<tab>62`."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(root / ANNOTATIONS, ANNOTATIONS).splitlines(), 1):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) < 2 or SYNSET.fullmatch(cells[1]) is None:
            raise DataError(
                f"{ANNOTATIONS}: line {number:,} does not name a synset: {printable(line)!r}",
                "A line holds, with tabs between them, the file's name, its synset and a box.",
            )
        found[cells[0]] = cells[1]
    return found


def _check_classes(root: Path, source: Source) -> None:
    """See that train/ has the classes of wnids.txt, where there is one."""
    if not (root / "wnids.txt").is_file():
        return
    known = set(read_text(root / "wnids.txt", "wnids.txt").split())
    found = source.rows.held(source.rows.splits == SPLITS.index("train"))
    odd = sorted(found - known)
    if odd:
        raise DataError(
            f"train/ has {count(len(odd), 'class', 'classes')} that wnids.txt does not list: {listed(odd)}.",
            "Remove the folders, or add lines to the list.",
        )
    missing = sorted(known - found)
    if missing:
        source.warnings.append(
            f"{count(len(missing), 'class', 'classes')} of wnids.txt without images in train/: {listed(missing)}."
        )
