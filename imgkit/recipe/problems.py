"""What is wrong with a recipe, in plain words: every fault with its place, all of them at once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from imgkit.errors import RecipeError, printable, suggestion
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.fields import Strict
from imgkit.recipe.losses import LOSS_TYPES
from imgkit.recipe.schedules import SCHEDULE_TYPES
from imgkit.recipe.schema import (
    BudgetSettings,
    DataSettings,
    ModelSettings,
    PhaseSettings,
    Recipe,
    RunSettings,
    SaveSettings,
    TrainSettings,
)
from imgkit.recipe.toml import value_text

Table = TypeVar("Table", bound=Strict)
Key = tuple[str, ...]
"""A key as users address it: ("train", "batch_size"), ("phases", "all", "schedule", "name")."""

SECTIONS: Mapping[str, type[Strict]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "augment": AugmentSettings,
    "budget": BudgetSettings,
    "save": SaveSettings,
    "run": RunSettings,
}
"""Sections with one set of keys."""

UNIONS: Mapping[str, Mapping[str, type[Strict]]] = {"loss": LOSS_TYPES, "schedule": SCHEDULE_TYPES}
"""Sections whose keys depend on their `name`, with the types by name."""

OPEN = (("model", "options"),)
"""Tables whose keys are not the recipe's own: what the chosen network takes."""

PHASE_KEYS = ("name", "train", "solver", "views", "epochs", "steps", "lr", "optimizer_state")
OVERRIDES = tuple(key for key in TrainSettings.model_fields if key != "precision")
"""Keys of `[train]` that a phase may have; one precision serves the whole run."""

TOP_LEVEL = ("schema", "name", "seed", "monitor", "early_stop", "time_limit", "score_test")
"""Keys at the top of a recipe, outside any table."""

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "model": "a table",
    "dict": "a table",
    "is_instance": "a table",
}
_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


@dataclass(frozen=True)
class Place:
    """Where a value was given: a line of a file, or a spelling on the command line (line 0)."""

    text: str
    line: int = 0


@dataclass(frozen=True)
class Problem:
    """One fault."""

    place: Place
    key: Key
    text: str

    def __str__(self) -> str:
        return printable(f"{self.place.text}: {show(self.key)}{': ' if self.key else ''}{self.text}")


def show(key: Key) -> str:
    """A key with dots; a phase without a usable name by its position: "phases[1].lr"."""
    return ".".join(key).replace(".[", "[")


def stop_at(problems: Iterable[Problem]) -> None:
    """Raise all problems as one error, those of the file in its order, then those of the command line.

    Raises:
        RecipeError: if there is a problem.
    """
    found = sorted(problems, key=lambda problem: (problem.place.line == 0, problem.place.line))
    if found:
        raise RecipeError("\n".join(dict.fromkeys(str(problem) for problem in found)))


def unknown_key(key: Key, loss_or_schedule: str) -> str | None:
    """What is wrong with a key that no table has; None for a known key.

    Args:
        key: full key.
        loss_or_schedule: for a key of a loss or a schedule, its known name.
    """
    table, name = key[:-1], key[-1]
    if table in OPEN:
        return None if name.isidentifier() else "is no name of an option; letters, digits and _ make one"
    if table == ():
        known: Sequence[str] = (*TOP_LEVEL, *SECTIONS, *UNIONS, "phases")
    elif table[0] == "phases" and len(table) == 2:
        known = (*PHASE_KEYS, *OVERRIDES, "augment", *UNIONS)
    elif table[-1] in UNIONS and len(table) in (1, 3):
        types = UNIONS[table[-1]]
        known = tuple(types[loss_or_schedule].model_fields)
        owners = [other for other, type_ in types.items() if name in type_.model_fields]
        if name not in known and owners:
            return f"{loss_or_schedule} has no {name!r} ({', '.join(owners)} {'has' if len(owners) == 1 else 'have'})"
    elif table[-1] in SECTIONS and (len(table) == 1 or (len(table) == 3 and table[-1] == "augment")):
        known = tuple(SECTIONS[table[-1]].model_fields)
    elif table[0] == "phases" and table[2:] == ("train",):
        return f"keys of [train] stand in the phase itself, as {show((*table[:2], name))}"
    else:
        near = suggestion(show(table), map(show, OPEN)) or suggestion(table[0], (*SECTIONS, *UNIONS))
        return f"there is no table {show(table)!r}{near}"
    if name in known:
        return None
    homes = [f"[{home}]" for home, type_ in SECTIONS.items() if name in type_.model_fields]
    homes += ["[[phases]]"] if name in PHASE_KEYS else []
    homes += ["the top of the file"] if name in TOP_LEVEL else []
    return f"unknown key; {' and '.join(homes)} has {name!r}" if homes else f"unknown key{suggestion(name, known)}"


