"""Shards for tests, written by Python's tarfile, which imgkit does not use to read them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from imgkit.keys import key


def png(*seed: object, side: int = 12) -> bytes:
    """A small picture of noise, its own for each seed."""
    pixels = np.random.default_rng(key(*seed)).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(file: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> Path:
    """A tar file of these members."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def contents(file: Path) -> list[tuple[str, bytes]]:
    """The members of a tar file."""
    with tarfile.open(file) as archive:
        found = [(member.name, archive.extractfile(member)) for member in archive]
        return [(name, stream.read()) for name, stream in found if stream is not None]


def labelled(shard: object, n: int, classes: int = 2) -> list[tuple[str, bytes]]:
    """n pictures with the numbers of classes, by turns."""
    return [
        member
        for number in range(n)
        for member in ((f"{number:03d}.png", png(shard, number)), (f"{number:03d}.cls", str(number % classes).encode()))
    ]


def shards(folder: Path, splits: Iterable[str] = ("train", "val"), n: int = 6) -> Path:
    """Two shards of n pictures in each split's folder, and classes.txt."""
    for split in splits:
        for number in range(2):
            tar(folder / split / f"s-{number}.tar", labelled((split, number), n))
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder
