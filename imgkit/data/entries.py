"""What lies directly in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgkit.data.rows import EXTENSIONS
from imgkit.errors import DataError, printable

_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies directly in a folder.

    Raises:
        DataError: if it cannot be listed.
    """
    with _scanned(folder) as found:
        return list(found)


@contextmanager
def _scanned(folder: Path, *, by_number: bool = False) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What lies in a folder; opened by number, its entries have no path, which takes a twentieth of the time."""
    number = None
    try:
        if by_number and os.scandir in os.supports_fd:
            number = os.open(folder, os.O_RDONLY)
        with os.scandir(folder if number is None else number) as found:
            yield found
    except OSError as error:
        raise DataError(
            f"{printable(str(folder))} cannot be listed: {error.strerror}", "Check the folder's permissions."
        ) from error
    finally:
        if number is not None:
            os.close(number)


def leads_inside(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads to itself, or nowhere, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def sort_out(folder: Path) -> tuple[list[str], list[str], list[os.DirEntry[str]]]:
    """Names of the images in a folder and of its other files, in any order; and what is no plain file, links included.

    A hidden file is no image.

    Raises:
        DataError: if the folder cannot be listed.
    """
    names, odd = list[str](), False
    with _scanned(folder, by_number=True) as found:
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                names.append(entry.name)
            else:
                odd = True
    others = [entry for entry in entries(folder) if not entry.is_file(follow_symlinks=False)] if odd else []
    if _are_images(names):
        return names, [], others
    images = [name for name in names if is_image(name) and not is_ignored(name)]
    return images, [name for name in names if not is_image(name) or is_ignored(name)], others


def _are_images(names: list[str]) -> bool:
    """Whether all have one extension, that of an image, and none is hidden; told by one look at all of them."""
    text = "/".join(["", *names, ""])
    extension = os.path.splitext(names[0])[1] if names else ""  # noqa: PTH122
    return extension.lower() in EXTENSIONS and text.count(f"{extension}/") == len(names) and "/." not in text


def is_image(name: str) -> bool:
    """Whether a file of this name is an image."""
    return name.lower().endswith(EXTENSIONS)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that systems write."""
    return name.startswith(".") or name.lower() in _JUNK
