"""The inverse power law of a learning curve, and what it says of more images, with an interval or a reason for none.

score(n) = a - b (n / N)^-c: what learning curves of classifiers follow over a range of sizes (Figueroa et al. 2012,
Predicting sample size required for classification performance, BMC Medical Informatics and Decision Making 12:8;
Viering and Loog 2023, The Shape of Learning Curves: a Review, IEEE TPAMI 45:7799-7819, also on where they do not).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_SIZES = 4  # points of a fit of three numbers
_STEEPEST, _FLATTEST = 2.0, 0.05  # of c; what lies beyond is told apart by nothing within the sizes at hand
_UNLIKELY = 0.01  # of a test whether the law holds
_LOW, _HIGH = 2.5, 97.5  # percentiles of a 95 % interval


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve.

    Attributes:
        a: what the score tends to, in [0, 1].
        b: how far below it the score is with all images, 0 or more.
        c: how fast that shrinks.
        whole: N, all images.
    """

    a: float
    b: float
    c: float
    whole: float

    def __call__(self, images: npt.ArrayLike) -> Floats:
        """The score with so many images, in the form of `images`."""
        found: Floats = self.a - self.b * (np.asarray(images, dtype=np.float64) / self.whole) ** -self.c
        return found


@dataclass(frozen=True)
class Extrapolation:
    """What more images would bring.

    Attributes:
        law: fitted to the mean scores.
        factor: how many times as many images.
        gain: in score.
        interval: 95 %, of the gain of one such data set.
        refused: why nothing should be made of it, in words; "" where something may.
    """

    law: PowerLaw
    factor: float
    gain: float
    interval: tuple[float, float]
    refused: str = ""


def fit_power_law(sizes: Floats, scores: Floats, errors: Floats) -> PowerLaw:
    """The law with the least squares over sizes (J,), ascending; each score (J,) counts by its standard error (J,)."""
    from scipy.optimize import curve_fit

    whole, last = float(sizes[-1]), float(np.clip(scores[-1], 0.0, 1.0))
    rise = max(float(scores[-1] - scores[0]), 1e-3)
    (a, b, c), _ = curve_fit(
        lambda x, a, b, c: a - b * x**-c,
        sizes / whole,
        scores,
        p0=(min(1.0, last + rise / 2), rise / 2, 0.5),
        sigma=errors,
        bounds=([0.0, 0.0, _FLATTEST], [1.0, np.inf, _STEEPEST]),
        x_scale=(0.1, 0.1, 0.5),
    )
    return PowerLaw(float(a), float(b), float(c), whole)


def extrapolate(
    sizes: Floats, scores: Floats, drawn: Floats, *, images: int, factor: float = 2.0, seed: int = 0
) -> Extrapolation | str:
    """What `factor` times the images would bring, or why too little was measured to say.

    The interval has three parts: draws over the seeds, draws over the held-out images, and what one data set of that
    size differs from the next. The last one is as the seeds show it: subsets that hold a share f of all images differ
    by 1 - f of what whole data sets of their size do, and that shrinks as 1 / n.

    Args:
        sizes: images of each subset (J,), ascending; the last one is all of them.
        scores: of each size and seed, (J, S), equal in the last row.
        drawn: the same on draws of the held-out images, (B, J, S).
        images: held-out ones.
        factor: how many times as many images, above 1.
        seed: of the draws.
    """
    if len(np.unique(sizes)) < LEAST_SIZES or scores.shape[1] < 2:
        return (
            f"it takes {LEAST_SIZES} sizes and two seeds, and there are {len(np.unique(sizes))} and {scores.shape[1]}"
        )
    rng, (draws, _, seeds) = np.random.default_rng(seed), drawn.shape
    spread = _spread(sizes, scores)
    # One image more or less cannot be told: without it a size at which all seeds agree would decide alone.
    errors = np.sqrt(spread**2 * (1 - sizes / sizes[-1]) / seeds + (0.5 / images) ** 2)
    law = fit_power_law(sizes, scores.mean(axis=1), errors)
    gains, last = np.empty(draws), np.empty(draws)
    for number in range(draws):
        taken = drawn[number][:, rng.integers(0, seeds, seeds)].mean(axis=1)
        one = fit_power_law(sizes, taken, errors)
        gains[number] = one(factor * sizes[-1]) - one(sizes[-1])
        last[number] = fit_power_law(sizes[:-1], taken[:-1], errors[:-1])(sizes[-1]) - taken[-1]
    own = spread[-1] * np.sqrt(1 - 1 / factor)  # as of a mean over images, of which the first part is the same
    gains += rng.normal(0.0, own, draws)
    last += rng.normal(0.0, spread[-1] * np.sqrt(1 - sizes[-2] / sizes[-1]), draws)
    gain = float(law(factor * sizes[-1]) - law(sizes[-1]))
    low, high = np.percentile(gains, (_LOW, _HIGH))
    refused = _misfit(sizes, scores.mean(axis=1), errors, law, np.percentile(last, (_LOW, _HIGH)))
    return Extrapolation(law, factor, gain, (min(float(low), gain), max(float(high), gain)), refused)


def _spread(sizes: Floats, scores: Floats) -> Floats:
    """The standard deviation of the score over data sets of each size, (J,), pooled over the sizes below all."""
    share = sizes[:-1] / sizes[-1]
    pooled = np.mean(scores[:-1].var(axis=1, ddof=1) / (1 - share) * sizes[:-1])
    found: Floats = np.sqrt(pooled / sizes)
    return found


def _misfit(sizes: Floats, means: Floats, errors: Floats, law: PowerLaw, missed: Floats) -> str:
    """Why the law does not hold; "" where nothing speaks against it."""
    from scipy.stats import chi2

    if law.b < 1e-6 or means[-1] <= means[0]:
        return "more images have not raised the score so far"
    strange = float((((means - law(sizes)) / errors) ** 2).sum())
    if chi2.sf(strange, len(sizes) - 3) < _UNLIKELY:
        return "the scores do not follow a curve of the form a - b n^-c"
    if missed[0] > 0 or missed[1] < 0:
        side = "above" if missed[0] > 0 else "below"
        return f"the curve of the smaller sizes ends {side} what all images gave"
    return ""
