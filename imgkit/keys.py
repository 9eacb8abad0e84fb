"""All randomness of a run: pure functions of the seed and a position.

Hashing integers does not change between library versions, machines or worker counts; streams of a random generator may
(NumPy does not promise them, NEP 19). The design is described in docs/determinism.md.
"""

import hashlib
from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1


def key(*parts: int | str) -> int:
    """A 64-bit number that depends on every part and on their order, for seeding a generator.

    BLAKE2b over the parts; the same on every machine and for ever.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def order(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """The order in which epoch `epoch` visits n samples: a permutation of 0..n-1, int64 (n,).

    Sorts the samples by a keyed hash (SplitMix64; Steele, Lea and Flood 2014), integers only.
    """
    hashed = splitmix64(np.arange(n, dtype=np.uint64) + np.uint64(key(seed, "order", epoch)))
    return np.argsort(hashed, kind="stable")


def bounds_of(weights: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Where the share of each of n samples ends in the range 0..2**63 - 1, uint64 (n,); the last one ends at 2**63.

    Whole numbers from the first sum on, so the same on every machine. A weight below 2**-53 of the largest counts as 0.

    Args:
        weights: finite, 0 or more, (n,), and one of them above 0.
    """
    values = np.asarray(weights, dtype=np.float64)
    scaled: list[int] = np.rint(values / values.max() * 2.0**52).astype(np.int64).tolist()
    ends = list(accumulate(scaled))
    return np.array([(end << 63) // ends[-1] for end in ends], dtype=np.uint64)


def picks(seed: int, epoch: int, bounds: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The samples that epoch `epoch` draws, with replacement: as many as there are samples, int64 (n,) of 0..n-1.

    Position p has the sample in whose share its hash falls (the inverse of the cumulative distribution; SplitMix64 as
    in `order`), whatever the positions before it drew.

    Args:
        seed: of the run.
        epoch: counted from the start of the run.
        bounds: from `bounds_of`, (n,).
    """
    positions = np.arange(len(bounds), dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashed = splitmix64(positions + np.uint64(key(seed, "pick", epoch)))
    return np.searchsorted(bounds, hashed >> np.uint64(1), side="right").astype(np.int64)


def splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser of each 64-bit value; arithmetic wraps modulo 2**64."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream(state: int, n: int) -> npt.NDArray[np.uint64]:
    """The first `n` outputs of SplitMix64 (Steele, Lea and Flood 2014) from a 64-bit state: integers, uint64 (n,)."""
    with np.errstate(over="ignore"):
        return splitmix64(np.uint64(state) + np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def uniforms(state: int, n: int) -> Iterator[float]:
    """The first `n` numbers in [0, 1) of SplitMix64 from a 64-bit state; integers only, so everywhere the same."""
    return iter(((stream(state, n) >> np.uint64(11)) * 2.0**-53).tolist())


def seed_everything(number: int) -> None:
    """Seed Python's, NumPy's and torch's generators with a 64-bit number from `key`.

    `torch.default_generator` alone is seeded on the CPU path: `torch.manual_seed` would also start the CUDA driver's
    lazy queue in every loader worker. Of Apple's GPU nothing tells whether it is in use: workers, which draw on the
    CPU, leave it alone.
    """
    import random

    import torch

    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.default_generator.manual_seed(number & (_MASK >> 1))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number & (_MASK >> 1))
    elif torch.backends.mps.is_available() and torch.utils.data.get_worker_info() is None:
        torch.mps.manual_seed(number & (_MASK >> 1))
