"""Conformal prediction: for each image a set of classes that holds the true one as often as was promised."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from imgkit.errors import UsageError
from imgkit.probabilities import Floats

Bools = npt.NDArray[np.bool_]
_USUAL = 0.9  # of the draws of held-out images, in `Conformal.spread`


@dataclass(frozen=True)
class Conformal:
    """The rule of the sets: each class whose probability is at least `least`.

    Args:
        level: share of images whose set holds the true class, in (0, 1).
        n: held-out images that chose `least`.
        least: the smallest probability in a set.
    """

    level: float
    n: int
    least: float

    def sets(self, probs: Floats) -> Bools:
        """Which classes are in the sets, (N, K), of probabilities (N, K); a set may be empty."""
        found: Bools = probs >= self.least
        return found

    @property
    def spread(self) -> tuple[float, float]:
        """Between which coverages 90 of 100 draws of the held-out images lie.

        Over all draws the coverage is at least `level`. Given the held-out images it is Beta(k, n + 1 - k), k = `rank`,
        where probabilities have no ties (Vovk 2012).
        """
        from scipy.stats import beta

        k = rank(self.n, self.level)
        low, high = beta.ppf([(1 - _USUAL) / 2, (1 + _USUAL) / 2], k, self.n + 1 - k)
        return float(low), float(high)


def rank(n: int, level: float) -> int:
    """ceil((n + 1) * level): which of n held-out scores, in ascending order, the finite-sample quantile is.

    `level` counts as it is written: 0.55 of 100 is 55, which binary fractions would make 56.
    """
    return math.ceil((n + 1) * Fraction(repr(float(level))))


def fit(probs: Floats, targets: npt.NDArray[np.int64], level: float) -> Conformal:
    """Split conformal prediction (Papadopoulos et al. 2002) by 1 - p of the true class (Sadinle et al. 2019).

    Of images that are drawn as the held-out ones are, the sets hold the true class with a probability of `level` or
    more, by 1 / (n + 1) at most where no probabilities are tied. This score gives the smallest sets on average; they
    are right that often over all images, not within each class.

    Args:
        probs: of the held-out images, (N, K).
        targets: their true classes, (N,).
        level: in (0, 1).

    Raises:
        UsageError: if there are fewer images than the level needs.
    """
    n = len(targets)
    k = rank(n, level)
    if k > n:
        needed = fewest(level)
        possible = math.floor(1000 * n / (n + 1)) / 1000
        hint = f"Ask for {possible:g} or less, or train with more validation images."
        raise UsageError(
            f"Sets that hold the true class in {100 * level:g} % of images need {needed:,} validation images; there "
            f"are {n:,}.",
            hint if possible > 0 else "Train with more validation images.",
        )
    own = np.sort(probs[np.arange(n), targets])[::-1]  # the smallest score first
    return Conformal(level, n, float(own[k - 1]))


def fewest(level: float) -> int:
    """The smallest number of held-out images that a level can be promised from: level / (1 - level), rounded up."""
    exact = Fraction(repr(float(level)))
    return math.ceil(exact / (1 - exact))
