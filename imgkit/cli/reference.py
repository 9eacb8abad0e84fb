"""The reference of the command line, written from the commands themselves: a page of Markdown, and man pages.

The page of recipe keys is written beside that of commands.

python -m imgkit.cli.reference docs/cli.md build/man
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from imgkit import __version__
from imgkit.cli import recipe_keys
from imgkit.cli.app import app
from imgkit.errors import ImgkitError, Interrupted

Row = tuple[str, str]  # a name, with the kind of its value; and what it is


@dataclass(frozen=True)
class Command:
    """What `--help` says of a command.

    Args:
        path: as typed, "imgkit data check".
        usage: the path and what may follow it.
        help: what it does, in paragraphs.
        parts: the commands below it, under the headings of `--help`.
        options: its arguments and options, likewise.
    """

    path: str
    usage: str
    help: str
    parts: dict[str, list[Row]]
    options: dict[str, list[Row]]


def walk() -> list[Command]:
    """`imgkit`, and every command below it, in the order of `--help`."""
    root = get_command(app)
    return list(_below(root, typer.Context(root, info_name="imgkit")))


def _below(command: Any, context: typer.Context) -> Iterator[Command]:  # noqa: ANN401  (Typer names no class)
    below: list[Any] = []
    parts: dict[str, list[Row]] = {}
    options: dict[str, list[Row]] = {}
    if isinstance(command, TyperGroup):
        below = [one for name in command.list_commands(context) if (one := command.get_command(context, name))]
    for one in below:
        parts.setdefault(_heading(one, "Commands"), []).append((str(one.name), _first(one.help)))
    for param in command.get_params(context):
        if record := param.get_help_record(context):  # none: it is hidden
            heading = _heading(param, f"{param.param_type_name.title()}s")
            name = record[0].removesuffix(" <bool>")
            if param.param_type_name == "argument":
                name = name.partition(" ")[0]  # without a type of Python
            options.setdefault(heading, []).append((name, " ".join(record[1].split())))
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    yield Command(context.command_path, usage, command.help or "", parts, options)
    for one in below:
        yield from _below(one, typer.Context(one, info_name=one.name, parent=context))


def _heading(thing: object, default: str) -> str:
    panel = getattr(thing, "rich_help_panel", None)
    return panel if isinstance(panel, str) else default


def _first(text: str | None) -> str:
    """The first paragraph, in one line."""
    return " ".join((text or "").partition("\n\n")[0].split())


def exit_codes() -> list[Row]:
    """Each code that a command may end with, and why."""
    kinds = [kind for kind in ImgkitError.__subclasses__() if kind is not Interrupted]
    told = [(str(kind.exit_code), _first(kind.__doc__)) for kind in kinds]
    stopped = ("130", "Stopped by Ctrl-C, after saving; by SIGTERM it is 143, by SIGHUP 129.")
    gone = ("141", "Nobody reads the output any more, as where it is piped into head.")
    return [("0", "All is done."), ("1", "A bug, with its traceback."), *told, stopped, gone]


def page(commands: Sequence[Command]) -> str:
    """The page of the site, in Markdown."""
    lines = [
        "# Command line",
        "",
        "What `--help` says, of all commands. Written by `make docs` from the commands themselves; do not edit.",
        "",
    ]
    for command in commands:
        lines += [f"## {command.path}", "", command.help, "", "```text", command.usage, "```", ""]
        for heading, rows in command.parts.items():
            links = [(f"[{name}](#{f'{command.path} {name}'.replace(' ', '-')})", words) for name, words in rows]
            lines += _table(heading, links)
        for heading, rows in command.options.items():
            lines += _table(heading, [(_code(name), words) for name, words in rows])
    lines += ["## Exit codes", "", *_table("Code", exit_codes())]
    return "\n".join(lines).rstrip() + "\n"


def _table(heading: str, rows: list[Row]) -> list[str]:
    return [f"| {heading} | |", "|---|---|", *(f"| {name} | {_prose(words)} |" for name, words in rows), ""]


def _code(words: str) -> str:
    """A span of code within a table, in which no one way of writing a bar is understood everywhere."""
    return f"<code>{escape(words).replace('|', '&#124;')}</code>" if "|" in words else f"`{words}`"


def _prose(words: str) -> str:
    """Words of `--help`, none of which is Markdown."""
    for mark in "\\`*_[]|":
        words = words.replace(mark, f"\\{mark}")
    return words.replace("<", "&lt;")  # of which a backslash is not understood everywhere


def man_page(command: Command, commands: Sequence[Command]) -> str:
    """The page of one command for `man`, in roff; section 1."""
    name = command.path.replace(" ", "-")
    lines = [
        f'.TH "{name.upper()}" 1 "" "imgkit {__version__}" "imgkit"',
        *(".SH NAME", f"{_roff(name)} \\- {_roff(_first(command.help))}"),
        *(".SH SYNOPSIS", f".B {_roff(command.path)}", _roff(command.usage.removeprefix(command.path).strip())),
        ".SH DESCRIPTION",
    ]
    for paragraph in command.help.split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    for heading, rows in (command.parts | command.options).items():
        lines.append(f'.SH "{_roff(heading.upper())}"')
        for flag, words in rows:
            bold, _, kind = flag.partition(" ")
            lines += [".TP", f"\\fB{_roff(bold)}\\fR {_roff(kind)}".rstrip(), _roff(words)]
    lines.append('.SH "EXIT STATUS"')
    for code, why in exit_codes():
        lines += [".TP", code, _roff(why)]
    others = [one.path for one in commands if one is not command and _beside(one.path, command.path)]
    lines += [".SH SEE ALSO", "\n".join(f".BR {_roff(path.replace(' ', '-'))} (1)" for path in others)]
    return "\n".join(lines) + "\n"


def _beside(one: str, other: str) -> bool:
    """Whether one command is directly above or below the other."""
    return one.rpartition(" ")[0] == other or other.rpartition(" ")[0] == one


def _roff(words: str) -> str:
    """Text as roff takes it: a backslash, a hyphen of a flag, and a dot or quote that would begin a request."""
    words = words.replace("\\", "\\(rs").replace("-", "\\-")
    return f"\\&{words}" if words.startswith((".", "'")) else words


def main(place: Path, folder: Path) -> None:
    """Write the page to `place`, recipe-keys.md beside it, and a man page of each command into `folder`."""
    commands = walk()
    place.write_text(page(commands), encoding="utf-8")
    place.with_name("recipe-keys.md").write_text(recipe_keys.page(), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        file = folder / f"{command.path.replace(' ', '-')}.1"
        file.write_text(man_page(command, commands), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
