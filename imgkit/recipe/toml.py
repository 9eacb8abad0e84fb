"""TOML as the recipe needs it: reading with the line of each key, and writing single values."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgkit.errors import RecipeError, printable

Steps = tuple[str | int, ...]
"""The way to a key: table names, and the position in a list of tables."""

_TOKEN = re.compile(
    r"""(?P<text>\"{3}(?:\\.|[^\\])*?\"{3}(?!\")|'{3}.*?'{3}(?!')|"(?:\\.|[^"\\])*"|'[^']*')"""
    r"|(?P<comment>\#[^\n]*)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<line>\n)",
    re.DOTALL,
)
_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_HEAD = re.compile(rf"\s*(?P<open>\[\[?)?\s*(?P<name>{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*)")
_WHERE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")


@dataclass(frozen=True)
class Document:
    """A file as read: the values, and the line (from 1) on which each key is written."""

    values: Mapping[str, object]
    lines: Mapping[Steps, int]

    def line(self, steps: Steps) -> int:
        """The line of a key, or of the nearest table around it that is written out; 1 where there is none."""
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)


def read_toml(path: Path) -> Document:
    """Read a TOML file.

    Raises:
        RecipeError: if the file cannot be read or is not TOML; names file, line and fault.
    """
    shown = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
        return Document(tomllib.loads(text), key_lines(text))
    except OSError as error:
        hint = "Give a TOML file, or one of the recipes that there are:  imgkit recipes"
        raise RecipeError(f"{shown}: cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{shown}: is not UTF-8 text (byte {error.start})", "Save the file as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        match = _WHERE.fullmatch(str(error))
        what = match["what"] if match else str(error)
        line = match["line"] if match and match["line"] else str(text.count("\n") + 1)
        hint = 'TOML wants text in quotes, as in name = "finetune", and each key once.'
        raise RecipeError(f"{shown}:{line}: not TOML: {what[:1].lower()}{what[1:]}", hint) from None
    except RecursionError:
        text = f"{shown}: tables or lists inside each other, too deep to be a recipe"
        raise RecipeError(text, "A recipe that is whole:  imgkit recipes finetune") from None


def key_lines(text: str) -> dict[Steps, int]:
    """The line of each table header and key of a valid TOML document; keys inside `{ }` are not listed."""
    found: dict[Steps, int] = {}
    counts: dict[Steps, int] = {}
    table: Steps = ()
    for line, statement in _statements(text):
        match = _HEAD.match(statement)
        if match is None:
            continue
        names = _names(match["name"])
        if match["open"] is None:
            steps = table + names
        else:
            steps = table = _inside(names, counts, new=match["open"] == "[[")
        for stop in range(1, len(steps) + 1):
            found.setdefault(steps[:stop], line)
    return found


def value_text(value: object) -> str:
    """A value as TOML writes it; None as "none"."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", repr(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(value_text(item) for item in value)}]"
    # JSON escapes what TOML must, but for DEL, and writes \uXXXX as TOML reads it.
    return "".join(map(_visible, json.dumps(str(value), ensure_ascii=False)))


def _visible(char: str) -> str:
    """What a terminal would act on as an escape; a lone surrogate, which TOML cannot hold, stays."""
    if printable(char) == char or 0xD800 <= ord(char) <= 0xDFFF:
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _statements(text: str) -> list[tuple[int, str]]:
    """The document's statements (headers, `key = value`) with the line each begins on."""
    found: list[tuple[int, str]] = []
    depth, start, line = 0, 0, 1
    text += "\n"
    for token in _TOKEN.finditer(text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["line"] and depth == 0:
            found.append((line, text[start : token.start()]))
            line += text.count("\n", start, token.end())
            start = token.end()
    return found


def _names(dotted: str) -> Steps:
    names: list[str | int] = []
    inner: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(inner, dict):
        [(name, inner)] = inner.items()
        names.append(name)
    return tuple(names)


def _inside(names: Steps, counts: dict[Steps, int], *, new: bool) -> Steps:
    """The way of a header, with the position put in after each list of tables; `new` begins an element."""
    steps: Steps = ()
    for position, name in enumerate(names):
        steps += (name,)
        if new and position == len(names) - 1:
            counts[steps] = counts.get(steps, 0) + 1
        if steps in counts:
            steps += (counts[steps] - 1,)
    return steps
