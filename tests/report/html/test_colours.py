"""Colours of page.css: text that can be read, lines that can be seen, in both themes (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re
from itertools import product
from pathlib import Path

import pytest

from imgkit.report.html import shell

CSS = (Path(shell.__file__).parent / "page.css").read_text()
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", CSS)
}
MIXES = [int(share) for share in re.findall(r"var\(--shade\) (\d+)%", CSS)]


def channels(colour: str) -> list[float]:
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def luminance(rgb: list[float]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_known_contrast() -> None:
    assert contrast(channels("#000000"), channels("#ffffff")) == pytest.approx(21)
    assert contrast(channels("#777777"), channels("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [0, 1])
def test_text_can_be_read(dark: int) -> None:
    for ink, paper in product(("ink", "soft", "link"), ("paper", "tint")):
        assert contrast(channels(COLOURS[ink][dark]), channels(COLOURS[paper][dark])) >= 4.5, (ink, paper)


@pytest.mark.parametrize("dark", [0, 1])
def test_lines_and_marks_can_be_seen(dark: int) -> None:
    for number, paper in product(range(7), ("paper", "tint")):
        assert contrast(channels(COLOURS[f"c{number}"][dark]), channels(COLOURS[paper][dark])) >= 3, (number, paper)


@pytest.mark.parametrize("dark", [0, 1])
def test_numbers_in_shaded_cells_can_be_read(dark: int) -> None:
    assert len(MIXES) == 4
    paper, ink = channels(COLOURS["paper"][dark]), channels(COLOURS["ink"][dark])
    for shade in (COLOURS[name][dark] for name in ("c0", "c1", "c3")):
        for share in MIXES:
            mixed = [share / 100 * a + (1 - share / 100) * b for a, b in zip(channels(shade), paper, strict=True)]
            assert contrast(ink, mixed) >= 4.5, (shade, share)
        assert contrast(paper, channels(shade)) >= 4.5, shade
