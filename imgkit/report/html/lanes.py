"""Two charts of a sweep: bars, and parallel coordinates. As in `svg`, whose pieces these are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from imgkit.errors import printable
from imgkit.report.html.svg import figure, path_of, px, stroke, text_at

_ROW, _NAMES, _SHARE = 26.0, 190.0, 48.0  # height of a bar's row, room for names and for the number behind it
_TOP, _BOTTOM, _SIDE = 58.0, 22.0, 60.0


@dataclass(frozen=True)
class Lane:
    """A vertical axis.

    Args:
        label: above it.
        low: at its foot.
        high: at its top.
        names: of places between 0 and 1 that are written beside it, for one without numbers at its ends.
    """

    label: str
    low: str
    high: str
    names: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Thread:
    """A line through all axes: a place between 0 and 1 on each, and what a pointer over it tells."""

    places: Sequence[float]
    label: str
    strong: bool = False


def bars(title: str, description: str, shares: Sequence[tuple[str, float]], *, width: float = 440) -> Markup:
    """Shares in [0, 1] as bars with their names, from top to bottom."""
    height, full = _ROW * len(shares) + 8, width - _NAMES - _SHARE
    parts = []
    for number, (name, share) in enumerate(shares):
        y = 8 + _ROW * number
        parts.append(text_at(_NAMES - 8, y + 12, name, anchor="end"))
        parts.append(
            Markup(
                '<rect class="fill c0" x="{}" y="{}" width="{}" height="16"><title>{}: {:.0f} %</title></rect>'
            ).format(px(_NAMES), px(y), px(max(0.5, share * full)), printable(name), 100 * share)
        )
        parts.append(text_at(_NAMES + share * full + 6, y + 12, f"{100 * share:.0f} %"))
    return figure(title, description, parts, width, height, [])


def parallel(
    title: str, description: str, lanes: Sequence[Lane], threads: Sequence[Thread], *, height: float = 300
) -> Markup:
    """Lines through vertical axes; strong ones are drawn over the others, which are dashed."""
    step = 150.0
    width = 2 * _SIDE + step * (len(lanes) - 1)
    foot, parts = height - _BOTTOM, list[Markup]()

    def up(share: float) -> float:
        return foot - share * (foot - _TOP)

    for thread in sorted(threads, key=lambda one: one.strong):
        path = "L".join(f"{px(_SIDE + step * at)} {px(up(place))}" for at, place in enumerate(thread.places))
        line = stroke(f"M{path}", 1 if thread.strong else 0, not thread.strong)
        parts.append(Markup("<g>{}<title>{}</title></g>").format(line, printable(thread.label)))
    for at, lane in enumerate(lanes):
        x = _SIDE + step * at
        parts.append(path_of(f"M{px(x)} {px(foot)}V{px(_TOP)}", "axis"))
        parts.append(text_at(x, 14 + 16 * (at % 2), lane.label, "strong", anchor="middle"))
        for place, name in lane.names or ((0.0, lane.low), (1.0, lane.high)):
            above = -4.0 if place == 1.0 else 14.0 if place == 0.0 else 4.0
            parts.append(
                text_at(
                    x + (0 if place in (0.0, 1.0) else 6),
                    up(place) + above,
                    name,
                    "over",
                    anchor="middle" if place in (0.0, 1.0) else "start",
                )
            )
    return figure(title, description, parts, width, height, [("the best trial", 1, False), ("the others", 0, True)])
