"""In which order images are shown: those first whose labels tell the model most."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from imgkit.labelling import Order

Probabilities = npt.NDArray[np.float64]
"""In [0, 1], or what is made of them."""


def margin(probs: Probabilities) -> Probabilities:
    """By how much the most likely class leads the next, of probabilities (N, K) with K > 1; (N,), in [0, 1].

    Small where the model wavers between two classes (Scheffer et al. 2001).
    """
    best = np.partition(probs, -2, axis=1)[:, -2:]  # (N, K) -> (N, 2), the second and the first
    lead: Probabilities = best[:, 1] - best[:, 0]
    return lead


def entropy(probs: Probabilities) -> Probabilities:
    """The entropy of probabilities (N, K) in nats; (N,), large where the model knows least (Shannon 1948)."""
    logs = np.log(np.where(probs > 0, probs, 1.0))
    spread: Probabilities = -(probs * logs).sum(axis=1)
    return spread


def informative(probs: Mapping[int, Sequence[float]], order: Order) -> list[int]:
    """The images of `probs`, by their number, in `order`; those of one worth by their number.

    Args:
        probs: the calibrated probability of every class, by image.
        order: "margin", the smallest first; "entropy", the largest first; "folder", by number.
    """
    numbers = sorted(probs)
    if order == "folder" or not numbers:
        return numbers
    values = np.array([probs[number] for number in numbers], dtype=np.float64)
    if values.shape[1] < 2:
        return numbers
    # Rounded, so that what differs by the last bits alone keeps the order of the folder on every machine.
    rank = np.round(margin(values) if order == "margin" else -entropy(values), 9)
    return [numbers[place] for place in np.argsort(rank, kind="stable")]
