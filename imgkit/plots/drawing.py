"""Draws plots with matplotlib, its object interface alone: no display, no state between two figures.

Colours are those of Okabe and Ito (2008), which differ for every kind of colour vision; scores of one split differ by
dashes besides.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imgkit.errors import UsageError, disk_told, printable
from imgkit.files import replace_bytes
from imgkit.plots.curves import Kind, Plot, plots_of
from imgkit.plots.history import History, Phase
from imgkit.sheet import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS: dict[Kind, str] = {"train": "#0072B2", "val": "#D55E00", "delta": "#009E73", "rate": "#000000"}
_GREY = "0.45"
SIZE = 7.0, 4.0  # inches
_DPI = 150
_LETTERS = 88  # of the small size that fit beside each other into the width of the axes
_READABLE = 6  # letters of a longer phase name that have to be left of it above its span; else it gets a number
_DOTTED = 60  # points of a curve up to which each has a dot
_LISTED = 8  # numbered phases that the legend names
_LEGEND = 104  # letters of the legend's size that fit beside each other into the figure
_HANDLE = 8  # letters that the line before an entry takes, and the space after it
_TITLE = 70  # letters
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "0.9",
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "imgkit",
}


def require_matplotlib() -> None:
    """See that plots can be drawn.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError(
            "Plots are drawn by matplotlib, which is not installed.", 'Install it:  pip install "imgkit-timm[plot]"'
        ) from None


def write_plots(history: History, out: Path) -> list[str]:
    """Write the plots of a history into `out` as NAME.png and NAME.svg; returns the names.

    The same history gives the same bytes, under one version of matplotlib.

    Raises:
        DiskError: if `out` cannot be written.
    """
    plots = plots_of(history)
    with disk_told(out):
        out.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        with styled():
            save_figure(figure_of(plot, history), out, plot.name)
    return [plot.name for plot in plots]


def save_figure(figure: "Figure", out: Path, name: str) -> None:
    """Write a figure as NAME.png and NAME.svg; the same figure gives the same bytes.

    Raises:
        DiskError: if they cannot be written.
    """
    for form, about in (("png", {"Software": None}), ("svg", {"Date": None})):
        content = io.BytesIO()
        figure.savefig(content, format=form, dpi=_DPI, metadata=about)
        with disk_told(out / f"{name}.{form}"):
            replace_bytes(out / f"{name}.{form}", content.getvalue())


@contextmanager
def styled() -> Iterator[None]:
    """The style of all plots, whatever the user's matplotlibrc says."""
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]):
        yield


def figure_of(plot: Plot, history: History) -> "Figure":
    """The figure of one plot: curves, the marked point, where phases change, and the chosen epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="epoch", ylabel=plot.unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    spans = history.spans
    axes.set_xlim(spans[0].start, spans[-1].stop)
    if plot.zero:
        axes.axhline(0, color=_GREY, linewidth=0.8, gid="zero")
    entries = _draw_lines(axes, plot)
    if plot.mark is not None:
        entries += axes.plot(
            [plot.mark.x],
            [plot.mark.y],
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor="black",
            label=plot.mark.words,
            gid="mark",
            clip_on=False,
        )
    if history.chosen is not None:
        for epoch in history.chosen.epochs:
            line = axes.axvline(epoch, color="black", linestyle=":", linewidth=1.2, gid="chosen")
        line.set_label(history.chosen.words)
        entries.append(line)
    if plot.name == "lr":
        _scale_rates(axes, plot)
    keys = _draw_phases(axes, spans)
    axes.set_title(plot.title, loc="left", fontsize=11, fontweight="bold", pad=20 if len(spans) > 1 else 8)
    axes.set_title(
        _shown(cut(printable(history.title), lambda text: len(text) <= _TITLE)),
        loc="right",
        fontsize=8,
        color=_GREY,
        pad=20 if len(spans) > 1 else 8,
        parse_math=False,
    )
    draw_legend(figure, entries, keys)
    return figure


def _draw_lines(axes: "Axes", plot: Plot) -> "list[Line2D]":
    drawn = []
    for line in plot.lines:
        (artist,) = axes.plot(
            line.x,
            line.y,
            color=COLOURS[line.kind],
            linestyle="--" if line.dashed else "-",
            marker="o" if len(line.x) <= _DOTTED else "",
            drawstyle="steps-mid" if line.stepped else "default",
            label=line.label,
            gid=f"{line.kind}:{line.label}",
        )
        drawn.append(artist)
    return drawn


def _scale_rates(axes: "Axes", plot: Plot) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if plot.log_from is not None:
        highest = max(value for line in plot.lines for value in line.y if value > 0)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8 * plot.log_from)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 1000 * plot.log_from else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.3g}"))


def _draw_phases(axes: "Axes", spans: list[Phase]) -> list[str]:
    """Lines where phases change, and their names above; returns `1 = name` for each that got a number instead."""
    if len(spans) == 1:
        return []
    whole, keys, taken = spans[-1].stop - spans[0].start, list[str](), -1.0
    for number, span in enumerate(spans, start=1):
        if number > 1:
            axes.axvline(span.start, color=_GREY, linestyle=(0, (6, 3)), linewidth=0.9, gid="change")
        name = _shown(printable(span.name)) or "no name"
        room = int(_LETTERS * (span.stop - span.start) / whole) - 1
        if room < min(len(name), _READABLE):
            keys.append(f"{number} = {cut(name, lambda text: len(text) <= _TITLE // 2)}")
            name, room = str(number), len(str(number))
        else:
            name = cut(name, lambda text: len(text) <= room)  # noqa: B023 - called before the next span
        middle = _LETTERS * ((span.start + span.stop) / 2 - spans[0].start) / whole
        if middle - len(name) / 2 < taken:
            continue  # a number that would lie over the one before; the legend has both
        taken = middle + len(name) / 2 + 0.5  # half a letter between two
        axes.text(
            (span.start + span.stop) / 2,
            1.02,
            name,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=_GREY,
            parse_math=False,
            gid="phase",
        )
    return keys


def draw_legend(figure: "Figure", entries: "list[Line2D]", keys: list[str]) -> None:
    """Below the axes, where it covers nothing."""
    from matplotlib.lines import Line2D

    if len(keys) > _LISTED:
        keys = [*keys[:_LISTED], f"… and {len(keys) - _LISTED} more phases"]
    nothing = [Line2D([], [], linestyle="none", label=key) for key in keys]
    handles = [*entries, *nothing]
    widths = [len(str(handle.get_label())) + _HANDLE for handle in handles]
    columns = next(n for n in (3, 2, 1) if n == 1 or sum(_columns(widths, n)) <= _LEGEND)
    found = figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=3)
    for text in found.get_texts():
        text.set_parse_math(False)


def _columns(widths: list[int], columns: int) -> list[int]:
    """The width of each column of a legend, which is filled column by column."""
    high = -(-len(widths) // columns)
    return [max(widths[start : start + high]) for start in range(0, len(widths), high)]


def _shown(text: str) -> str:
    """`text` in letters that the font has; others as their number."""
    from matplotlib import font_manager, ft2font

    font = ft2font.FT2Font(font_manager.findfont("DejaVu Sans"))
    return "".join(char if font.get_char_index(ord(char)) else f"U+{ord(char):04X}" for char in text)
