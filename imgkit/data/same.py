"""Which pictures have the same pixels, and which ones show the same."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.data.facts import Facts
from imgkit.data.looks import Looks, read_whole
from imgkit.data.near import Ints, Pairs, near_pairs

_MEAN_OFF = 2 / 255  # of a channel, between all pixels and those of a fraction of the size
_THUMB_OFF = 6  # levels of a pixel of the thumbnail, likewise


@dataclass(frozen=True)
class Same:
    """Pictures that are one.

    Args:
        contents: a number for each picture, (n,); pictures of the same pixels have the same one.
        pairs: pictures that show the same and have other pixels; of those with the same pixels, the first alone.
    """

    contents: Ints
    pairs: Pairs


def same_pictures(file_of: Callable[[int], str], facts: Facts, looks: Looks, *, max_pixels: int) -> Same:
    """Find them.

    JPEGs are decoded at a fraction of their size, so theirs are not all pixels. Those that may have the same as another
    picture are decoded in full, and nothing is called a copy that is none.

    Args:
        file_of: the absolute path of a row.
        facts: of n files, all of them good.
        looks: likewise.
        max_pixels: see `load_image`.
    """
    contents = _contents(facts, looks)
    one_each = np.unique(contents, return_index=True)[1]
    likely = np.zeros(len(contents), dtype=np.bool_)
    likely[one_each[_shared(looks["pixels"][one_each])]] = True  # JPEGs of the same coefficients
    likely[_like_a_whole(facts, looks, one_each)] = True
    rows = np.flatnonzero(likely)
    if len(rows):
        looks = looks.copy()
        looks[rows] = read_whole([file_of(row) for row in rows.tolist()], looks[rows], max_pixels=max_pixels)
        contents = _contents(facts, looks)
        one_each = np.unique(contents, return_index=True)[1]
    found = near_pairs(looks["thumb"][one_each])
    return Same(contents, found._replace(first=one_each[found.first], second=one_each[found.second]))


def _like_a_whole(facts: Facts, looks: Looks, rows: Ints) -> Ints:
    """Of `rows`, the JPEGs that may have the pixels of a picture in another format: as large, and nearly as bright.

    What is decoded at a fraction of its size has the mean of all pixels, but for rounding and clipping.
    """
    whole, partly = rows[looks["whole"][rows]], rows[~looks["whole"][rows]]
    if not len(whole) or not len(partly):
        return np.empty(0, dtype=np.int64)
    sides = np.sort(np.stack([facts.widths, facts.heights], axis=1).astype(np.int64), axis=1)  # upright or not
    _, size = np.unique(sides, axis=0, return_inverse=True)
    bright = 4.0 * size.reshape(-1) + looks["mean"][:, 0]  # as a mean is at most 1, sizes lie apart
    partly = partly[np.argsort(bright[partly], kind="stable")]
    low, high = (np.searchsorted(bright[partly], bright[whole] + off) for off in (-_MEAN_OFF, _MEAN_OFF))
    found = np.zeros(len(facts), dtype=np.bool_)
    for one, start, stop in zip(whole.tolist(), low.tolist(), high.tolist(), strict=True):
        others = partly[start:stop]
        others = others[(np.abs(looks["mean"][others] - looks["mean"][one]) <= _MEAN_OFF).all(axis=1)]
        off = np.abs(looks["thumb"][others].astype(np.int16) - looks["thumb"][one]).max(axis=(1, 2), initial=0)
        found[others[off <= _THUMB_OFF]] = True
    return np.flatnonzero(found).astype(np.int64)


def _contents(facts: Facts, looks: Looks) -> Ints:
    """A number for each picture: files of the same bytes share it, and those of which the same pixels are known."""
    by_bytes = np.unique(_words(facts.hashes), axis=0, return_inverse=True)[1].reshape(-1)
    # of files of the same bytes one speaks for all: one whose pixels are all known, if there is one
    order = np.lexsort((~looks["whole"], by_bytes))
    speaks = order[np.searchsorted(by_bytes[order], np.arange(by_bytes.max(initial=-1) + 1))]
    hashes = _words(looks["pixels"][speaks]).copy()
    partly = np.flatnonzero(~looks["whole"][speaks])
    hashes[partly, 0], hashes[partly, 1] = partly, np.iinfo(np.uint64).max
    contents: Ints = np.unique(hashes, axis=0, return_inverse=True)[1].reshape(-1)[by_bytes].astype(np.int64)
    return contents


def _words(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """(n, 8 w) bytes -> (n, w)."""
    return np.ascontiguousarray(hashes).view(np.uint64)


def _shared(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Which rows of (n, k) are there several times."""
    _, which, copies = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(copies[which.reshape(-1)] > 1)
