import math
import re

import pytest
from markupsafe import Markup
from page_reader import read_page, text_of

from imgkit.report.html.axes import Axis
from imgkit.report.html.svg import (
    Band,
    Point,
    Series,
    line_chart,
    reliability_diagram,
    scatter,
)

EVIL = '</title><script>x</script>"\u202e'


def charts(text: str) -> list[Markup]:
    x, y = Axis(text), Axis(text)
    points = [Point(1, 2, text, interval=(1.5, 2.5)), Point(2, 3, text, look=1)]
    return [
        line_chart(text, text, [Series(text, (1, 2), (0.5, 0.7))], x, y, bands=[Band(text, 0.5, 2.5)], marks=points),
        scatter(text, text, points, x, y, legend=[text, text]),
        reliability_diagram(text, text, [(0.2, 0.3, 5), (0.9, 0.8, 50)]),
    ]


@pytest.mark.parametrize("number", range(3))
def test_texts_are_escaped_and_visible(number: int) -> None:
    plain, evil = read_page(charts("plain")[number]), read_page(charts(EVIL)[number])
    assert evil.elements == plain.elements
    assert [one[:2] for one in evil.attributes] == [one[:2] for one in plain.attributes]
    assert "\\u202e" in text_of(charts(EVIL)[number])
    assert "\u202e" not in charts(EVIL)[number]


@pytest.mark.parametrize("number", range(3))
def test_a_chart_has_a_name_a_description_and_no_style_of_its_own(number: int) -> None:
    page = read_page(charts("plain")[number])
    assert {"title", "desc", "figcaption"} <= set(page.elements)
    assert ("svg", "role", "img") in page.attributes
    assert not any(name in ("style", "fill", "stroke", "id") or name.startswith("on") for _, name, _ in page.attributes)


def test_points_that_are_not_finite_are_gaps() -> None:
    chart = line_chart("t", "d", [Series("a", (1, 2, 3, 4), (1.0, math.nan, 2.0, math.inf))], Axis("x"), Axis("y"))
    assert len(re.findall('<path class="line c0" d="M[^L"]*"', chart)) == 3  # two pieces of one point, and the legend
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_long_line_is_thinned_and_keeps_its_peaks() -> None:
    y = [0.0] * 5000
    y[1234], y[4321] = 9.0, -7.0
    chart = line_chart("t", "d", [Series("a", range(5000), y)], Axis("x"), Axis("y", -10, 10))
    path = max(re.findall(' d="([^"]*)"', chart), key=len)
    places = [float(point.split()[1]) for point in path[1:].split("L")]
    assert len(places) <= 400
    assert min(places) == pytest.approx(34 + (10 - 9) / 20 * 196, abs=0.1)
    assert max(places) == pytest.approx(34 + (10 + 7) / 20 * 196, abs=0.1)


def test_two_lines_of_one_colour_differ_in_their_dashes() -> None:
    series = [
        Series("a", (1, 2), (1, 2)),
        Series("b", (1, 2), (2, 1), dashed=True),
        Series("c", (1, 2), (2, 2), look=7),
    ]
    dashes = re.findall(
        '<path class="line c0" d="[^"]*"( stroke-dasharray="[^"]*")?',
        line_chart("t", "d", series, Axis("x"), Axis("y")),
    )
    assert len(set(dashes[:3])) == 2
    assert dashes[0] == ""
