"""What a person sees in a notebook: the lines of a terminal, and a bar, as HTML that changes while work goes on."""

import io
import time
import warnings
from typing import Any

from rich.console import Console
from rich.progress_bar import ProgressBar

from imgkit.errors import printable
from imgkit.screen import Screen

WIDTH = 100  # columns
_EVERY_S = 0.25  # between two pictures of what goes on
_BAR = 40  # columns
_PRE = "font-family:monospace;line-height:1.3;white-space:pre-wrap;margin:0"
_FORM = f'<pre style="{_PRE}">{{code}}</pre>'


class NotebookScreen(Screen):
    """A screen whose lines are one output of a cell, as HTML. It needs nothing but IPython, which a notebook has.

    Args:
        display: IPython's; None: as imported.
    """

    def __init__(self, display: Any = None) -> None:  # noqa: ANN401
        super().__init__(file=io.StringIO(), width=WIDTH, color=True)
        self._console.record = True
        if display is None:
            from IPython import display as ipython

            warnings.filterwarnings("ignore", "IProgress not found")  # of bars that a library could show and does not
            display = ipython.display
        self._display = display
        self._handle: Any = None
        self._bar = ""
        self._shown_at = 0.0  # time.monotonic

    def _is_live(self) -> bool:
        return True

    def _print(self, text: str, **how: Any) -> None:  # noqa: ANN401
        super()._print(text, **how)
        self._show()

    def _show_progress(self, text: str, done: int, total: int) -> None:
        if time.monotonic() - self._shown_at >= _EVERY_S:
            self._bar = _bar(printable(text), done, total)
            self._show()

    def _clear_progress(self) -> None:
        if self._bar:
            self._bar = ""
            self._show()

    def _show(self) -> None:
        """Put what there is into the cell."""
        self._shown_at = time.monotonic()
        lines = self._console.export_html(clear=False, inline_styles=True, code_format=_FORM)
        content = {"text/html": lines + self._bar, "text/plain": self._console.export_text(clear=False)}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def usual_screen(*, spoken: bool = False) -> Screen:
    """Where a function of Python speaks where it is given no screen: in the cell of a notebook, else nowhere.

    Args:
        spoken: on stderr rather than nowhere.
    """
    return NotebookScreen() if Console().is_jupyter else Screen(quiet=not spoken)


def _bar(text: str, done: int, total: int) -> str:
    """The line of progress as HTML, with rich's bar."""
    how: dict[str, Any] = {"force_terminal": True, "force_jupyter": False, "color_system": "truecolor"}
    console = Console(file=io.StringIO(), record=True, width=WIDTH, **how)
    console.print(ProgressBar(total=max(total, 1), completed=done, width=_BAR), end=" ")
    console.print(text, markup=False, highlight=False, emoji=False, end="")
    html: str = console.export_html(inline_styles=True, code_format=_FORM)
    return html
