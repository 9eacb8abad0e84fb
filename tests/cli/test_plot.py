"""`imgkit plot`."""

import sys
from pathlib import Path

import pytest
from cli_run import Run
from plot_data import EPOCHS, plotted_run, svg_and_png

pytest_plugins = ["cli_fixture"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)


def a_run() -> None:
    plotted_run(Path("runs"))
    Path("runs/latest").write_text("one\n")


@pytest.mark.parametrize("name", ["one", "latest", "runs/one"])
def test_a_run_gets_its_plots(imgkit: Run, name: str) -> None:
    a_run()
    code, out, err = imgkit("plot", name)
    assert (code, out) == (0, "")
    assert svg_and_png(Path("runs/one/plots")) == {"loss", "delta-loss", "accuracy", "f1", "lr"}
    words = " ".join(err.split())
    assert "on train this run recorded no top1" in words
    assert "no worst-mistakes.png: nothing was scored yet" in words
    assert words.endswith("Wrote runs/one/plots/: loss, delta-loss, accuracy, f1, lr (.png, .svg)")


def test_a_table_of_another_tool(imgkit: Run) -> None:
    code, out, err = imgkit("plot", str(EPOCHS), "--phases", "20,30", "--out", "plots")
    assert (code, out) == (0, "")
    assert svg_and_png(Path("plots")) == {"loss", "delta-loss", "accuracy", "delta-accuracy"}
    assert "are read as percent, since they go above 1" in " ".join(err.split())
    assert imgkit("plot", str(EPOCHS), "--columns", "val/top1=test_top1", "--unit", "percent", "--out", "b")[0] == 0
    assert "accuracy" in svg_and_png(Path("b"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([str(EPOCHS)], "is a table, so its plots have no place of their own."),
        (["one", "--phases", "20"], "--phases is not used: it is for a table, and a run says it itself."),
        (["one", "--columns", "a=b"], "--columns is not used"),
        (["one", "--unit", "percent"], "--unit is not used"),
        (["onee"], "There is no run called 'onee' in runs (did you mean 'one'?)."),
    ],
)
def test_what_is_wrong_is_told(imgkit: Run, args: list[str], message: str) -> None:
    a_run()
    code, _, err = imgkit("plot", *args)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_table_that_is_not_there(imgkit: Run) -> None:
    code, _, err = imgkit("plot", "no.csv", "--out", "p")
    assert code == 3
    assert "no.csv cannot be read" in err
    assert not Path("p").exists()


def test_without_matplotlib_nothing_is_written(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = imgkit("plot", "one")
    assert code == 2
    assert "error: Plots are drawn by matplotlib, which is not installed." in err
    assert 'pip install "imgkit-timm[plot]"' in err
    assert not Path("runs/one/plots").exists()
