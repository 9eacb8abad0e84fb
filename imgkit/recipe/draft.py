"""A recipe before it is checked: values by key, each with where it was given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from imgkit.recipe.phases import TABLES
from imgkit.recipe.problems import OPEN, SECTIONS, UNIONS, Key, Place, Problem, annotation, may_be_off
from imgkit.recipe.schema import Recipe
from imgkit.recipe.toml import Document, Steps


@dataclass(frozen=True)
class Given:
    """A value as given.

    Args:
        value: as TOML has it, lists as tuples; None where the text "none" turned it off.
        origin: for people: "recipe finetune", "file my.toml", "--batch-size", "--set".
        place: where a fault in it is reported.
    """

    value: object
    origin: str
    place: Place


@dataclass
class Draft:
    """Values by key, at most ("phases", name, table, key) deep, in the order of the file.

    Args:
        origin: of the values of the file.
        file: the place of what is missing from the file.
        values: the values.
        phases: names of the phases in order; a phase without a usable name is called by position, "[1]".
        tables: places of tables.
        problems: faults found while reading.
    """

    origin: str
    file: Place
    values: dict[Key, Given] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    tables: dict[Key, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def fault(self, key: Key, text: str) -> None:
        """Note a fault in a key, at the place where the key or the nearest table around it was given."""
        self.problems.append(Problem(self.place(key), key, text))

    def place(self, key: Key) -> Place:
        """Where a key was given, or the nearest table around it."""
        for stop in range(len(key), 0, -1):
            if key[:stop] in self.values:
                return self.values[key[:stop]].place
            if key[:stop] in self.tables:
                return self.tables[key[:stop]]
        return self.file

    def table(self, *prefix: str) -> dict[str, object]:
        """The values right under a table, by their last name."""
        return {key[-1]: given.value for key, given in self.values.items() if key[:-1] == prefix}

    def value(self, *key: str) -> object:
        """The value of a key, or None where it is not given."""
        given = self.values.get(key)
        return given.value if given else None

    def name_of(self, *table: str) -> object:
        """The `name` of a loss or schedule table: its own, else the section's, else the default's."""
        default: str = Recipe.model_fields[table[-1]].default.name
        return self.value(*table, "name") or self.value(table[-1], "name") or default

    def drop(self, key: Key) -> None:
        """Take out a key, or all keys of a table."""
        for other in [other for other in self.values if other[: len(key)] == key]:
            del self.values[other]

    def without(self, keys: Iterable[Key]) -> "Draft":
        """A draft without some keys."""
        gone = set(keys)
        return replace(self, values={key: given for key, given in self.values.items() if key not in gone})


def read_draft(document: Document, shown: str, origin: str) -> Draft:
    """The draft of a recipe file; faults in its structure are noted in it."""
    draft = Draft(origin, Place(shown, 1))

    def place(*steps: str | int) -> Place:
        line = document.line(steps)
        return Place(f"{shown}:{line}", line)

    for name, value in document.values.items():
        if name == "phases":
            _read_phases(draft, document, value, place(name))
        elif name in SECTIONS or name in UNIONS:
            _read_table(draft, document, (name,), (name,), value)
        else:
            draft.values[(name,)] = Given(plain(value, (name,)), origin, place(name))
    return draft


def plain(value: object, key: Key) -> object:
    """A value with lists as tuples, and the text "none" as None where the key may be off."""
    return None if value == "none" and may_be_off(annotation(key)) else _frozen(value)


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _read_phases(draft: Draft, document: Document, tables: object, place: Place) -> None:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        draft.problems.append(Problem(place, ("phases",), "expected tables, each headed by [[phases]]"))
        return
    for position, table in enumerate(tables):
        steps: Steps = ("phases", position)
        name = table.get("name")
        usable = isinstance(name, str) and name.isprintable() and name not in draft.phases and not set(name) & set(".[")
        phase = name if usable and name else f"[{position}]"
        line = document.line(steps)
        draft.tables["phases", phase] = Place(f"{draft.file.text}:{line}", line)
        if name in draft.phases:
            line = document.line((*steps, "name"))
            there = Place(f"{draft.file.text}:{line}", line)
            draft.problems.append(Problem(there, ("phases", phase), f"there are two phases called {name!r}"))
        draft.phases.append(phase)
        _read_table(draft, document, ("phases", phase), steps, table)


def _read_table(draft: Draft, document: Document, key: Key, steps: Steps, table: object) -> None:
    """Read a section, a phase, or a table of a phase."""
    line = document.line(steps)
    draft.tables[key] = Place(f"{draft.file.text}:{line}", line)
    if not isinstance(table, Mapping):
        draft.fault(key, "expected a table")
        return
    for name, value in table.items():
        inner = (*key, name)
        if inner in OPEN or (key[0] == "phases" and len(key) == 2 and name in TABLES):
            _read_table(draft, document, inner, (*steps, name), value)
            continue
        line = document.line((*steps, name))
        draft.values[inner] = Given(plain(value, inner), draft.origin, Place(f"{draft.file.text}:{line}", line))
