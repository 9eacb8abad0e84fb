"""Charts as SVG within a figure with its words and legend, in colours of the page's variables: for dark mode and print.

A colour never stands alone: lines differ in their dashes and markers, too. All texts are escaped here; what comes back
is `Markup` that a template puts out as it is. Points that are not finite are gaps.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from imgkit.errors import printable
from imgkit.report.html.axes import Axis, Scale, scale_of

LOOKS = 7  # colours of page.css; after them they begin anew, with other dashes
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 34.0, 40.0  # room for what is written beside the plot
_MARKED = 60  # points up to which each has a marker
_MOST = 400  # points of a line; of more, the highest and the lowest of each stretch are drawn


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        label: for the legend.
        x: places.
        y: values; not finite where there are none.
        look: number of its colour, dashes and marker.
        dashed: as a second line of the same colour.
        stepped: y is in force from x - 0.5 to x + 0.5.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    look: int = 0
    dashed: bool = False
    stepped: bool = False


@dataclass(frozen=True)
class Band:
    """A stretch of the horizontal axis with a name, such as a phase."""

    label: str
    start: float
    stop: float


@dataclass(frozen=True)
class Point:
    """A point with what a pointer over it tells, and the ends of its interval, if it has one."""

    x: float
    y: float
    label: str
    look: int = 0
    interval: tuple[float, float] | None = None


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    bands: Sequence[Band] = (),
    marks: Sequence[Point] = (),
    width: float = 440,
    height: float = 270,
) -> Markup:
    """Lines over x, with named stretches of it and single points.

    Args:
        title: above the chart; also its name for screen readers.
        description: what it shows, in a sentence, for screen readers and below the title.
        series: the lines.
        x: the horizontal axis.
        y: the vertical axis.
        bands: stretches of x.
        marks: single points.
        width: of the drawing, which grows with the page.
        height: likewise.
    """
    across = scale_of(x, [one for line in series for one in line.x], _LEFT, width - _RIGHT)
    values = [*(one for line in series for one in line.y), *(point.y for point in marks)]
    up = scale_of(y, values, height - _BOTTOM, _TOP)
    parts = [_bands(bands, across, up), _frame(x, y, across, up)]
    parts += [_line(line, across, up) for line in series]
    parts += [_point(point, across, up) for point in marks]
    legend = [(line.label, line.look, line.dashed) for line in series]
    return figure(title, description, parts, width, height, legend)


def scatter(
    title: str,
    description: str,
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    *,
    legend: Sequence[str] = (),
    width: float = 440,
    height: float = 270,
) -> Markup:
    """Points with their intervals; `legend` names the looks 0, 1, … where they mean something."""
    across = scale_of(x, [point.x for point in points], _LEFT, width - _RIGHT)
    ends = [end for point in points for end in (point.y, *(point.interval or ()))]
    up = scale_of(y, ends, height - _BOTTOM, _TOP)
    parts = [_frame(x, y, across, up), *(_point(point, across, up) for point in points)]
    return figure(title, description, parts, width, height, [(name, look, False) for look, name in enumerate(legend)])


def reliability_diagram(
    title: str,
    description: str,
    bins: Sequence[tuple[float, float, int]],
    *,
    width: float = 440,
    height: float = 330,
) -> Markup:
    """Share of right answers over confidence.

    Args:
        title: above it.
        description: what it shows.
        bins: mean confidence, share of right answers (fractions) and number of answers of each bin that has some.
        width: of the drawing.
        height: of the drawing.
    """
    x, y = Axis("how sure the model was, %"), Axis("right answers, %")
    across, up = Scale(0, 100, _LEFT, width - _RIGHT), Scale(0, 100, height - _BOTTOM, _TOP)
    most = max((count for *_, count in bins), default=1)
    parts = [_frame(x, y, across, up)]
    parts.append(path_of(f"M{px(across(0))} {px(up(0))}L{px(across(100))} {px(up(100))}", "edge"))
    for sure, right, count in bins:
        radius = 3 + 7 * math.sqrt(count / most)
        words = f"{count:,} answers, on average {100 * sure:.1f} % sure: {100 * right:.1f} % right"
        parts.append(
            path_of(f"M{px(across(100 * sure))} {px(up(100 * sure))}V{px(up(100 * right))}", "line c1")
            + Markup('<circle class="fill c0" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                px(across(100 * sure)), px(up(100 * right)), px(radius), words
            )
        )
    return figure(title, description, parts, width, height, [])


def figure(
    title: str,
    description: str,
    parts: Iterable[Markup],
    width: float,
    height: float,
    legend: Sequence[tuple[str, int, bool]],
) -> Markup:
    """A chart with its title and legend: labels with their looks and whether they are dashed; sizes in pixels."""
    keys = Markup("").join(
        Markup('<li><svg viewBox="0 0 36 12" aria-hidden="true" focusable="false">{}</svg>{}</li>').format(
            stroke("M0 6H36", look, dashed) + _marker(18, 6, look), printable(label)
        )
        for label, look, dashed in legend
    )
    return Markup(
        '<figure class="chart"><figcaption><strong>{title}</strong> {description}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="img"><title>{title}</title><desc>{description}</desc>{parts}</svg>'
        "{legend}</figure>"
    ).format(
        title=printable(title),
        description=printable(description),
        width=px(width),
        height=px(height),
        parts=Markup("").join(parts),
        legend=Markup('<ul class="legend">{}</ul>').format(keys) if legend else "",
    )


def _frame(x: Axis, y: Axis, across: Scale, up: Scale) -> Markup:
    """Grid lines, the numbers beside them, and what the axes measure."""
    parts = []
    for value in up.ticks():
        place = px(up(value))
        parts.append(path_of(f"M{px(across.start)} {place}H{px(across.stop)}", "grid"))
        parts.append(text_at(across.start - 6, up(value) + 4, f"{value:g}", anchor="end"))
    for value in across.ticks():
        parts.append(path_of(f"M{px(across(value))} {px(up.start)}v4", "axis"))
        parts.append(text_at(across(value), up.start + 16, f"{value:g}", anchor="middle"))
    parts.append(path_of(f"M{px(across.start)} {px(up.start)}H{px(across.stop)}", "axis"))
    parts.append(text_at((across.start + across.stop) / 2, up.start + 33, x.label, anchor="middle"))
    parts.append(text_at(2, 12, y.label))
    return Markup("").join(parts)


def _bands(bands: Sequence[Band], across: Scale, up: Scale) -> Markup:
    """Every other stretch is shaded, each has its name at its top and an edge where the next one begins."""
    parts = []
    for number, band in enumerate(bands):
        left, right = across(band.start), across(band.stop)
        if number % 2:
            parts.append(
                Markup('<rect class="band" x="{}" y="{}" width="{}" height="{}"/>').format(
                    px(left), px(up.stop), px(right - left), px(up.start - up.stop)
                )
            )
        if number:
            parts.append(path_of(f"M{px(left)} {px(up.stop)}V{px(up.start)}", "edge"))
        parts.append(text_at((left + right) / 2, up.stop - 6, band.label, "strong", anchor="middle"))
    return Markup("").join(parts)


def _line(line: Series, across: Scale, up: Scale) -> Markup:
    pieces, parts = _pieces(line), list[Markup]()
    for points in pieces:
        corners = _corners(points) if line.stepped else _thinned(points)
        steps = "L".join(f"{px(across(x))} {px(up(y))}" for x, y in corners)
        parts.append(stroke(f"M{steps}", line.look, line.dashed))
    if sum(map(len, pieces)) <= _MARKED and not line.stepped:
        parts += [_marker(across(x), up(y), line.look) for points in pieces for x, y in points]
    return Markup("").join(parts)


def _pieces(line: Series) -> list[list[tuple[float, float]]]:
    """The stretches of a line without a gap."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append((float(x), float(y)))
        elif pieces[-1]:
            pieces.append([])
    return [points for points in pieces if points]


