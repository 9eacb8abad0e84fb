"""Built-in data sets: written once as PNG files into the cache, then read like any folder."""

import colorsys
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgkit.data.rows import absolute
from imgkit.errors import DataError, DiskError
from imgkit.files import cache_folder
from imgkit.keys import key, splitmix64

__all__ = ["BUILTIN", "SIDE_PX", "builtin_folder", "cache_folder", "is_builtin"]

BUILTIN = ("digits", "synthetic")
SIDE_PX = 32
_VERSION = 1  # part of the folder's name: changed pictures get another folder
_SYNTHETIC = re.compile(r"^synthetic(?::(?P<classes>\d{1,4})x(?P<images>\d{1,5}))?$")
_NOISE = 64  # of 255, to either side: a single pixel does not tell neighbouring classes apart
Picture = npt.NDArray[np.uint8]


def is_builtin(name: str) -> bool:
    """Whether `name` is `digits`, `synthetic` or `synthetic:...`."""
    return name in BUILTIN or name.startswith("synthetic:")


def builtin_folder(name: str) -> Path:
    """The folder of class folders of a built-in set, written on first use.

    `digits`: the 1,797 handwritten digits of scikit-learn (8 px, enlarged to 32 px, grey). `synthetic:KxN`: K colours,
    N noisy pictures of each (32 px, RGB); `synthetic` alone is 4x40.

    Raises:
        DataError: if the size of a synthetic set is not understood.
        DiskError: if the cache cannot be written.
    """
    if name == "digits":
        pictures, title = _digits(), "digits"
    else:
        classes, images = _synthetic_size(name)
        pictures, title = _synthetic(classes, images), f"synthetic-{classes}x{images}"
    folder = absolute(cache_folder()) / "data" / f"{title}-v{_VERSION}"
    if not folder.is_dir():
        try:
            _write(folder, pictures)
        except OSError as error:
            raise DiskError(
                f"The built-in set {name} cannot be written to {folder}: {error.strerror or error}",
                "Set IMGKIT_CACHE to a folder that can be written.",
            ) from error
    return folder


def _write(folder: Path, pictures: Iterator[tuple[str, str, Picture]]) -> None:
    """Write everything beside `folder`, then rename: a folder that is there is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for label, name, pixels in pictures:
            (part / label).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(part / label / f"{name}.png")
        part.chmod(0o755)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _digits() -> Iterator[tuple[str, str, Picture]]:
    """(label, name, pixels (32, 32)) of each digit."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255
    for number, (picture, target) in enumerate(zip(pixels, bunch.target, strict=True)):
        large = Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        yield str(target), f"{number:04d}", np.asarray(large)


def _synthetic_size(name: str) -> tuple[int, int]:
    match = _SYNTHETIC.match(name)
    classes, images = (int(match["classes"] or 4), int(match["images"] or 40)) if match else (0, 0)
    if classes < 2 or images < 1:
        raise DataError(
            f"{name} is not a size of the synthetic set.",
            "Write synthetic:CLASSESxIMAGES with at least 2 classes, such as synthetic:4x20.",
        )
    return classes, images


def _synthetic(classes: int, images: int) -> Iterator[tuple[str, str, Picture]]:
    """(label, name, pixels (32, 32, 3)): a hue per class plus noise from hashed integers."""
    shape = (SIDE_PX, SIDE_PX, 3)
    digits = len(str(classes - 1))
    for code in range(classes):
        colour = np.array(colorsys.hsv_to_rgb(code / classes, 0.7, 0.8)) * 255
        for number in range(images):
            start = np.uint64(key("synthetic", code, number))
            noise = splitmix64(np.arange(np.prod(shape), dtype=np.uint64) + start) % np.uint64(2 * _NOISE + 1)
            values = colour + noise.astype(np.int64).reshape(shape) - _NOISE
            yield f"class-{code:0{digits}d}", f"{number:05d}", np.clip(np.rint(values), 0, 255).astype(np.uint8)
