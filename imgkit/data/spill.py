"""Large columns in files of the cache: memory does not grow with the number of pictures."""

import os
import tempfile
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.data.builtin import cache_folder
from imgkit.files import check_space

LEAST_BYTES = 64 << 20
"""Smaller arrays are in memory: of most columns those of 8 million pictures."""


def zeros(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros, in memory; or, of a large array, in a file without a name that is mapped into memory.

    The system keeps of such a file what is in use and as much more as fits, forked processes share it, and it goes when
    the last of them ends. Where the cache cannot be written, or has no room, a large array is in memory too.
    """
    size = np.dtype(dtype).itemsize * (shape if isinstance(shape, int) else prod(shape))
    if size < LEAST_BYTES:
        return np.zeros(shape, dtype)
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        check_space(folder, size)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # else a disk that fills up would kill whoever writes there
            return np.memmap(file, dtype=dtype, mode="r+" if file.seek(0, 2) else "w+", shape=shape).view(np.ndarray)
    except OSError:
        return np.zeros(shape, dtype)


def kept(column: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A copy of a column (n, ...), likewise."""
    values = np.asarray(column)
    copy = zeros(values.shape, dtype)
    copy[...] = values
    return copy
