"""What a person sees while imgkit works: facts, one line an epoch, a result, what to type next.

Everything goes to stderr, so that a pipe on stdout carries data only. Nothing is live unless stderr is a terminal;
colour is never the only carrier of a meaning; names are shown with control characters made visible. The same lines
can be copied with time stamps into a run's log.txt.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from imgkit import __version__
from imgkit.epoch_log import epoch_line
from imgkit.epoch_table import EpochTable
from imgkit.errors import ImgkitError, printable
from imgkit.terminal import clock, encodable, make_console, wrap_line

TOPIC_WIDTH = 8  # of the topics in `fact`, the space after them included
_PROGRESS_EVERY_S = 0.1
_KEPT = 1000  # lines that wait for a log, the newest; more than any run says before it has its folder


class Screen:
    """Lines for people, on stderr by default.

    Args:
        quiet: print warnings and errors only; the log still gets every line.
        file: where to print; None: stderr as it is at each moment.
        width: columns; None: of the terminal, 80 in a pipe.
        color: None: where the terminal has it and NO_COLOR is not set.
    """

    def __init__(
        self, *, quiet: bool = False, file: TextIO | None = None, width: int | None = None, color: bool | None = None
    ) -> None:
        self.quiet = quiet
        self._console = make_console(file, width=width, color=color)
        self._log: Path | None = None
        self._kept: deque[str] = deque(maxlen=_KEPT)  # lines of the log while it has no file
        self._epochs: EpochTable | None = None
        self._progress = ""  # the live line now on the terminal
        self._progress_at = 0.0  # when it was drawn, time.monotonic

    @property
    def width(self) -> int:
        """Columns of the terminal; 80 in a pipe."""
        return self._console.width

    def log_to(self, path: Path) -> None:
        """Append every line, also those so far that are in no log, to `path`: plain text with UTC time stamps."""
        self._log = path
        kept = list(self._kept)
        self._kept.clear()
        self._append_log(kept)

    def header(self, line: str = "") -> None:
        """The first line; without one given, the versions that matter. What follows is for a log of its own."""
        self._log = None
        self._print(line or versions_line(), style="dim")
        self._print("")

    def fact(self, topic: str, *lines: str) -> None:
        """`Data    1,797 images`, further lines under the first, wrapped with a hanging indent."""
        margin = max(TOPIC_WIDTH, cell_len(topic) + 1)
        for number, line in enumerate(lines):
            self._print(line, first=set_cell_size(topic if number == 0 else "", margin), rest=" " * margin)

    def note(self, text: str) -> None:
        """Something worth knowing; nothing is wrong."""
        self._print(text, first="note: ", rest="      ")

    def warn(self, text: str) -> None:
        """Something is likely wrong, and work goes on. Printed even where `quiet`."""
        self._print(text, first="warning: ", rest="         ", style="yellow", always=True)

    def error(self, error: ImgkitError) -> None:
        """The message of `error` and, indented, what to do about it. Printed even where `quiet`."""
        self._print(error.message, first="error: ", rest="       ", style="bold red", always=True)
        if error.hint:
            for line in error.hint.split("\n"):
                self._print(line, first="  ", rest="      ", always=True)

    def phase(self, name: str, changes: str = "") -> None:
        """A stage of the work begins, with what `changes`. One that changes nothing has no line within a table."""
        shown = self._epochs is None or changes != ""
        self._print(f"{name}: {changes}" if changes else name, rest="    ", style="bold", shown=shown, whole=True)

    def line(self, text: str = "") -> None:
        """`text` as it is, wrapped."""
        self._print(text)

    def item(self, mark: str, text: str) -> None:
        """One of a list of findings: ` ! text`, wrapped with a hanging indent."""
        self._print(text, first=f" {mark} ", rest="   ")

    def epoch(
        self, row: Mapping[str, Any], *, monitor: str = "val/f1_macro", left_s: float | None = None, saved: str = ""
    ) -> None:
        """An epoch is over: a row of the table on a terminal; in the log and in a pipe lines for programs.

        Args:
            row: as in history.jsonl.
            monitor: as for `table_row`.
            left_s: time to the end, which the table alone shows.
            saved: the line about its checkpoint; "" where there is none.
        """
        live = self._is_live()
        for line in (epoch_line(row), *([saved] if saved else [])):
            self._print(line, shown=not live, whole=True)
        if live:
            self.table_row({**row, "left_s": left_s}, monitor=monitor, logged=False)

    def event(self, line: str) -> None:
        """A line for programs, in the log and in a pipe alone."""
        self._print(line, shown=not self._is_live(), whole=True)

    def table_row(self, row: Mapping[str, Any], *, monitor: str = "val/f1_macro", logged: bool = True) -> None:
        """One line of the table of epochs; its header comes before the first one.

        Args:
            row: as in history.jsonl: epoch, phase, train_loss, val/loss, val/top1 or val/map, val/f1_macro (fractions),
                images_per_second, seconds, best; and left_s. A missing or None value is shown as "-".
            monitor: the score of the row that chooses the best; it has a column of its own if no other shows it.
            logged: whether the log gets it, too.
        """
        if self._epochs is None:
            absent = "val/top1" if row.get("val/map") is not None else "val/map"
            self._epochs = EpochTable(self.width, [absent], monitor)
            self._print("", logged=logged)
            self._print(self._epochs.header(), style="dim", wrap=False, logged=logged)
        self._print(self._epochs.row(row), style="green" if row.get("best") else "", wrap=False, logged=logged)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A line that is overwritten while work goes on: call the given function with (done, total).

        Only on a terminal, at most ten times a second; gone at the end. In a pipe nothing is printed.
        """
        try:
            yield lambda done, total: self._show_progress(f"{label}  {_done(done, total)}", done, total)
        finally:
            self._clear_progress()

    def update(self, step: int, total_steps: int, left_s: float | None = None) -> None:
        """The live line of training: the step and the time left. Printing anything else removes it."""
        left = "" if left_s is None else f"  {clock(left_s)} left"
        self._show_progress(f"step {_done(step, total_steps)}{left}", step, total_steps)

    def result(self, title: str, lines: Sequence[str] = (), next_commands: Sequence[str] = ()) -> None:
        """The end: a title, what came out, and the commands to type next, each on a line of its own."""
        self._print("")
        self._print(f"── {title} ".ljust(min(self.width, 78), "─"), style="bold green", wrap=False)
        for line in lines:
            self._print(line, first="  ", rest="    ")
        for number, command in enumerate(next_commands):
            if number == 0:
                self._print("")
            self._print(command, first="Next:  " if number == 0 else "       ", style="bold", wrap=False)

    def _print(
        self,
        text: str,
        *,
        first: str = "",
        rest: str = "",
        style: str = "",
        wrap: bool = True,
        whole: bool = False,
        shown: bool = True,
        logged: bool = True,
        always: bool = False,
    ) -> None:
        """Print `text` (its line breaks kept), each line printable and wrapped, `first` before the first line.

        With `whole` only a terminal wraps: the log and a pipe get one line.
        """
        lines: list[str] = []
        for part in text.split("\n"):
            before = rest if lines else first
            width = self.width if wrap and (self._is_live() or not whole) else sys.maxsize
            lines.extend(wrap_line(printable(part), width, printable(before), rest))
        if logged:
            self._write_log([printable(first + text)] if whole else lines)
        if not shown or (self.quiet and not always):
            return
        with self._reader_gone_is_no_end():
            self._clear_progress()
            for line in lines:
                self._console.print(Text(encodable(line, self._console.encoding), style=style), soft_wrap=True)

    @contextmanager
    def _reader_gone_is_no_end(self) -> Iterator[None]:
        """A training outlives the pager or `tee` that read its lines; its log goes on. Other commands end with it."""
        try:
            yield
        except (BrokenPipeError, SystemExit):  # rich answers a broken pipe with SystemExit
            if self._log is None:
                raise
            self.quiet, self._progress = True, ""
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._console.file.fileno())  # what is buffered goes nowhere

    def _write_log(self, lines: Sequence[str]) -> None:
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        stamped = [f"{stamp}  {line}".rstrip() + "\n" for line in lines]
        if self._log is None:
            self._kept.extend(stamped)
        else:
            self._append_log(stamped)

    def _append_log(self, stamped: Sequence[str]) -> None:
        assert self._log is not None, "there is a file"
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.writelines(stamped)
        except OSError as error:
            # A full disk must not end a training for want of a log.
            path, self._log = self._log, None
            self.warn(f"cannot write {path}: {error.strerror}; going on without this log")

    def _show_progress(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self.quiet or not self._is_live() or now - self._progress_at < _PROGRESS_EVERY_S:
            return
        text = printable(text)
        text = set_cell_size(text, min(cell_len(text), self.width - 1))
        self._write_raw("\r" + text + " " * (cell_len(self._progress) - cell_len(text)))
        self._progress, self._progress_at = text, now

    def _is_live(self) -> bool:
        return self._console.file.isatty() and not self._console.is_dumb_terminal

    def _clear_progress(self) -> None:
        if self._progress:
            self._write_raw("\r" + " " * cell_len(self._progress) + "\r")
            self._progress = ""

    def _write_raw(self, text: str) -> None:
        file = self._console.file
        file.write(encodable(text, self._console.encoding))
        file.flush()


def versions_line() -> str:
    """`imgkit 0.1.0 · Python 3.11 · torch 2.14.1 · timm 1.0.31`, without importing any of them."""
    from importlib.metadata import version  # as long to import as all of this file

    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return " · ".join([f"imgkit {__version__}", python, *(f"{name} {version(name)}" for name in ("torch", "timm"))])


def _done(done: int, total: int) -> str:
    return f"{done:,} of {total:,}" + (f" ({100 * done / total:.0f} %)" if total else "")