def _corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x + side, y) for x, y in points for side in (-0.5, 0.5)]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most `_MOST` points of a stretch, and no peak lost."""
    if len(points) <= _MOST:
        return points
    size = math.ceil(2 * len(points) / (_MOST - 2))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        rows = range(start, min(start + size, len(points)))
        kept |= {min(rows, key=lambda row: points[row][1]), max(rows, key=lambda row: points[row][1])}
    return [points[row] for row in sorted(kept)]


def _point(point: Point, across: Scale, up: Scale) -> Markup:
    x, y = across(point.x), up(point.y)
    whisker = Markup("")
    if point.interval is not None:
        low, high = map(up, point.interval)
        whisker = path_of(f"M{px(x)} {px(low)}V{px(high)}M{px(x - 4)} {px(low)}h8M{px(x - 4)} {px(high)}h8", "axis")
    return Markup("<g>{}{}<title>{}</title></g>").format(
        whisker, _marker(x, y, point.look, size=5), printable(point.label)
    )


def stroke(path: str, look: int, dashed: bool) -> Markup:
    """A line of a series, by its look."""
    dashes = _DASHES[(look // LOOKS + dashed) % len(_DASHES)]
    style = Markup(' stroke-dasharray="{}"').format(dashes) if dashes else ""
    return Markup('<path class="line c{}" d="{}"{}/>').format(look % LOOKS, path, style)


def _marker(x: float, y: float, look: int, size: float = 3.5) -> Markup:
    """Disc, square, triangle, diamond, …: by the look."""
    shapes = (
        None,
        f"M{px(x - size)} {px(y - size)}h{2 * size}v{2 * size}h{-2 * size}z",
        f"M{px(x)} {px(y - 1.3 * size)}l{1.2 * size:g} {2.2 * size:g}h{-2.4 * size:g}z",
        f"M{px(x)} {px(y - 1.4 * size)}l{1.4 * size:g} {1.4 * size:g}l{-1.4 * size:g} {1.4 * size:g}"
        f"l{-1.4 * size:g} {-1.4 * size:g}z",
        f"M{px(x)} {px(y + 1.3 * size)}l{1.2 * size:g} {-2.2 * size:g}h{-2.4 * size:g}z",
    )
    shape = shapes[look % len(shapes)]
    if shape is None:
        return Markup('<circle class="fill c{}" cx="{}" cy="{}" r="{:g}"/>').format(look % LOOKS, px(x), px(y), size)
    return Markup('<path class="fill c{}" d="{}"/>').format(look % LOOKS, shape)


def path_of(path: str, kind: str) -> Markup:
    """A path that the style sheet knows by its kind."""
    return Markup('<path class="{}" d="{}"/>').format(kind, path)


def text_at(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Markup:
    """Words beside the pixel (x, y), escaped."""
    return Markup('<text{} x="{}" y="{}" text-anchor="{}">{}</text>').format(
        Markup(' class="{}"').format(kind) if kind else "", px(x), px(y), anchor, escape(printable(text))
    )


def px(number: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{number:.1f}".rstrip("0").rstrip(".")
