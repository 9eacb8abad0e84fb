"""Class folders: `CLASS/*.jpg`, or `train/CLASS/*.jpg` beside `val/` and `test/`."""

import os
import shlex
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from imgkit.data.columns import Rows
from imgkit.data.entries import is_ignored, is_image, leads_inside, sort_out
from imgkit.data.index import SPLITS
from imgkit.data.paths import PathTable, merged
from imgkit.data.rows import EXTENSIONS, Source, common_folder, count, listed
from imgkit.errors import DataError, printable

FOLDER_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".nef", ".dcm")  # pictures
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


@dataclass
class Tree:
    """What lies below a folder; all names relative to it, POSIX, sorted by `walk`."""

    images: PathTable = field(default_factory=lambda: PathTable.of(()))
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # ignored files and folders
    repeated: list[str] = field(default_factory=list)  # links to a folder that was read already
    outside: list[str] = field(default_factory=list)  # links that lead out of the folder; followed
    other: list[str] = field(default_factory=list)  # files that are no images


def walk(root: Path) -> Tree:
    """List a folder, each real folder once, real folders before links to them.

    Raises:
        DataError: if a folder cannot be listed.
    """
    tree = Tree()
    real_root = os.path.realpath(root)
    seen = {_identity(root)}
    folders, links = [""], list[str]()
    blocks: dict[str, PathTable] = {}
    while folders or links:
        inside = folders.pop() if folders else links.pop()
        if inside and not _enter(root, inside, seen, tree):
            continue
        start = f"{inside}/" if inside else ""
        images, files, others = sort_out(root / inside)
        for name in files:
            (tree.hidden if is_ignored(name) else tree.other).append(start + name)
        for entry in others:
            name = start + entry.name
            if is_ignored(entry.name):
                tree.hidden.append(name)
                continue
            if entry.is_symlink() and not _is_within(os.path.realpath(entry.path), real_root):
                tree.outside.append(name)
            if leads_inside(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif is_image(entry.name):
                images.append(entry.name)
            else:
                tree.other.append(name)
        if images:
            images.sort()
            blocks[start] = PathTable.below(start, images)
        links.sort(reverse=True)
    tree.images = merged(blocks)
    for names in (tree.folders, tree.hidden, tree.repeated, tree.outside, tree.other):
        names.sort()
    return tree


def _enter(root: Path, inside: str, seen: set[tuple[int, int]], tree: Tree) -> bool:
    identity = _identity(root / inside)
    if identity in seen:
        tree.repeated.append(inside)
        return False
    seen.add(identity)
    tree.folders.append(inside)
    return True


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def read_folder(root: Path, shown: str, *, training: bool) -> Source:
    """Read class folders, with or without split folders above them.

    Args:
        root: absolute path of the folder.
        shown: the folder as the user named it.
        training: False: a data set without train/ is fine.

    Raises:
        DataError: if there are no images, or no class folders, or split folders without train/.
    """
    tree = walk(root)
    source = Source(root, shown, Rows())
    top = [name for name in tree.folders if "/" not in name]
    _require_images(tree, shown)
    splits = _split_folders(top, shown, training=training)
    if splits:
        unused = [name for name in top if name not in splits and range(*_span(tree.images, f"{name}/"))]
        if unused:
            source.notes.append(f"Ignored beside {_slashed(splits)}: {listed(map('{}/'.format, unused))}.")
        add_tree_notes(tree, source)
        for folder, split in splits.items():
            add_rows(tree, source, split, folder=folder)
    else:
        add_tree_notes(tree, source)
        add_rows(tree, source, None)
        _add_level_warning(tree, source)
        odd = [name for name in top if name.lower() in FOLDER_SPLITS]
        if odd:
            source.warnings.append(f"There is no train/ folder, so {listed(odd)} is taken for a class.")
    if not source.rows:
        within = f"{shown}/train" if splits else shown
        raise DataError(
            f"{shown} holds {count(len(tree.images), 'image')}, but none is in a class folder.",
            f"imgkit expects   {within}/CLASS/*.jpg   or a CSV file.\n"
            f"To give the images labels:  imgkit label {shlex.quote(shown)} --classes A,B",
        )
    return source  # its rows are sorted: images are, and so are classes and split folders


def read_pair(train: Path, val: Path | None, shown: tuple[str, str]) -> Source:
    """Read a training folder of class folders and, if given, the validation folder that goes with it.

    Args:
        train: absolute path.
        val: absolute path; None: train is to be split.
        shown: both as the user named them.

    Raises:
        DataError: if one lies inside the other, or holds no images or no class folders.
    """
    pair = {"train": train} if val is None else {"train": train, "val": val}
    if val is not None and (train == val or train in val.parents or val in train.parents):
        raise DataError(
            f"The training folder {shown[0]} and the validation folder {shown[1]} overlap.",
            "Give two folders that lie side by side, or one folder with train/ and val/ inside as --data.",
        )
    root = common_folder(pair.values(), shown)
    source = Source(root, shown[0], Rows())
    for (split, folder), name in zip(pair.items(), shown, strict=False):
        tree = walk(folder)
        _require_images(tree, name)
        prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        add_tree_notes(tree, source, prefix)
        before = len(source.rows)
        add_rows(tree, source, None if val is None else split, prefix=prefix)
        if len(source.rows) == before:
            raise DataError(
                f"{name} holds {count(len(tree.images), 'image')}, but none is in a class folder.",
                f"imgkit expects   {name}/CLASS/*.jpg",
            )
    source.rows.sort()
    return source


def _split_folders(top: list[str], shown: str, *, training: bool) -> dict[str, str]:
    """Folder name -> split, empty where the folders are classes."""
    splits = {name: FOLDER_SPLITS[name.lower()] for name in top if name.lower() in FOLDER_SPLITS}
    for split in SPLITS:
        same = [name for name, which in splits.items() if which == split]
        if len(same) > 1:
            raise DataError(f"{shown} has two folders for {split}: {listed(same)}.", "Keep one of them.")
    if "train" in splits.values():
        return splits
    if training and "training" in {name.lower() for name in top}:
        raise DataError(
            f"{shown} has a folder 'training'; imgkit looks for train/, val/ and test/.",
            f"Rename it, or give the folders:  --train {shown}/training --val {shown}/testing",
        )
    if splits and len(splits) == len(top):
        if training:
            raise DataError(f"{shown} has {_slashed(splits)} but no train/.", "Nothing can be learned without train/.")
        return splits
    return {}


def add_rows(tree: Tree, source: Source, split: str | None, *, folder: str = "", prefix: str = "") -> None:
    """Add the images of the class folders below `folder`; sub-folders of a class belong to the class.

    Args:
        tree: the images, relative to what was walked.
        source: where rows, notes and warnings go.
        split: of these images; None: not said.
        folder: holds the class folders, relative to what was walked; "": that itself.
        prefix: from the source's root to what was walked.
    """
    start = f"{folder}/" if folder else ""
    where = printable(f"{folder}/" if folder else source.shown)
    first, last = _span(tree.images, start)
    inside = [name[len(start) :] for name in tree.folders if name.startswith(start)]
    stray, empty = last - first, list[str]()
    for label in sorted((name for name in inside if "/" not in name), key="{}/".format):
        one, two = _span(tree.images, f"{start}{label}/")
        if one == two:
            empty.append(label)
            continue
        images = tree.images.part(one, two)
        source.rows.add_class(PathTable.of(map(prefix.__add__, images)) if prefix else images, label, split)
        stray -= two - one
    if stray:
        here = (name for name in tree.images.part(first, last) if "/" not in name[len(start) :])
        source.beside.extend(map(prefix.__add__, here))
        source.notes.append(f"{count(stray, 'image')} directly in {where}, outside the class folders, ignored.")
    if empty:
        empty.sort()
        source.warnings.append(f"No images in {count(len(empty), 'class folder')} of {where}: {listed(empty)}.")


def _span(images: PathTable, start: str) -> tuple[int, int]:
    """First row, and the one after the last, of the images whose path begins with `start`, a folder and a slash."""
    if not start:
        return 0, len(images)
    return bisect_left(images, start), bisect_left(images, f"{start[:-1]}0")  # "0" comes after "/"


def _add_level_warning(tree: Tree, source: Source) -> None:
    """Where each class has its images in folders of its own only, and in several, these may be the classes."""
    inner: dict[str, set[str]] = {}
    for image in tree.images:
        label, *below = image.split("/")
        if len(below) == 1:
            return
        if below:
            inner.setdefault(label, set()).add(below[0])
    if len(inner) > 1 and all(len(names) > 1 for names in inner.values()):
        first = min(inner)
        within = shlex.quote(f"{source.shown}/{printable(first)}")
        source.warnings.append(
            f"The classes are {listed(sorted(inner))}, but each holds its images in folders of its own "
            f"({printable(first)}/: {listed(sorted(inner[first]))}). If each is a data set, give one:  --data {within}"
        )


def add_tree_notes(tree: Tree, source: Source, prefix: str = "") -> None:
    """Say what of a folder is not read; `prefix` leads from the source's root to it."""
    if tree.hidden:
        names = sorted({PurePosixPath(name).name for name in tree.hidden})
        what = count(len(tree.hidden), "hidden or system file or folder", "hidden or system files and folders")
        source.notes.append(f"Ignored {what}: {listed(names)}.")
    unread = [name for name in tree.other if name.lower().endswith(_UNREAD)]
    if unread:
        source.unread.extend(map(prefix.__add__, unread))
        source.warnings.append(
            f"{count(len(unread), 'picture')} left out ({_suffixes(unread)}): imgkit does not read this kind; "
            "save them as JPEG or PNG."
        )
    other = [name for name in tree.other if not name.lower().endswith(_UNREAD)]
    if other:
        source.notes.append(f"Ignored {count(len(other), 'file')} without an image extension ({_suffixes(other)}).")
    if tree.repeated:
        source.notes.append(f"Links to folders that were read already, not followed: {listed(tree.repeated)}.")
    if tree.outside:
        links = count(len(tree.outside), "link")
        source.notes.append(f"Followed {links} out of {source.shown}: {listed(tree.outside)}.")


def _suffixes(names: Iterable[str]) -> str:
    """`.txt 3, no extension 1`, the most frequent ones."""
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names)
    return ", ".join(f"{printable(kind)} {n:,}" for kind, n in kinds.most_common(5))


def _require_images(tree: Tree, shown: str) -> None:
    if tree.images:
        return
    hint = f"imgkit expects   {shown}/CLASS/*.jpg   or   {shown}/train/CLASS/*.jpg   or a CSV file."
    unread = [name for name in tree.other if name.lower().endswith(_UNREAD)]
    if unread:
        hint = f"It holds {count(len(unread), 'picture')} of another kind ({_suffixes(unread)}): save as JPEG or PNG."
    for suffix in _ARCHIVES:
        files = [name for name in tree.other if name.lower().endswith(suffix)]
        if files:
            hint = f"It holds {count(len(files), f'{suffix} file')}: unpack {printable(files[0])} first."
            break
    tables = [name for name in tree.other if name.lower().endswith((".csv", ".tsv")) and "/" not in name]
    if tables:
        hint = f"It holds a table:  --data {shown}/{printable(tables[0])}"
    raise DataError(f"No images in {shown} (looked for {' '.join(EXTENSIONS)}, at any depth).", hint)


def _slashed(names: Iterable[str]) -> str:
    return ", ".join(f"{printable(name)}/" for name in names)
