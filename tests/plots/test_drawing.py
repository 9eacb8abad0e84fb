"""The figures hold the numbers of the history: artists are looked at, not files."""

import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from plot_data import EPOCHS, plotted_run, svg_and_png

from imgkit.errors import DiskError, UsageError
from imgkit.plots.curves import plots_of
from imgkit.plots.drawing import figure_of, require_matplotlib, styled, write_plots
from imgkit.plots.history import Chosen, History, Rates, history_of_run
from imgkit.plots.table import history_of_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

pytest.importorskip("matplotlib")


def axes_of(history: History, name: str) -> "Axes":
    (plot,) = [plot for plot in plots_of(history) if plot.name == name]
    with styled():
        figure = figure_of(plot, history)
        figure.canvas.draw()  # a text that cannot be drawn is a warning, and so an error
    (axes,) = figure.axes
    return axes


def by_gid(axes: "Axes", gid: str) -> "list[Line2D | Text]":
    return [artist for artist in [*axes.lines, *axes.texts] if artist.get_gid() == gid]


def xy(axes: "Axes", gid: str) -> tuple[list[float], list[float]]:
    (line,) = by_gid(axes, gid)
    return list(line.get_xdata()), list(line.get_ydata())


def verticals(axes: "Axes", gid: str) -> list[float]:
    return [line.get_xdata()[0] for line in by_gid(axes, gid)]


def curve(n: int, phases: tuple[str, ...], **more: object) -> History:
    epochs = tuple(float(e) for e in range(1, n + 1))
    values = tuple(1 / e for e in epochs)
    return History("x", epochs, phases, {"train/loss": values, "val/loss": values}, **more)  # type: ignore[arg-type]


def test_the_example_with_its_stages() -> None:
    history = history_of_table(EPOCHS, phases="20,30")
    axes = axes_of(history, "accuracy")
    epochs = list(map(float, range(1, 40)))
    for split, name in (("train", "train top-1"), ("val", "test top-1")):
        x, y = xy(axes, f"{split}:{name}")
        assert x == epochs
        assert y == pytest.approx([100 * value for value in history.columns[f"{split}/top1"]])
    assert verticals(axes, "change") == [20.5, 30.5]
    assert [(text.get_text(), text.get_position()[0]) for text in by_gid(axes, "phase")] == [
        ("phase 1", 10.5),
        ("phase 2", 25.5),
        ("phase 3", 35.0),
    ]
    assert axes.get_xlim() == (0.5, 39.5)
    assert xy(axes_of(history, "loss"), "mark") == ([39.0], [1.1876])
    assert xy(axes_of(history, "delta-accuracy"), "zero")[1] == [0, 0]


def test_a_run_with_its_chosen_epoch(tmp_path: Path) -> None:
    best = {"step": 11, "metric": "val/f1_macro", "value": 0.7}
    history = history_of_run(plotted_run(tmp_path, best=best))
    for plot in plots_of(history):
        axes = axes_of(history, plot.name)
        assert verticals(axes, "change") == [0.5, 1.5], plot.name
        assert [text.get_text() for text in by_gid(axes, "phase")] == ["head", "warm", "all"]
        assert verticals(axes, "chosen") == [1]
        (legend,) = axes.figure.legends
        assert "chosen by val/f1_macro: epoch 1" in [text.get_text() for text in legend.get_texts()]
    axes = axes_of(history, "loss")
    assert xy(axes, "val:val loss") == ([0, 1, 2, 3], [0.8, 0.6, 0.5, 0.55])
    assert xy(axes, "mark") == ([2], [0.5])
    axes = axes_of(history, "delta-loss")
    assert xy(axes, "delta:loss")[1] == pytest.approx([0.1, 0.2, 0.0, -0.25])
    axes = axes_of(history, "lr")
    assert axes.get_yscale() == "log", "0.002 in warm, 0.0001 in all"
    assert [y for y in xy(axes, "rate:learning rate")[1] if not math.isnan(y)] == [0.001, 0.002, 0.0001, 0.00005]
    assert axes.get_ylim()[0] == pytest.approx(0.00004)


def test_all_epochs_of_a_mean_are_marked(tmp_path: Path) -> None:
    best = {"step": 21, "metric": "val/loss", "mean_of": [31, 21]}
    assert verticals(axes_of(history_of_run(plotted_run(tmp_path, best=best)), "f1"), "chosen") == [2, 3]


def test_one_epoch_is_a_dot_at_a_whole_number() -> None:
    axes = axes_of(curve(1, ("all",)), "loss")
    assert xy(axes, "val:val loss") == ([1], [1])
    assert by_gid(axes, "val:val loss")[0].get_marker() == "o"
    low, high = axes.get_xlim()
    assert [x for x in axes.get_xticks() if low <= x <= high] == [1]
    assert verticals(axes, "change") == []
    assert by_gid(axes, "phase") == []


