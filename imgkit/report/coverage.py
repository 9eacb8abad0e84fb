"""What leaving answers open would gain: the risk-coverage curve of an evaluation, as numbers and as a chart."""

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from imgkit.metrics import FEWEST
from imgkit.report.stored import Answers, AnswersOfSets
from imgkit.selective import Area, RiskCurve, area_of, risk_curve
from imgkit.terminal import percent

LEVELS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Coverages that have a row."""


@dataclass(frozen=True)
class Kept:
    """What a threshold leaves; fractions in [0, 1].

    Args:
        threshold: the least probability of an answer.
        answered: how many answers are given.
        coverage: their share of the images.
        wrong: how many of them are wrong.
        risk: the share of these.
        interval: Wilson's, 95 %, of the risk.
    """

    threshold: float
    answered: int
    coverage: float
    wrong: int
    risk: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Coverage:
    """What the page says of answers that could be left open.

    Args:
        curve: risk against coverage.
        area: under the curve.
        rows: the highest threshold that answers at least each of `LEVELS`; fewer where thresholds agree.
    """

    curve: RiskCurve
    area: Area
    rows: tuple[Kept, ...]


def coverage_of(answers: Answers | AnswersOfSets) -> Coverage | None:
    """From what was answered; None in a multi-label task, where an answer is no single one."""
    if not isinstance(answers, Answers) or not len(answers.paths):
        return None
    n, curve = len(answers.paths), risk_curve(answers.prob, answers.right)
    places = dict.fromkeys(int(np.searchsorted(curve.coverage, level - 1e-9)) for level in LEVELS)  # 0.95 of 20 is 19
    rows = [
        Kept(
            threshold=float(curve.threshold[place]),
            answered=round(curve.coverage[place] * n),
            coverage=float(curve.coverage[place]),
            wrong=round(curve.risk[place] * curve.coverage[place] * n),
            risk=float(curve.risk[place]),
            interval=(float(curve.low[place]), float(curve.high[place])),
        )
        for place in places
    ]
    return Coverage(curve, area_of(answers.prob, answers.right), tuple(rows))


def area_words(area: Area) -> str:
    """`2.1 % (95 % interval 1.6 to 2.8); 0.4 % if every mistake were less sure than …, 8.3 % if …`."""
    ends = area.interval
    interval = "" if ends is None else f" (95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    return (
        f"{percent(area.value)}{interval}; {percent(area.best)} if all mistakes were less sure than all right answers, "
        f"{percent(area.chance)} if sureness told nothing"
    )


def coverage_line(coverage: Coverage) -> str:
    """For a terminal: the area, and what answering four fifths would give."""
    most = next((row for row in coverage.rows if row.coverage < 1), None)
    words = f"area under the risk-coverage curve {area_words(coverage.area)}"
    if most is None:
        return words
    kept = min(coverage.rows, key=lambda row: abs(row.coverage - 0.8))
    return (
        f"{words}; {percent(kept.coverage)} answered (from {kept.threshold:.3g} on): {percent(1 - kept.risk)} of them "
        "rightly"
    )


def coverage_chart(coverage: Coverage) -> Markup:
    """The curve with its band, from `FEWEST` answers on; nothing where there are fewer."""
    from imgkit.report.html.axes import Axis
    from imgkit.report.html.svg import Series, line_chart

    curve, n = coverage.curve, coverage.rows[0].answered
    shown = curve.coverage * n >= min(FEWEST, n)
    if shown.sum() < 2:
        return Markup("")
    x = (100 * curve.coverage[shown]).tolist()
    ends = [*(100 * curve.low[shown]).tolist(), math.nan, *(100 * curve.high[shown]).tolist()]  # with a gap between
    lines = [
        Series("wrong among the answered", x, (100 * curve.risk[shown]).tolist()),
        Series("95 % interval of each point", [*x, math.nan, *x], ends, look=1, dashed=True),
    ]
    return line_chart(
        "Risk by coverage",
        f"The surest answers come first; from {min(FEWEST, n)} answers on.",
        lines,
        Axis("answered, % of the images", low=0, high=100),
        Axis("wrong among them, %", low=0),
    )
