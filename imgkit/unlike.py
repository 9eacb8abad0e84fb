"""How unlike a picture is to those of the training, by the features that the head sees; a file that says so.

The distance is Mahalanobis's to the nearest class mean, with one covariance of all classes (Lee et al. 2018), of
features of length 1 (Müller & Hein 2025). By itself it has no scale, so it is told as the share of held-out images
that are nearer to the training images.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imgkit.bounds import check_tensors
from imgkit.conformal import fewest, rank
from imgkit.errors import UsageError
from imgkit.files import replace_bytes
from imgkit.probabilities import Floats

SCHEMA = 1
_TINY = 1e-12  # length below which features have no direction


@dataclass(frozen=True, eq=False)
class Likeness:
    """What the distance of features needs.

    Args:
        root: (D, D), with root @ root.T the inverse of the covariance.
        means: of the classes, (K, D), multiplied by `root`.
        held: distances of the held-out images, (N,), in the order of their rows.
    """

    root: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    held: Floats

    def distances(self, features: npt.NDArray[np.floating]) -> Floats:
        """Of features (B, D) to the nearest class mean, (B,)."""
        return _nearest(_directions(features) @ self.root, self.means)

    def shares(self, features: npt.NDArray[np.floating]) -> Floats:
        """The share of held-out images that are nearer than features (B, D), of N + 1; in [0, 1), (B,).

        1 minus it is a conformal p-value: an image drawn as the held-out ones has a share of s or more with a
        probability of at most 1 - s (Bates et al. 2023).
        """
        ordered = np.sort(self.held)
        return np.searchsorted(ordered, self.distances(features), side="left") / (len(ordered) + 1)

    def save(self, file: Path, about: Mapping[str, str]) -> None:
        """Write it as safetensors, with `about` in its header.

        Raises:
            OSError: if the disk says no.
        """
        tensors: dict[str, npt.NDArray[Any]] = {"root": self.root, "means": self.means, "held": self.held}
        replace_bytes(file, save(tensors, metadata=_header(about)))

    @classmethod
    def load(cls, file: Path, about: Mapping[str, str]) -> "Likeness | None":
        """What `save` wrote with the same `about`; None where it is not there, damaged, or of something else."""
        try:
            check_tensors(file)
            with safe_open(file, framework="numpy") as stored:
                if stored.metadata() != _header(about):
                    return None
                root, means, held = (stored.get_tensor(name) for name in ("root", "means", "held"))
        except (OSError, ValueError, SafetensorError):
            return None
        square = root.ndim == means.ndim == 2 and root.shape[0] == root.shape[1] == means.shape[1]
        return cls(root, means, held) if square and held.ndim == 1 and len(held) else None


def fit(
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.int64],
    held: npt.NDArray[np.floating],
) -> Likeness:
    """The distance to training images, and those of held-out images.

    The covariance is Ledoit & Wolf's (2004), shrunk towards a multiple of the identity: features may outnumber images.

    Args:
        features: of the training images, (M, D).
        targets: their classes, (M,).
        held: features of images that were not trained on, (N, D).
    """
    from sklearn.covariance import ledoit_wolf

    directions = _directions(features)
    present, code = np.unique(targets, return_inverse=True)
    sums = np.zeros((len(present), directions.shape[1]))
    np.add.at(sums, code, directions)
    means = sums / np.bincount(code)[:, None]
    covariance, _ = ledoit_wolf(directions - means[code], assume_centered=True)
    covariance[np.diag_indices_from(covariance)] += _TINY  # where all images are the same picture
    root = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    found = Likeness(root, (means @ root).astype(np.float32), np.empty(0))
    return Likeness(root, found.means, found.distances(held))


def _header(about: Mapping[str, str]) -> dict[str, str]:
    """One entry: several come in any order, and the same content has to be the same bytes."""
    return {"imgkit": json.dumps({"schema": SCHEMA, **about}, sort_keys=True)}


def bound(n: int, share: float) -> float:
    """The least of `Likeness.shares` that counts as unlike, so that at most 1 - share of like images do.

    Args:
        n: held-out images.
        share: in (0, 1).

    Raises:
        UsageError: if there are too few images to promise that.
    """
    k = rank(n, share)
    if k > n:
        raise UsageError(
            f"To call at most {100 * (1 - share):.3g} % of like images unlike takes {fewest(share):,} validation "
            f"images; there are {n:,}.",
            f"Ask for less, such as  --unlike {np.floor(100 * n / (n + 1)) / 100:g}",
        )
    return k / (n + 1)


def _directions(features: npt.NDArray[np.floating]) -> Floats:
    """Features (B, D) of length 1."""
    values = features.astype(np.float64)
    directions: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), _TINY)
    return directions


def _nearest(points: Floats, means: npt.NDArray[Any]) -> Floats:
    """The squared distance of points (B, D) to the nearest of means (K, D), (B,)."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ means.T + (means.astype(np.float64) ** 2).sum(axis=1)
    found: Floats = np.maximum(squares.min(axis=1), 0.0)
    return found
