"""Pictures as callers of scikit-learn have them, written where imgkit reads pictures: as files.

paths       text or Path, in a list, a Series, or an array of objects (N,) or (N, 1): linked to, never copied
PIL images  in a list or an array of objects
arrays      (N, H, W) or (N, H, W, C) with C = 1, 3 or 4, or a list of (H, W[, C]): uint8, bool, or floats in [0, 1]
a matrix    (N, F) of numbers: flattened pictures, see `Flat`
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.rows import EXTENSIONS
from imgkit.data.sources import TABLES
from imgkit.errors import DataError, UsageError, printable

Picture = str | Path | Image.Image | npt.NDArray[Any]
_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}  # that PNG holds as they are
_SAFE = re.compile(r"[\w-][\w .+-]{0,99}(?<! )")  # names of folders
_RESERVED = {*FOLDER_SPLITS, "images", "annotations", "jpegimages", "imagesets"}  # that mean something beside classes


class PictureError(DataError, ValueError):
    """What was given cannot be pictures or classes; also a ValueError, as scikit-learn's callers expect."""


@dataclass(frozen=True)
class Flat:
    """How a row of a matrix is a picture.

    Args:
        shape: (H, W) or (H, W, C) of a picture; a row that is shorter is filled up with black.
        least: the value that is black.
        most: the value that is white.
    """

    shape: tuple[int, ...]
    least: float
    most: float

    @classmethod
    def of(cls, matrix: npt.NDArray[Any], shape: Sequence[int] | None) -> "Flat":
        """For a training's matrix (N, F): its own least and greatest value are black and white, 0 and 255 of uint8.

        Args:
            matrix: of numbers.
            shape: of a picture, whose product is F; None: a square that F just fills, or nearly.

        Raises:
            UsageError: if the product of `shape` is not F.
        """
        length = matrix.shape[1]
        if shape is None:
            side = int(np.ceil(np.sqrt(length)))
            shape = (side, side)
        elif len(shape) not in (2, 3) or np.prod(shape) != length:
            raise UsageError(
                f"image_shape={tuple(shape)} is not the shape of {length:,} numbers.",
                "Give (height, width) or (height, width, channels), whose product they are.",
            )
        least, most = (0, 255) if matrix.dtype == np.uint8 else (matrix.min(), matrix.max())
        return cls(tuple(map(int, shape)), float(least), float(most))

    def pictures(self, matrix: npt.NDArray[Any]) -> list[Picture]:
        """The rows of a matrix (N, F) as uint8 pictures; what is out of the range is black or white."""
        scale = 255 / (self.most - self.least) if self.most > self.least else 0.0
        found = np.zeros((len(matrix), int(np.prod(self.shape))), dtype=np.uint8)
        found[:, : matrix.shape[1]] = np.rint((matrix.astype(np.float64) - self.least) * scale).clip(0, 255)
        return list(found.reshape(len(matrix), *self.shape))


def listed_pictures(given: Any) -> list[Picture] | None:  # noqa: ANN401
    """The pictures of anything but a matrix of numbers, of which None is told.

    Raises:
        PictureError: if an array has not the shape of pictures, or nothing is given.
    """
    if hasattr(given, "columns") and hasattr(given, "iloc") and given.shape[1] == 1:
        given = given.iloc[:, 0]  # a table with one column
    if not isinstance(given, np.ndarray) and hasattr(given, "to_numpy"):
        given = given.to_numpy()
    if isinstance(given, np.ndarray):
        if given.ndim in (3, 4) and given.dtype != object:
            return list(given)
        if given.ndim > 2 or given.dtype.kind not in "OUS":
            if given.ndim > 2:
                raise _shapeless(given)
            return None
        given = given.ravel().tolist() if given.ndim == 1 or given.shape[1] == 1 else given
    return given if _are_pictures(given) else None


def _are_pictures(given: object) -> TypeGuard[list[Picture]]:
    if not isinstance(given, list | tuple) or not given:
        return False
    return all(
        isinstance(one, str | os.PathLike | Image.Image) or (isinstance(one, np.ndarray) and one.ndim > 1)
        for one in given
    )


def _shapeless(given: npt.NDArray[Any]) -> PictureError:
    return PictureError(
        f"An array of {given.ndim} dimensions, {given.shape}, is no pictures.",
        "Give (N, H, W) or (N, H, W, C), colours last.",
    )


def folder_names(classes: Iterable[object]) -> list[str]:
    """Names of class folders, all different: the classes' own where each can be one, else class-0 and so on."""
    names = [str(one) for one in classes]
    plain = len({name.casefold() for name in names}) == len(names)
    if plain and all(_SAFE.fullmatch(name) and name.casefold() not in _RESERVED for name in names):
        return names
    return [f"class-{code:0{len(str(len(names) - 1))}d}" for code in range(len(names))]


def put(picture: Picture, place: Path, number: int) -> Path:
    """Write a picture as PNG into a folder, or a link to it where it is a file; returns what was made.

    Args:
        picture: a path, an image or an array.
        place: the folder.
        number: of the picture among all, for its name and for messages.

    Raises:
        PictureError: if it is no picture.
    """
    if isinstance(picture, str | os.PathLike):
        file = check_file(picture)
        made = place / f"{number:07d}{file.suffix if file.suffix.lower() in EXTENSIONS else '.png'}"
        try:
            made.symlink_to(file.resolve())
        except OSError:  # a system without links
            shutil.copyfile(file, made)
        return made
    made = place / f"{number:07d}.png"
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(_bytes(picture, number))
    image = ImageOps.exif_transpose(image)
    (image if image.mode in _MODES else image.convert("RGB")).save(made, compress_level=1)
    return made


def check_file(path: str | os.PathLike[str]) -> Path:
    """The path, where a picture can be.

    Raises:
        PictureError: if there is no file, or it is a table.
    """
    file = Path(path)
    if not file.is_file() or file.name.lower().endswith(TABLES):
        why = "is a table, not a picture" if file.is_file() else "is not there, or is no file"
        raise PictureError(f"{printable(str(file))} {why}.", "Give paths of pictures, one an item.")
    return file


def _bytes(array: npt.NDArray[Any], number: int) -> npt.NDArray[np.uint8]:
    """An array (H, W[, C]) as PIL takes it, uint8 (H, W) or (H, W, C).

    Raises:
        PictureError: if its shape or its values are not those of a picture.
    """
    shape, where = array.shape, f"Picture {number:,}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        turned = array.ndim == 3 and shape[0] in (1, 3, 4)
        hint = "Colours come last:  np.moveaxis(X, 1, -1)" if turned else "Give (H, W) or (H, W, C), C = 1, 3 or 4."
        raise PictureError(f"{where} has the shape {shape}.", hint)
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]  # (H, W, 1) -> (H, W)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    floats = array.dtype.kind == "f"
    if array.dtype.kind != "b" and not (floats and np.all((array >= 0) & (array <= 1))):
        values = f"values from {array.min():g} to {array.max():g}" if array.dtype.kind in "iuf" else "no numbers"
        raise PictureError(
            f"{where} has {values} in {array.dtype}; pixels are uint8, or floats from 0 to 1.",
            "Of 0 to 255:  X.astype('uint8')   Of another range:  (X - low) / (high - low)",
        )
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
