"""The picture of a learning curve: what is drawn of what was measured."""

from pathlib import Path

import numpy as np
import pytest

from imgkit.curve_fit import PowerLaw
from imgkit.plots.growth import Growth, GrowthPlot, draw_growth, figure_of

SIZES = np.array([100.0, 200.0, 400.0])
SCORES = np.array([[0.5, 0.6], [0.6, 0.7], [0.7, 0.7]])
LAW = PowerLaw(0.9, 0.2, 0.5, 400.0)


def plot(*growths: Growth) -> GrowthPlot:
    return GrowthPlot("resnet50", SIZES, growths, "a note")


def test_dots_means_law_and_interval() -> None:
    figure = figure_of(plot(Growth("macro F1", SCORES, LAW, (800.0, 0.7, 0.8)), Growth("top-1", SCORES)))
    (axes,) = figure.axes
    lines = axes.get_lines()
    means = [line for line in lines if line.get_gid() == "mean"]
    assert [line.get_label() for line in means] == ["macro F1", "top-1"]
    assert list(means[0].get_ydata()) == pytest.approx([55.0, 65.0, 70.0])
    assert sum(line.get_gid() == "seeds" for line in lines) == 4
    (law,) = [line for line in lines if str(line.get_label()).endswith("fitted")]
    assert law.get_xdata()[-1] == pytest.approx(800.0)
    (interval,) = axes.collections
    assert interval.get_segments()[0].tolist() == [[800.0, 70.0], [800.0, 80.0]]


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert draw_growth(plot(Growth("macro F1", SCORES)), tmp_path / name)
    for file in ("learning-curve.png", "learning-curve.svg"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
