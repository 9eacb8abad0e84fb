"""Values from the command line: flags and `--set key.path=value`, laid over the draft of a recipe."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from imgkit.errors import suggestion
from imgkit.recipe.draft import Draft, Given, plain
from imgkit.recipe.phases import TABLES
from imgkit.recipe.problems import (
    OPEN,
    SECTIONS,
    UNIONS,
    Key,
    Place,
    Problem,
    annotation,
    is_text,
    may_be_off,
    names_none,
    show,
    takes_list,
)
from imgkit.recipe.toml import value_text

_FORM = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\s*=\s*(?P<value>.*?)\s*", re.DOTALL)
_OTHER = {"epochs": "steps", "steps": "epochs"}
_SHORT = ("lr", "epochs")  # keys without a section: of the only phase that takes gradient steps


@dataclass(frozen=True)
class Flag:
    """A value given by an option of the command line, or by an argument in Python.

    Args:
        spelling: as the user writes it, "--batch-size".
        value: its value; None is the same as not given.
    """

    spelling: str
    value: object


@dataclass(frozen=True)
class Assignment:
    """One key to set, or to take out (`remove`)."""

    key: Key
    value: object
    who: str
    remove: bool = False


def apply_given(draft: Draft, flags: Mapping[str, Flag], sets: Sequence[str]) -> None:
    """Lay flags and sets over the draft; faults are noted in it.

    A new `name` of a loss or a schedule takes out the other keys that the file gives it; `epochs` takes out `steps`
    and the other way round.
    """
    by_set = _of_phase(draft, [assignment for text in sets for assignment in _parse_set(draft, text)])
    by_flag = [
        Assignment(key, plain(_as_text(flag.value), key), flag.spelling)
        for path, flag in flags.items()
        if flag.value is not None
        for key in _flag_keys(draft, path, flag, by_set)
    ]
    chosen: dict[Key, Assignment] = {}
    for new in [*by_flag, *by_set]:
        old = chosen.setdefault(new.key, new)
        if (old.value, old.remove) != (new.value, new.remove):
            both = f"is {_words(old)} by {old.who} and {_words(new)} by {new.who}; give it once"
            draft.problems.append(Problem(Place(new.who), new.key, both))
        elif isinstance(new.value, str) and not new.value.isascii() and not _is_unicode(new.value):
            text = f"{new.value!r} is not UTF-8, which a recipe cannot hold; rename the file or reach it through a link"
            draft.problems.append(Problem(Place(new.who), new.key, text))
    # Names of losses and schedules come first: they take out keys.
    for assignment in sorted(chosen.values(), key=lambda one: one.key[-1] != "name"):
        _assign(draft, assignment, chosen)


def _assign(draft: Draft, new: Assignment, chosen: Mapping[Key, Assignment]) -> None:
    if new.remove:
        draft.drop(new.key)
        return
    table, name = new.key[:-1], new.key[-1]
    if name == "name" and table and table[-1] in UNIONS and new.value != draft.name_of(*table):
        draft.drop(table)
    origin = new.who
    other = (*table, _OTHER.get(name, ""))
    if table[:1] == ("phases",) and other in draft.values and other not in chosen:
        origin = f"{new.who} (replaces {other[-1]} = {value_text(draft.value(*other))})"
        draft.drop(other)
    draft.values[new.key] = Given(new.value, origin, Place(new.who))


def _flag_keys(draft: Draft, path: str, flag: Flag, by_set: Sequence[Assignment]) -> list[Key]:
    """The keys of a flag; `lr` and `epochs` mean those of the only phase that takes gradient steps."""
    if path not in _SHORT:
        key = tuple(path.split("."))
        fault = _address_fault(draft, key)
        draft.problems += [Problem(Place(flag.spelling), key, fault)] if fault else []
        return [] if fault else [key]
    solvers = {assignment.key[1]: assignment.value for assignment in by_set if assignment.key[2:] == ("solver",)}
    training = [
        phase for phase in draft.phases if solvers.get(phase, draft.value("phases", phase, "solver")) != "logistic"
    ]
    if len(training) == 1:
        return [("phases", training[0], path)]
    if training:
        keys = " or ".join(f"--set phases.{phase}.{path}={flag.value}" for phase in training)
        text = f"the recipe has {len(training)} phases with {path}; say which: {keys}"
    else:
        text = f"every phase is solved on features and has no {path}; leave it out, or choose a recipe that trains"
    draft.problems.append(Problem(Place(flag.spelling), (), text))
    return []


def _of_phase(draft: Draft, by_set: Sequence[Assignment]) -> list[Assignment]:
    """The sets, with `lr` and `epochs` at the phase that the flags of these names mean."""
    found = []
    for one in by_set:
        if one.key in {(name,) for name in _SHORT}:
            keys = _flag_keys(draft, one.key[0], Flag("--set", "none" if one.remove else one.value), by_set)
        else:
            keys = [one.key]
        found += [replace(one, key=key) for key in keys]
    return found


def _parse_set(draft: Draft, text: str) -> Iterator[Assignment]:
    match = _FORM.fullmatch(text)
    if match is None or not match["value"]:
        draft.problems.append(
            Problem(Place("--set"), (), f"{text!r} has not the form key.path=value, as train.ema=0.99")
        )
        return
    key = tuple(match["key"].split("."))
    fault = _address_fault(draft, key)
    if fault:
        draft.problems.append(Problem(Place("--set"), key, fault))
    elif match["value"] == "none" and not holds_none(key):
        yield Assignment(key, None, "--set", remove=True)
    else:
        yield from _leaves(draft, key, _parse_value(key, match["value"]))


def _address_fault(draft: Draft, key: Key) -> str:
    """What is wrong with where a set points, or nothing; unknown keys are found later, with those of the file."""
    if key[0] != "phases":
        return ""
    if len(key) < 3:
        return "phases are set key by key, as phases.NAME.lr=0.001"
    if key[1] not in draft.phases:
        return f"unknown phase {key[1]!r}{suggestion(key[1], draft.phases)}; phases: {', '.join(draft.phases)}"
    return "the name is how the phase is found; it cannot be set" if key[2:] == ("name",) else ""


def _leaves(draft: Draft, key: Key, value: object) -> Iterator[Assignment]:
    """One assignment a key: a table given as a value is taken apart."""
    of_phase = key[0] == "phases" and key[2:] in {(table,) for table in TABLES}
    is_table = key[0] in (*SECTIONS, *UNIONS) if len(key) == 1 else of_phase or key in OPEN
    if not is_table:
        yield Assignment(key, plain(value, key), "--set")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if (*key, name) in OPEN:
                yield from _leaves(draft, (*key, name), inner)
            else:
                yield Assignment((*key, name), plain(inner, (*key, name)), "--set")
    else:
        text = f"is a table; set one of its keys, as {show(key)}.KEY={value_text(value)}"
        draft.problems.append(Problem(Place("--set"), key, text))


def _parse_value(key: Key, text: str) -> object:
    """A TOML value, else the text itself; the text too where the key takes text and this is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = parsed["value"] if len(parsed) == 1 else text
    kind = annotation(key)
    fits = isinstance(value, str) or (isinstance(value, list) and takes_list(kind))
    return text if is_text(kind) and not fits else value


def holds_none(key: Key) -> bool:
    """Whether "none" is a value of this key: off, or the text (`model.weights`, `augment.preset`, an option)."""
    kind = annotation(key)
    return key[:-1] in OPEN or may_be_off(kind) or kind is str or names_none(kind)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, PurePath) else value


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def _words(assignment: Assignment) -> str:
    return "taken out" if assignment.remove else value_text(assignment.value)