def option_fault(value: object) -> str | None:
    """What is wrong with a value of an open table; None for text, a number, true or false, and a list of these."""
    items = value if isinstance(value, tuple) else (value,)
    if any(isinstance(item, float) and not math.isfinite(item) for item in items):
        return f"must be a finite number, got {got(value)}"
    if all(isinstance(item, str | bool | int | float) for item in items):
        return None
    return f"expected text, a number, true or false, or a list of these, got {got(value)}"


def annotation(key: Key) -> object:
    """The declared type of a key, or None for a key that does not exist."""
    for type_ in _owners(key[:-1], key[-1]):
        name = "schema_version" if key == ("schema",) else key[-1]
        if name in type_.model_fields:
            return type_.model_fields[name].annotation
    return None


def is_text(kind: object) -> bool:
    """Whether a declared type takes any text (a Literal does not, nor a table)."""
    return kind is str or any(is_text(part) for part in get_args(kind) if get_origin(kind) not in (Literal, Mapping))


def takes_list(kind: object) -> bool:
    """Whether a declared type takes a list."""
    return get_origin(kind) is tuple or any(takes_list(part) for part in get_args(kind))


def takes_whole_alone(kind: object) -> bool:
    """Whether the numbers that a declared type takes are whole ones."""
    parts = {kind, *get_args(kind), *(inner for part in get_args(kind) for inner in get_args(part))}
    return int in parts and float not in parts


def may_be_off(kind: object) -> bool:
    """Whether a declared type takes None but not the text "none": then that text means None."""
    return type(None) in get_args(kind) and not is_text(kind) and not names_none(kind)


def names_none(kind: object) -> bool:
    """Whether "none" is one of the words of a declared type."""
    return "none" in get_args(kind) or any(names_none(part) for part in get_args(kind))


def check(type_: type[Table], values: Mapping[str, object]) -> tuple[Table | None, dict[str, str]]:
    """Validate one table strictly (text is no number).

    Returns:
        the model, or None with what is wrong by key.
    """
    try:
        return type_.model_validate(values, strict=True), {}
    except ValidationError as error:
        found: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            found.setdefault(str(detail["loc"][0]), []).append(detail)
        return None, {key: _plain(details, values.get(key)) for key, details in found.items()}


def fault_of(error: ValidationError) -> str:
    """What is wrong with one value that pydantic refused."""
    details = error.errors(include_url=False)
    return _plain(details, details[0]["input"])


def _owners(table: Key, name: str) -> list[type[Strict]]:
    if table == ():
        return [Recipe]
    if table[0] == "phases" and len(table) == 2:
        return [PhaseSettings] if name in PHASE_KEYS else [TrainSettings]
    if table[-1] in UNIONS:
        return list(UNIONS[table[-1]].values())
    return [SECTIONS[table[-1]]] if table[-1] in SECTIONS else []


_EXAMPLES = {"first": '"2 epochs"', "every": '"2 epochs"', "milestones": '["50%", "75%"]'}
"""Values of keys that a schedule cannot do without."""


def _plain(details: Sequence[ErrorDetails], value: object) -> str:
    """The faults that pydantic found in one key, as one phrase. Several: the alternatives of a union, or of a list."""
    if any(detail["type"] == "missing" and len(detail["loc"]) == 1 for detail in details):
        example = _EXAMPLES.get(str(details[0]["loc"][0]))
        return "is missing" + ("" if example is None else f"; for example {example}")
    missing = sum(detail["type"] == "missing" for detail in details)
    if isinstance(value, tuple) and (missing or details[0]["type"] == "too_long"):
        length = len(value) + missing if missing else details[0]["ctx"]["max_length"]
        return f"expected {length} numbers, got {got(value)}"
    wanted = list(dict.fromkeys(_wanted(detail) for detail in details))
    if details[0]["type"] == "value_error":
        return wanted[0]
    item = details[0]["input"] if len(details) == 1 else value
    either = " or ".join([wanted[0], *(text.removeprefix("must be ") for text in wanted[1:])])
    return f"{either}, got {got(item)}{_near(details, item)}"


def _wanted(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"must be {words} {context[name]:g}"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "finite_number":
        return "must be a finite number"
    for prefix, words in _EXPECTED.items():
        if kind.startswith(prefix):
            return f"expected {words}"
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _near(details: Sequence[ErrorDetails], value: object) -> str:
    allowed = [detail["ctx"]["expected"] for detail in details if detail["type"] == "literal_error"]
    if not allowed or not isinstance(value, str):
        return ""
    return suggestion(value, allowed[0].replace(" or ", ", ").replace("'", "").split(", "))


def got(value: object) -> str:
    """A value in a message."""
    if isinstance(value, dict):
        return "a table"
    return repr(value) if isinstance(value, str) else value_text(value) if value is not None else "nothing"
