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
_EXPONENTS = np.geomspace(0.05, 2.0, 400)  # c; nothing within the sizes at hand tells what lies beyond apart
_UNLIKELY = 0.01  # of a test whether the law holds
_LARGER = 3  # sizes below all that tell how data sets of the whole size differ
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
    ((a, b, c),) = fit_power_laws(sizes, scores[None], errors).tolist()
    return PowerLaw(a, b, c, float(sizes[-1]))


def fit_power_laws(sizes: Floats, scores: Floats, errors: Floats) -> Floats:
    """(a, b, c) of each of B curves, (B, 3), with 0 <= a <= 1 and b >= 0; scores (B, J).

    For each c of a grid the law is linear in a and b, and the best within the bounds is the best of three: with none of
    them reached, with a = 1, with b = 0. So hundreds of draws are a few products of matrices.
    """
    powers = (sizes / sizes[-1]) ** -_EXPONENTS[:, None]  # (C, J)
    weights = errors**-2.0
    total, p, pp = weights.sum(), powers @ weights, powers**2 @ weights  # (C,)
    s, ps = scores @ weights, (scores * weights) @ powers.T  # (B,), (B, C)
    free_b = (p * s[:, None] - total * ps) / np.maximum(total * pp - p**2, 1e-300)
    free_a = (s[:, None] + free_b * p) / total
    free = (free_b >= 0) & (free_a <= 1) & (free_a >= 0)
    top_b = np.maximum((p - ps) / pp, 0.0)  # with a = 1
    flat_a = np.broadcast_to(np.clip(s / total, 0.0, 1.0)[:, None], ps.shape)  # with b = 0
    nothing, one = np.zeros_like(ps), np.ones_like(ps)
    a = np.stack([np.where(free, free_a, flat_a), one, flat_a])  # (3, B, C)
    b = np.stack([np.where(free, free_b, nothing), top_b, nothing])
    fitted = a[..., None] - b[..., None] * powers
    lost = (((fitted - scores[:, None]) ** 2) * weights).sum(axis=-1)
    best = lost.transpose(1, 0, 2).reshape(len(scores), -1).argmin(axis=1)
    way, place, row = *np.divmod(best, len(_EXPONENTS)), np.arange(len(scores))
    return np.stack([a[way, row, place], b[way, row, place], _EXPONENTS[place]], axis=1)


def extrapolate(
    sizes: Floats, scores: Floats, drawn: Floats, *, images: int, factor: float = 2.0, seed: int = 0
) -> Extrapolation | str:
    """What `factor` times the images would bring, or why too little was measured to say.

    The interval has three parts: draws of the held-out images, of the seeds, and of the images that are to come. The
    last two are drawn as if the score were a mean over the images that were learnt from, each of which moves it by a
    part of its own. So subsets of a share f differ by 1 - f of what data sets of their size do, which gives the spread
    of these, pooled over all sizes: five seeds alone, drawn with replacement, make intervals that are too short.

    Args:
        sizes: images of each subset (J,), ascending; the last one is all of them. Equal ones are the same subsets.
        scores: of each size and seed, (J, S), equal in the last row.
        drawn: the same on draws of the held-out images, (B, J, S).
        images: held-out ones.
        factor: how many times as many images, above 1.
        seed: of the draws.
    """
    sizes, kept = np.unique(sizes, return_index=True)  # shares of few images may be the same ones
    scores, drawn = scores[kept], drawn[:, kept]
    if len(sizes) < LEAST_SIZES or scores.shape[1] < 2:
        return f"it takes {LEAST_SIZES} sizes and two seeds, and there are {len(sizes)} and {scores.shape[1]}"
    rng, (draws, _, seeds) = np.random.default_rng(seed), drawn.shape
    spread = _spread(sizes, scores)
    # One image more or less cannot be told: without it a size at which all seeds agree would decide alone.
    errors = np.sqrt(spread**2 * (1 - sizes / sizes[-1]) / seeds + (0.5 / images) ** 2)
    law = fit_power_law(sizes, scores.mean(axis=1), errors)
    freedom = 2 * (seeds - 1)  # simulated: nested sizes tell of the spread about as much as two that are not
    # The spread of real sets shrinks less than that of a mean: here it is that of the larger ones, as it is.
    larger = np.sqrt(np.mean((spread[:-1] ** 2)[-_LARGER:]))
    own = larger * np.sqrt(freedom / rng.chisquare(freedom, draws))  # (B,), as little as is known of it
    taken = drawn.mean(axis=2) + own[:, None] / np.sqrt(seeds) * _bridges(sizes / sizes[-1], draws, rng)  # (B, J)
    _, b, c = fit_power_laws(sizes, taken, errors).T
    gains = b * (1 - factor**-c)
    a, b, c = fit_power_laws(sizes[:-1], taken[:, :-1], errors[:-1]).T
    last = a - b * (sizes[-1] / sizes[-2]) ** -c - taken[:, -1]
    gains += own * np.sqrt(1 - 1 / factor) * rng.normal(size=draws)
    last += own * np.sqrt(1 - sizes[-2] / sizes[-1]) * rng.normal(size=draws)
    gain = float(law(factor * sizes[-1]) - law(sizes[-1]))
    low, high = np.percentile(gains, (_LOW, _HIGH))
    refused = _misfit(sizes, scores.mean(axis=1), errors, law, np.percentile(last, (_LOW, _HIGH)))
    return Extrapolation(law, factor, gain, (min(float(low), gain), max(float(high), gain)), refused)


def _bridges(shares: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """How nested subsets of shares (J,) of one data set differ from it, (B, J): a Brownian bridge, over the share.

    The unit is the standard deviation of data sets of the whole size; the last column is 0.
    """
    walk = (rng.normal(size=(draws, len(shares))) * np.sqrt(np.diff(shares, prepend=0.0))).cumsum(axis=1)
    found: Floats = walk / shares - walk[:, -1:]
    return found


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
