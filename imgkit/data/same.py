"""Which pictures have the same pixels, and which ones show the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.data.facts import Facts
from imgkit.data.looks import Looks, read_whole
from imgkit.data.near import Ints, Pairs, flat, near_pairs


@dataclass(frozen=True)
class Same:
    """Pictures that are one.

    Args:
        contents: a number for each picture, (n,); pictures of the same pixels have the same one.
        pairs: pictures that show the same and have other pixels; of those with the same pixels, the first alone.
    """

    contents: Ints
    pairs: Pairs


def same_pictures(files: Sequence[str], facts: Facts, looks: Looks, *, max_pixels: int) -> Same:
    """Find them.

    JPEGs are decoded at a fraction of their size, so theirs are not all pixels. Those that may have the same as another
    picture are decoded in full, and nothing is called a copy that is none.

    Args:
        files: absolute paths, (n,).
        facts: of the files, all of them good.
        looks: likewise.
        max_pixels: see `load_image`.
    """
    contents = _contents(facts, looks)
    one_each = np.unique(contents, return_index=True)[1]
    found = near_pairs(looks["thumb"][one_each])
    first, second = one_each[found.first], one_each[found.second]
    sizes = np.sort(np.stack([facts.widths, facts.heights], axis=1), axis=1)  # whether upright or not
    likely = np.zeros(len(contents), dtype=np.bool_)
    alike = found.straight & (sizes[first] == sizes[second]).all(axis=1)
    likely[first[alike]] = likely[second[alike]] = True
    likely |= _shared(looks["pixels"])  # at a fraction of their size
    blank = one_each[flat(looks["thumb"][one_each])]
    likely[blank[_shared(sizes[blank])]] = True
    likely &= np.isin(np.arange(len(contents)), one_each)
    rows = np.flatnonzero(likely)
    if not looks["whole"][rows].all():
        looks = looks.copy()
        looks[rows] = read_whole([files[row] for row in rows], looks[rows], max_pixels=max_pixels)
        contents = _contents(facts, looks)
    other = contents[first] != contents[second]
    return Same(contents, Pairs(first[other], second[other], found.cosine[other], found.straight[other], found.more))


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
