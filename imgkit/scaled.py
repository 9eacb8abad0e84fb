"""Features as logistic regression wants them, centred and scaled on train, without a second copy of all of them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 2**22  # numbers in float64 at once where features are converted: 32 MiB
_COLUMNS = 16  # features at once where they are measured, at least


@dataclass(frozen=True, eq=False)
class Scaled:
    """Features as the fits see them, in float64: (features - mean) * scale, made of the rows that are asked for.

    Only the rows of one fit are held in float64, and no temporary of their size is made: memory is the limit here.

    Attributes:
        features: float32 (N, D).
        mean: (D,).
        scale: (D,), of `pareto_scale`; 0 for a column that does not vary, which becomes zeros.
        basis: with fewer images than features, (D, N): the rows are then coordinates (N, N) in it. The penalised
            optimum lies in the span of the images, and a rotation keeps the penalty: nothing is lost.
        coordinates: of all rows in `basis`.
    """

    features: npt.NDArray[np.float32]
    mean: Floats
    scale: Floats
    basis: Floats | None = None
    coordinates: Floats | None = None

    @classmethod
    def of(cls, features: npt.NDArray[np.float32]) -> "Scaled":
        """Measure all features (N, D)."""
        n, width = features.shape
        mean, std, largest = np.empty(width), np.empty(width), np.empty(width)
        # Of one column alone numpy would sum in another order, and a C-ordered block is summed as the whole would be.
        at_once = max(_COLUMNS, _BLOCK // n)
        edges = np.linspace(0, width, max(1, width // at_once) + 1).astype(int).tolist()
        for block in (slice(*pair) for pair in pairwise(edges)):
            x = features[:, block].astype(np.float64)
            mean[block] = x.mean(axis=0)
            std[block], largest[block] = x.std(axis=0), np.abs(x).max(axis=0)
        scale = pareto_scale(std, largest)
        found = cls(features, mean, scale)
        if n >= width:
            return found
        basis, coordinates = np.linalg.qr(found.rows().T)  # x.T = basis @ coordinates
        return cls(features, mean, scale, basis, np.ascontiguousarray(coordinates.T))

    def rows(self, chosen: Ints | None = None) -> Floats:
        """Rows (n, D) in float64, or (n, N) in the basis; all of them where none are chosen."""
        if self.coordinates is not None:
            return self.coordinates if chosen is None else self.coordinates[chosen]
        chosen = np.arange(len(self.features)) if chosen is None else chosen
        x = np.empty((len(chosen), self.features.shape[1]))
        at_once = _rows_at_once(x.shape[1])
        for start in range(0, len(x), at_once):
            part = x[start : start + at_once]
            part[:] = self.features[chosen[start : start + at_once]]
            part -= self.mean
            part *= self.scale
        return x

    def back(self, weight: Floats) -> Floats:
        """Weight (K, n) of what `rows` gave -> weight (K, D) of the scaled features."""
        return weight if self.basis is None else weight @ self.basis.T


def finite_rows(features: torch.Tensor) -> int:
    """How many rows of features (N, D) are finite."""
    return sum(int(torch.isfinite(part).all(dim=1).sum()) for part in features.split(_rows_at_once(features.shape[1])))


def pareto_scale(std: Floats, largest: Floats) -> Floats:
    """1 / sqrt(s * r) of each feature (D,), of standard deviation s, where r is the root mean square of all s.

    Pareto scaling (van den Berg et al. 2006, BMC Genomics 7:142). With 1 / s a feature that hardly varies may get a
    weight of hundreds, and the first update of the layers below it upsets every logit.

    Args:
        std: of each feature (D,).
        largest: absolute value of each; one that varies by no more than its rounding in float32 gets 0.
    """
    varies = std > 1e-6 * largest
    usual = np.sqrt(np.square(std[varies]).mean()) if varies.any() else 1.0
    return np.divide(1.0, np.sqrt(std * usual), out=np.zeros_like(std), where=varies)


def _rows_at_once(width: int) -> int:
    return max(1, _BLOCK // width)
