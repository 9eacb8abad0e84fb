"""Draws a learning curve: scores against the number of images, and where a fitted law goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imgkit.plots.drawing import COLOURS, SIZE, draw_legend, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
NAME = "learning-curve"


@dataclass(frozen=True)
class Growth:
    """One score.

    Attributes:
        label: "macro F1".
        scores: in [0, 1], of each size and seed, (J, S).
        law: a fitted curve; None: it is not drawn.
        end: (images, low, high): the interval of the score with more images; None where nothing is said of it.
    """

    label: str
    scores: Floats
    law: Callable[[npt.ArrayLike], Floats] | None = None
    end: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class GrowthPlot:
    """What is drawn.

    Attributes:
        title: of the network.
        sizes: images, (J,).
        growths: the first score is in the first colour.
        note: below the plot's title.
    """

    title: str
    sizes: Floats
    growths: Sequence[Growth]
    note: str


def draw_growth(plot: GrowthPlot, out: Path) -> bool:
    """Write learning-curve.png and .svg into a folder, if matplotlib is there.

    Raises:
        DiskError: if they cannot be written.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    with styled():
        save_figure(figure_of(plot), out, NAME)
    return True


def figure_of(plot: GrowthPlot) -> "Figure":
    """The figure: a dot for each seed, a line through the means, dashes where the law is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, entries = Figure(figsize=SIZE, layout="constrained"), []
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="training images", ylabel="%")
    for growth, colour in zip(plot.growths, (COLOURS["val"], COLOURS["train"]), strict=False):
        for scores in growth.scores.T:
            axes.plot(plot.sizes, 100 * scores, ".", color=colour, alpha=0.5, gid="seeds")
        entries += axes.plot(plot.sizes, 100 * growth.scores.mean(axis=1), color=colour, label=growth.label, gid="mean")
        if growth.law is not None and growth.end is not None:
            images, low, high = growth.end
            x = np.geomspace(plot.sizes[0], images, 100)
            label = f"{growth.label}, fitted"
            entries += axes.plot(x, 100 * growth.law(x), color=colour, linestyle="--", linewidth=1, label=label)
            axes.vlines(images, 100 * low, 100 * high, color=colour, linewidth=1.6, gid="interval")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda images, _: f"{images:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Learning curve", loc="left", fontsize=11, fontweight="bold")
    axes.set_title(plot.title, loc="right", fontsize=8, color="0.45", parse_math=False)
    draw_legend(figure, entries, [plot.note])
    return figure
