"""What files of studies and of sweeps have in common: how they are found and taken apart, each fault with its place."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from imgkit.errors import RecipeError, UsageError, printable, suggestion
from imgkit.recipe.given import Flag
from imgkit.recipe.problems import Place, Problem, got, option_fault
from imgkit.recipe.toml import Document, Steps, value_text

SCHEMA = 1
VERBS = ("finetune", "scratch")
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,79}")  # of a variant or a level: part of a folder's name
_ORIGINS = ("default", "recipe ", "file ", "preset ", "derived")  # how places begin that are nobody's wish


def find_file(source: str | Path, shipped: Mapping[str, Path], kind: str) -> Path:
    """A file: a shipped one by name, or a path.

    Args:
        source: the name or the path.
        shipped: name to file.
        kind: "study" or "sweep", for the message.

    Raises:
        UsageError: if there is none; the message suggests the nearest name.
    """
    if isinstance(source, str) and source in shipped:
        return shipped[source]
    if Path(source).is_file():
        return Path(source)
    shown = printable(str(source))
    raise UsageError(
        f"There is no {kind} {shown!r}{suggestion(Path(source).stem, shipped)}.",
        f"Shipped: {', '.join(shipped)}. Or give the path of a .toml file.",
    )


def shown_as(source: str | Path, file: Path, shipped: Mapping[str, Path]) -> str:
    """How messages call a file. What a place begins with tells recipes whose wish a value is."""
    shown = printable(file.name if isinstance(source, str) and source in shipped else str(source))
    return f"./{shown}" if shown.startswith(_ORIGINS) else shown


class Reader:
    """Takes a document apart; every fault is noted, and all are to be raised at the end.

    Args:
        document: the file.
        shown: how messages call it.
        elsewhere: recipe keys that are not to be among its values, with why.
    """

    def __init__(self, document: Document, shown: str, elsewhere: Mapping[str, str]) -> None:
        self.document = document
        self.shown = shown
        self.elsewhere = elsewhere
        self.problems: list[Problem] = []

    def place(self, steps: Steps) -> Place:
        """The line of a key."""
        line = self.document.line(steps)
        return Place(f"{self.shown}:{line}", line)

    def fault(self, steps: Steps, text: str) -> None:
        """Note what is wrong with a key."""
        key = tuple(f"[{step}]" if isinstance(step, int) else step for step in steps)
        self.problems.append(Problem(self.place(steps), key, text))

    def check_schema(self, top: Mapping[str, object]) -> None:
        """Stop at another schema: what else is wrong could not be told."""
        schema = top.get("schema")
        if schema is None:
            self.fault(("schema",), f"is missing; write schema = {SCHEMA} at the top")
        elif schema is True or schema != SCHEMA:
            text = f"the file has schema {value_text(schema)}, this imgkit reads schema {SCHEMA}"
            raise RecipeError(str(Problem(self.place(("schema",)), ("schema",), text)), f"Write  schema = {SCHEMA}")

    def unknown(self, steps: Steps, table: Mapping[str, object], known: tuple[str, ...]) -> None:
        """Note the keys of a table that are not `known`."""
        for key in table:
            if key not in known:
                near = suggestion(key, known) or f"; there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
                self.fault((*steps, key), f"unknown key{near}")

    def text(self, steps: Steps, value: object) -> str:
        """A text that is there; "" after a fault."""
        if isinstance(value, str) and value:
            return value
        self.fault(steps, "is missing" if value is None else f"expected text, got {got(value)}")
        return ""

    def name(self, steps: Steps, value: object) -> str:
        """A text that may be part of a folder's name."""
        text = self.text(steps, value)
        if text and not _NAME.fullmatch(text):
            self.fault(steps, f"is part of a folder's name: letters, digits and _ . = -, got {text!r}")
        return text

    def word(self, steps: Steps, value: object, words: tuple[str, ...]) -> str:
        """One of `words`; "" after a fault."""
        if isinstance(value, str) and value in words:
            return value
        near = suggestion(value, words) if isinstance(value, str) else ""
        shown = "is missing; write one of" if value is None else f"got {got(value)}{near}; there are"
        self.fault(steps, f"{shown} {', '.join(words)}")
        return ""

    def count(self, steps: Steps, value: object, least: int = 1) -> int:
        """A whole number of `least` or more."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.fault(steps, f"expected a whole number of {least} or more, got {got(value)}")
        return least

    def model(self, table: Mapping[str, object], steps: Steps) -> Flag | None:
        """The network that a table names, if it does."""
        if "model" not in table:
            return None
        return Flag(self.place((*steps, "model")).text, self.text((*steps, "model"), table["model"]))

    def values(self, steps: Steps, table: object, *, inside: bool = True) -> dict[str, Flag]:
        """Recipe values of a table, by key with dots; tables inside are taken apart."""
        if not isinstance(table, dict):
            self.fault(steps, "expected a table of recipe keys")
            return {}
        found: dict[str, Flag] = {}
        for way, value in _leaves((), table):
            at, key = (*steps, *way) if inside else steps, ".".join(way)
            fault = self.value_fault(key, value)
            if key in found:
                fault = "is given twice"
            if fault:
                self.fault(at, fault)
            else:
                found[key] = Flag(self.place(at).text, value)
        return found

    def value_fault(self, key: str, value: object) -> str | None:
        """What is wrong with a recipe key or value before any recipe is asked."""
        if not _KEY.fullmatch(key):
            return "has not the form of a recipe key, as train.ema"
        if key in self.elsewhere:
            return self.elsewhere[key]
        return option_fault(tuple(value) if isinstance(value, list) else value)


def _leaves(way: tuple[str, ...], table: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves((*way, name), value)
        else:
            yield (*way, name), value
