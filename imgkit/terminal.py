"""Text on terminals: consoles that add nothing, wrapped lines, tables without lines, numbers for people."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgkit.errors import printable

_ASCII = str.maketrans(
    {"·": "-", "★": "*", "─": "-", "–": "-", "×": "x", "→": ">", "…": "...", "✔": "+", "✗": "x", "≤": "<="}
)
_TYPED = re.compile(  # a command, or a flag without a colon behind it, after two spaces or a colon, up to two spaces
    r"""(?:^|(?<=[ ]{2})|(?<=:[ ]))(?:(?:imgkit|pip|hf|torchrun)[ ](?=[a-z-])|"""
    r"""mkdir[ ]|python[ ](?=[^ ]*[-/])|--[a-z](?![a-z-]*:))"""
    r"""(?:'[^']*'|"[^"]*"|[^ ]|[ ](?=[^ ]))*"""
)


def make_console(file: TextIO | None, *, width: int | None = None, color: bool | None = None) -> Console:
    """A rich console that adds nothing of its own: no markup, emoji or highlighting.

    Args:
        file: where to print; None: stderr.
        width: columns; None: of the terminal, 80 in a pipe.
        color: None: where the terminal has it and NO_COLOR is not set. Without colour no escape code is written,
            bold included.
    """
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    # In a notebook rich would show each line as an output of its own: see `notebook`.
    plain |= {"file": file, "stderr": file is None, "width": width, "force_jupyter": False}
    console = Console(**plain, force_terminal=color)
    if color is False or (color is None and console.no_color):
        return Console(**plain, color_system=None)
    return console


def print_columns(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    *,
    right: Collection[str] = (),
    folded: Collection[str] = (),
) -> None:
    """A table without lines; nothing is cut, control characters are made visible.

    Args:
        titles: of the columns.
        rows: texts, one for each title.
        console: where to print.
        right: titles of the columns set to the right.
        folded: titles of the columns that take several lines where the console is too narrow.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        side: Literal["left", "right"] = "right" if title in right else "left"
        table.add_column(title, justify=side, no_wrap=title not in folded, overflow="fold")
    for row in rows:
        table.add_row(*(Text(encodable(printable(cell), console.encoding)) for cell in row))
    console.print(table)


def encodable(text: str, encoding: str) -> str:
    """`text` with what `encoding` cannot write replaced: `★` by `*`, other characters by an escape."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def wrap_line(text: str, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """`text` in lines of at most `width` cells, with `first` before the first line and `rest` before the others.

    Breaks at spaces only: a long path stays whole, so that it can be copied. So does what is to be typed, as wide as it
    may be, since a shell would run its first line alone: the terminal breaks it without a line end.
    """
    if cell_len(first) + cell_len(text) <= width:
        yield (first + text).rstrip()
        return
    line, empty, broken = first, True, False
    for word in _words(text):
        if not empty and cell_len(line) + 1 + cell_len(word) > width:
            yield line.rstrip()
            line, empty, broken = rest, True, True
        if broken and empty and not word:
            continue  # spaces at which a line was broken do not begin the next one
        line = line + word if empty else f"{line} {word}"
        empty = False
    yield line.rstrip()


def _words(text: str) -> list[str]:
    """The parts between which a line may break; with one space between each they are `text`."""
    words, at = [], 0
    for typed in _TYPED.finditer(text):
        words += text[at : typed.start() - 1].split(" ") if typed.start() else []
        words.append(typed[0])
        at = typed.end() + 1
    return words + (text[at:].split(" ") if at <= len(text) else [])


def percent(fraction: float) -> str:
    """`98.9 %` for 0.989."""
    return f"{100 * fraction:.1f} %"


def clock(seconds: float) -> str:
    """`0:08`, `12:05`, `1:02:05`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
