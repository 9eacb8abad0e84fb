"""Pictures that show the same: found by bands of a perceptual hash, confirmed by what sets each picture apart.

A picture is the 63 lowest frequencies of its thumbnail (8 x 8 of its cosine transform, without the mean). Their signs
about the median are its hash (a perceptual hash, Zauner 2010). Two pictures are compared where their hashes differ in
at most `DISTANCE` bits, and are the same where their frequencies, less what all pictures of the data have in common,
point the same way: a cosine of `ALIKE`. Each picture is looked for as it is, mirrored, and without its edges.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgkit.data.look import SIDE

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

DISTANCE = 8
"""Bits of 63 in which the hashes of one picture may differ. Half of the bits are 1, so that it is always even."""
ALIKE = 0.992
"""Cosine from which on two pictures are one. Where pictures look alike, 2 in a million pairs of other pixels reach it
(Fashion-MNIST), 19 (solar cells: most are of one cell, judged by eye) or none (digits). benchmarks/check.py counts
them, and what is found."""
CUT = 0.02
"""Share of each side that a cut picture lacks at both ends."""
FLAT = 2.0
"""Levels of 255: a thumbnail of a smaller standard deviation shows nothing that could be compared."""
MOST = 2_000_000
"""Pairs that are kept: a film cut into frames has more."""
_FREQUENCIES = 8  # on each side
_COMMON = 50  # pictures below which what all have in common is hardly known, and hardly taken away
_AT_ONCE = 1 << 21  # pairs compared at a time


class Pairs(NamedTuple):
    """Pairs of pictures that are the same, by row.

    Attributes:
        first: (p,), below `second`.
        second: (p,)
        cosine: how alike they are, float32 (p,).
        straight: whether they are so as they lie, neither mirrored nor cut, (p,).
        more: whether there are more than `MOST`.
    """

    first: Ints
    second: Ints
    cosine: Floats
    straight: npt.NDArray[np.bool_]
    more: bool


def near_pairs(
    thumbs: npt.NDArray[np.uint8], *, distance: int = DISTANCE, alike: float = ALIKE, most: int = MOST
) -> Pairs:
    """The pairs of pictures that show the same.

    Args:
        thumbs: grey, (n, SIDE, SIDE); those that are `flat` have no pairs.
        distance: bits.
        alike: cosine.
        most: pairs that are kept.
    """
    rows = np.flatnonzero(~flat(thumbs))
    levels = thumbs[rows].astype(np.float32)
    plain = _unit(_frequencies(levels))
    common = plain.mean(axis=0) * (len(rows) / (len(rows) + _COMMON)) if len(rows) else plain.sum(axis=0)
    base, hashes = _unit(plain - common), _hash(plain)
    cut = _cut_matrix()
    without_edges = np.asarray(cut @ levels @ cut.T, dtype=np.float32)
    asked_as = {
        "": plain,
        "mirrored": _unit(_frequencies(levels[:, :, ::-1])),
        "cut": _unit(_frequencies(without_edges)),
    }
    found = [(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.bool_))]
    total = 0
    for name, own in asked_as.items():
        asked = _unit(own - common)
        for one, two in _within(_hash(own), hashes, distance):
            cosine = np.einsum("pd,pd->p", asked[one], base[two])
            kept = (cosine >= alike) & (one != two)
            left, right = rows[one[kept]], rows[two[kept]]
            key = np.minimum(left, right) * len(thumbs) + np.maximum(left, right)
            found.append((key, cosine[kept], np.full(len(key), not name)))
            total += len(key)
            if total > 4 * most:  # a pair is found from both its ends, in several bands
                break
    key, cosine, straight = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-cosine, ~straight, key))
    best = order[np.unique(key[order], return_index=True)[1]]
    chosen = best[:most]
    first, second = np.divmod(key[chosen], max(1, len(thumbs)))
    more = len(best) > most or total > 4 * most
    return Pairs(first, second, cosine[chosen], straight[chosen], more)


def flat(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which thumbnails (n, SIDE, SIDE) show nothing."""
    spread = thumbs.reshape(len(thumbs), SIDE * SIDE).std(axis=1, dtype=np.float32)
    return np.asarray(spread < FLAT, dtype=np.bool_)


def _frequencies(levels: Floats) -> Floats:
    """The lowest frequencies of thumbnails, without the mean: (n, SIDE, SIDE) -> (n, 63)."""
    place, frequency = np.arange(SIDE), np.arange(_FREQUENCIES)[:, np.newaxis]
    scale = np.full((_FREQUENCIES, 1), np.sqrt(2 / SIDE))
    scale[0] = np.sqrt(1 / SIDE)
    cosines = np.asarray(scale * np.cos(np.pi * frequency * (place + 0.5) / SIDE), dtype=np.float32)  # DCT-II
    found = (cosines @ levels @ cosines.T).reshape(len(levels), _FREQUENCIES**2)[:, 1:]
    return np.asarray(found, dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    """Of length 1, but for those of length 0."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _hash(frequencies: Floats) -> Hashes:
    """A bit for each frequency above the median: (n, 63) -> (n,)."""
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    packed = np.zeros((len(bits), 8), dtype=np.uint8)
    packed[:] = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8")[:, 0].astype(np.uint64)


def _cut_matrix() -> Floats:
    """Rows of a thumbnail -> those of the thumbnail without `CUT` at both ends, (SIDE, SIDE)."""
    edges = np.linspace(CUT * SIDE, (1 - CUT) * SIDE, SIDE + 1)
    start, stop = np.arange(SIDE), np.arange(1, SIDE + 1)
    overlap = np.minimum(edges[1:, None], stop) - np.maximum(edges[:-1, None], start)
    weights = np.maximum(overlap, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _within(asked: Hashes, hashes: Hashes, distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (row of `asked`, row of `hashes`) that differ in at most so many bits, some of them several times.

    Cut into bands, hashes that differ in `distance` bits differ in at most distance // bands of them in some band
    (pigeonhole). So each band is looked up as it is and with one bit changed, in a table of its values.
    """
    bands = max(4, distance // 2 + 1)  # at most one bit in the nearest of them, and a table of 65,536 at most
    for band in range(bands):
        low, high = 63 * band // bands, 63 * (band + 1) // bands
        mask = np.uint64((1 << (high - low)) - 1)
        keys = ((hashes >> np.uint64(low)) & mask).astype(np.int64)
        own = ((asked >> np.uint64(low)) & mask).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=1 << (high - low))
        starts = np.cumsum(counts) - counts
        for change in (0, *(1 << bit for bit in range(high - low))):
            wanted = own ^ change
            yield from _checked(asked, hashes, order, starts[wanted], counts[wanted], distance)


def _checked(
    asked: Hashes, hashes: Hashes, order: Ints, starts: Ints, counts: Ints, distance: int
) -> Iterator[tuple[Ints, Ints]]:
    """The pairs of each row of `asked` with order[start : start + count] that are near enough."""
    ends = np.cumsum(counts)
    row = 0
    while row < len(asked):
        before = ends[row - 1] if row else 0
        last = max(row + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        some = counts[row:last]
        one = np.repeat(np.arange(row, last), some)
        within = np.arange(len(one)) - np.repeat(np.cumsum(some) - some, some)
        two = order[np.repeat(starts[row:last], some) + within]
        near = np.bitwise_count(asked[one] ^ hashes[two]) <= distance
        if near.any():
            yield one[near], two[near]
        row = last
