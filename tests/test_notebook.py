"""Screens of notebooks: lines and a bar as HTML of one output, which changes."""

import re
from pathlib import Path
from typing import Any

import pytest
from pictures import MakeFolders

from imgkit import notebook
from imgkit.notebook import NotebookScreen, usual_screen
from imgkit.screen import Screen


class Cell:
    """What IPython's `display` is given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.begun = 0

    def __call__(self, content: dict[str, str], *, raw: bool, display_id: bool) -> "Cell":
        assert (raw, display_id) == (True, True)
        self.begun += 1
        self.update(content, raw=raw)
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        self.seen.append(content)

    @property
    def text(self) -> str:
        """The last picture, without its tags."""
        return re.sub(r"<[^>]*>", "", self.seen[-1]["text/html"])


ROW = {
    "epoch": 1,
    "phase": "all",
    "train_loss": 0.5,
    "val/loss": 0.4,
    "val/top1": 0.9,
    "val/f1_macro": 0.875,
    "best": True,
}


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_lines_and_the_table_are_one_output(cell: Cell) -> None:
    screen = NotebookScreen(cell)
    screen.header("imgkit")
    screen.fact("Data", "<b>12</b> images")
    screen.epoch({**ROW, "step": 3})
    screen.result("Done in 1 s", ["val 87.5 %"], ["imgkit predict latest"])
    assert cell.begun == 1
    assert "&lt;b&gt;12&lt;/b&gt; images" in cell.seen[-1]["text/html"], "names of files are no tags"
    assert "Data    &lt;b&gt;12" in cell.text
    assert "87.5 %" in cell.text
    assert "macro F1" in cell.text
    assert "Epoch 1:" not in cell.text
    assert "Done in 1 s" in cell.seen[-1]["text/plain"]


def test_a_bar_comes_and_goes(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_EVERY_S", 0.0)
    screen = NotebookScreen(cell)
    screen.line("before")
    with screen.progress("reading images") as progress:
        progress(3, 4)
        assert "before" in cell.text
        assert "━" in cell.text
        assert "reading images  3 of 4 (75 %)" in cell.text
    assert "━" not in cell.text
    assert "reading" not in cell.text
    assert "before" in cell.text
    screen.update(5, 10, 61.0)
    assert "step 5 of 10 (50 %)  1:01 left" in cell.text
    screen.line("after")
    assert "step 5" not in cell.text
    assert "after" in cell.text


def test_pictures_are_seconds_apart_not_updates(cell: Cell) -> None:
    screen = NotebookScreen(cell)
    screen.line("first")
    for step in range(1000):
        screen.update(step, 1000)
    assert len(cell.seen) <= 3


def test_outside_a_notebook_functions_are_quiet() -> None:
    assert type(usual_screen()) is Screen
    assert usual_screen().quiet
    assert not usual_screen(spoken=True).quiet


@pytest.mark.slow
def test_a_notebook_trains_and_shows_it(make_folders: MakeFolders, tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    root = make_folders({"cat": 12, "dog": 12})
    code = (
        f"import imgkit\nrun = imgkit.scratch('test_resnet', data={str(root)!r}, recipe='probe', image_size=32, "
        f"workers=0, out={str(tmp_path / 'runs')!r}, name='first')\nrun"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=200, kernel_name="python3").execute()
    outputs: list[Any] = book.cells[0].outputs
    assert [output.get("text", output.output_type) for output in outputs] == ["display_data", "execute_result"]
    html = outputs[0].data["text/html"]
    assert "macro F1" in html
    assert "Done in" in html
    assert "<script" not in html
    assert outputs[1].data["text/plain"] == f"Run('{tmp_path}/runs/first')"
    assert (tmp_path / "runs" / "first" / "log.txt").read_text().count("Done in") == 1