def test_three_hundred_epochs_have_no_dots() -> None:
    axes = axes_of(curve(300, ("all",) * 300), "loss")
    line = by_gid(axes, "val:val loss")[0]
    assert (len(line.get_xdata()), line.get_marker()) == (300, "")


def test_a_phase_that_is_too_narrow_for_its_name_has_a_number_and_the_legend_says_which() -> None:
    name = "the-name-of-a-phase-that-is-longer-than-any-other-phase-of-this-test-and-of-those-to-come"
    phases = ("first",) * 100 + ("short-one",) * 2 + (name,) * 98
    axes = axes_of(curve(200, phases), "loss")
    shown = [text.get_text() for text in by_gid(axes, "phase")]
    assert shown[:2] == ["first", "2"]
    assert shown[2].startswith("the-name")
    assert shown[2].endswith("to-come")
    assert "…" in shown[2]
    assert verticals(axes, "change") == [100.5, 102.5]
    (legend,) = axes.figure.legends
    assert "2 = short-one" in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("n", [2, 5, 60, 300])
def test_names_of_phases_never_lie_over_each_other_and_nothing_leaves_the_figure(n: int) -> None:
    phases = tuple(f"phase-number-{epoch * n // 300}" for epoch in range(300))
    axes = axes_of(curve(300, phases, chosen=Chosen((3.0,), "chosen by val/precision_weighted: epoch 3")), "loss")
    boxes = [text.get_window_extent() for text in by_gid(axes, "phase")]
    assert boxes
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert len(verticals(axes, "change")) == n - 1
    (legend,) = axes.figure.legends
    box, whole = legend.get_window_extent(), axes.figure.bbox
    assert (box.x1 <= whole.x1, box.y0 >= whole.y0) == (True, True)
    assert axes.get_window_extent().height > 150, "pixels of 600"


@pytest.mark.parametrize("title", ["$x^$ \\frac", "猫の写真", "_hidden", "", "a" * 500, "\x1b[31m"])
def test_any_title_and_name_can_be_drawn(title: str) -> None:
    history = curve(4, (title, title, "b", "b"))
    axes = axes_of(History(title, history.epochs, history.phases, history.columns), "loss")
    shown = axes.get_title(loc="right")
    assert len(shown) <= 70 + 30
    if title.startswith("猫"):
        assert shown == "U+732BU+306EU+5199U+771F"
    if title.startswith("$"):
        assert shown == title


def test_a_rate_by_epoch_is_in_force_around_it() -> None:
    rates = Rates((1.0, 2.0, 3.0), (0.01, 0.01, 0.008), by_epoch=True)
    axes = axes_of(curve(3, ("a", "a", "b"), rates=rates), "lr")
    assert by_gid(axes, "rate:learning rate")[0].get_drawstyle() == "steps-mid"
    assert axes.get_yscale() == "linear"


def test_files_are_the_same_bytes_each_time_and_hold_no_date(tmp_path: Path) -> None:
    history = history_of_table(EPOCHS, phases="20,30")
    names = write_plots(history, tmp_path / "a")
    assert names == ["loss", "delta-loss", "accuracy", "delta-accuracy"]
    write_plots(history, tmp_path / "b" / "c")
    assert svg_and_png(tmp_path / "a") == set(names)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "c" / file.name).read_bytes(), file.name
    text = (tmp_path / "a" / "loss.svg").read_text()
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own file
    assert "dc:date" not in text
    with Image.open(tmp_path / "a" / "loss.png") as picture:
        assert picture.size == (1050, 600)
        assert "Software" not in picture.info


def test_a_style_of_the_user_changes_nothing(tmp_path: Path) -> None:
    import matplotlib

    history = curve(3, ("all",) * 3)
    write_plots(history, tmp_path / "a")
    with matplotlib.rc_context({"axes.facecolor": "black", "lines.linewidth": 9, "svg.hashsalt": "other"}):
        write_plots(history, tmp_path / "b")
    for name in ("loss.svg", "loss.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_of_it_imports_torch_or_opens_a_window(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom imgkit.plots import mistakes\n"
    code += "from imgkit.plots.drawing import write_plots\nfrom imgkit.plots.table import history_of_table\n"
    code += "write_plots(history_of_table(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    code += "print([name for name in ('torch', 'timm', 'torchvision', 'matplotlib.pyplot') if name in sys.modules])"
    command = [sys.executable, "-c", code, str(EPOCHS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(svg_and_png(tmp_path)) == 4


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="Cannot write"):
        write_plots(curve(2, ("a", "a")), tmp_path / "file" / "plots")


def test_without_matplotlib_it_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError) as caught:
        require_matplotlib()
    assert str(caught.value).endswith('Install it:  pip install "imgkit-timm[plot]"')
