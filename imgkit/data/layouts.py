"""Folders laid out as well-known data sets are, told by their marks: ImageNet, Tiny ImageNet, Pascal VOC, MIRFlickr."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from imgkit.data import imagenet, label_lists, tiny_imagenet, voc
from imgkit.data.entries import entries, leads_inside
from imgkit.data.rows import Source
from imgkit.errors import DataError, UsageError, printable


class Layout(NamedTuple):
    """A way to lay out a data set.

    Attributes:
        name: for messages.
        marks: what tells it, for messages.
        task: "single" or "multilabel".
        is_here: whether a folder has the marks.
        read: from the folder and its name for messages to rows.
    """

    name: str
    marks: str
    task: str
    is_here: Callable[[Path], bool]
    read: Callable[[Path, str], Source]


LAYOUTS = (
    Layout(
        "ImageNet",
        "train/ with folders such as n01440764, and images directly in val/",
        "single",
        imagenet.is_here,
        imagenet.read,
    ),
    Layout("Tiny ImageNet", "val/val_annotations.txt", "single", tiny_imagenet.is_here, tiny_imagenet.read),
    Layout(
        "Pascal VOC", "JPEGImages/ and ImageSets/Main/ with a list for each class", "multilabel", voc.is_here, voc.read
    ),
    Layout(
        "lists of images by label",
        "images in images/, and nothing but text files in annotations/",
        "multilabel",
        label_lists.is_here,
        label_lists.read,
    ),
)


def find_layout(root: Path, shown: str) -> Layout | None:
    """The layout whose marks a folder has; None: class folders.

    Raises:
        DataError: if it has the marks of several, or not itself but a folder inside it; or a folder cannot be listed.
    """
    found = [layout for layout in LAYOUTS if layout.is_here(root)]
    if len(found) > 1:
        marks = "\n".join(f"{layout.name}: {layout.marks}" for layout in found)
        raise DataError(
            f"{shown} is laid out both as {' and as '.join(layout.name for layout in found)}.",
            f"{marks}\nPut each into a folder of its own, and give one of them.",
        )
    if found:
        return found[0]
    for folder in sorted(Path(entry.path) for entry in entries(root) if leads_inside(entry)):
        inside = next((layout for layout in LAYOUTS if layout.is_here(folder)), None)
        if inside is not None:
            name = f"{shown}/{printable(folder.name)}"
            raise DataError(
                f"{name} is laid out as {inside.name}, but {shown} was given.",
                f"One level too high?  --data {shlex.quote(name)}",
            )
    return None


def read_layout(layout: Layout, root: Path, shown: str, task: str) -> Source:
    """Read a folder as `layout` says; the first note names the layout and what tells it.

    Args:
        layout: from `find_layout`.
        root: absolute path of the folder.
        shown: the folder as the user named it.
        task: "auto", "single" or "multilabel", as asked for.

    Raises:
        UsageError: if another task is asked for than the layout has.
        DataError: see `read` of each layout's file.
    """
    if task not in ("auto", layout.task):
        labels = "one label an image" if layout.task == "single" else "any number of labels an image"
        raise UsageError(
            f"data.task = {task!r}, but {shown} is laid out as {layout.name}: {labels}.", "Leave out --task."
        )
    source = layout.read(root, shown)
    source.notes.insert(0, f"{shown} is read as {layout.name}, since it has {layout.marks}.")
    source.rows.sort()
    return source
