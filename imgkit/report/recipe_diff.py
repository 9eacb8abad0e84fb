"""What two runs were asked for that is not the same: the values of their resolved recipes, their weights and machines.

Where a value came from is no difference: `epochs = 4` from a flag and from a recipe are the same.
"""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from imgkit.errors import DiskError, ImgkitError, printable
from imgkit.recipe.load import load_recipe
from imgkit.recipe.problems import PHASE_KEYS, SECTIONS, TOP_LEVEL, UNIONS
from imgkit.recipe.schema import Recipe
from imgkit.recipe.toml import value_text
from imgkit.report.collect import PLACES
from imgkit.run import DAMAGED, RunFolder

ABSENT = "–"
"""What stands for a key that one of two runs does not have."""


class Differing(NamedTuple):
    """One key of which two runs have other values, each as text."""

    key: str
    base: str
    other: str


class Asked(NamedTuple):
    """What a run was asked for, as text by key ("train.batch_size", "phases.all.lr").

    Attributes:
        resolved: the whole recipe, defaults included; None where this imgkit does not take it any more.
        given: the values that its recipe.toml gives.
        facts: model, weights, and what it ran on.
    """

    resolved: Mapping[str, str] | None
    given: Mapping[str, str]
    facts: Mapping[str, str]


def asked_of(folder: RunFolder) -> Asked:
    """What a run was asked for. Nothing of it is run: a plugin's loss or source leaves `resolved` open.

    Raises:
        DiskError: if recipe.toml or run.json is missing or damaged.
    """
    file = folder.path / "recipe.toml"
    try:
        given = dict(_given(tomllib.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise DiskError(f"{printable(str(file))} cannot be read: {printable(str(error))}.", DAMAGED) from error
    resolved = None
    with suppress(ImgkitError):
        resolved = dict(_resolved(load_recipe(file).recipe))
    return Asked(resolved, given, dict(_facts(folder.read_json("run.json"))))


def differing(base: Asked, other: Asked) -> list[Differing]:
    """The keys whose values differ: facts first, then the recipe's.

    Where one of the recipes cannot be resolved, given values are compared with given ones, and a default is `ABSENT`.
    """
    recipes = (base.resolved, other.resolved)
    if base.resolved is None or other.resolved is None:
        recipes = (base.given, other.given)
    found = []
    for one, two in ((base.facts, other.facts), recipes):
        assert one is not None
        assert two is not None
        for key in dict.fromkeys((*one, *two)):
            pair = Differing(key, one.get(key, ABSENT), two.get(key, ABSENT))
            found += [pair] if pair.base != pair.other else []
    return found


def _resolved(recipe: Recipe) -> Iterator[tuple[str, str]]:
    values = dict(recipe)
    for key in TOP_LEVEL:
        if key in values:
            yield key, _text(values[key])
    for name in (*SECTIONS, *UNIONS):
        yield from _flat(f"{name}.", dict(values[name]))
    for phase in recipe.phases:
        own = {key: getattr(phase, key) for key in PHASE_KEYS} | dict(phase.overrides)
        yield from _flat(f"phases.{phase.name}.", own)


def _given(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if key == "phases" and isinstance(value, list):
            for phase in value:
                yield from _flat(f"phases.{phase.get('name', '?')}.", phase)
        else:
            yield from _flat("", {key: value})


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys below `prefix`, but for those that say where the same pictures lie."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        elif not (prefix == "data." and key in PLACES):
            yield prefix + key, _text(value)


def _text(value: object) -> str:
    return "none" if value is None else value_text(value)


def _facts(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    weights = about.get("weights") or {}
    sha = str(weights.get("sha256") or "")
    yield "network", str(about.get("model"))
    yield "its weights", f"SHA-256 {sha[:12]}…" if sha else "random"
    yield "data", f"fingerprint {str(about['data']['fingerprint'])[:12]}…"
    yield "precision", str((about.get("format") or {}).get("precision"))
    yield "machine", str(about.get("machine"))
    for name, version in (about.get("versions") or {}).items():
        yield f"version of {name}", str(version)
