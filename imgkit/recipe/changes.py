"""What changes from one phase to the next, in one line for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from imgkit.recipe.fields import Strict
from imgkit.recipe.plan import PhasePlan
from imgkit.recipe.toml import value_text

_OWN = "its own"  # a value that the recipe leaves to the optimizer
_SILENT = ("name", "preset", "precision")


def phase_changes(before: PhasePlan, after: PhasePlan) -> str:
    """`lr 0.01 → 0.0004 · momentum 0.9 → 0.95 · jitter_p 0.8 → 0.5`: what differs, and nothing else; "" where nothing.

    Args:
        before: the phase before that took gradient steps.
        after: the one that begins, which takes them too.
    """
    assert before.lr is not None
    assert after.lr is not None
    changes = [f"lr {value_text(before.lr)} → {value_text(after.lr)}"] if before.lr != after.lr else []
    changes += [f"train {before.train} → {after.train}"] if before.train != after.train else []
    changes += _differences("", before.settings, after.settings)
    changes += ["optimizer_state reset"] if after.optimizer_state == "reset" else []
    changes += _differences("", before.augment, after.augment)
    for table in ("loss", "schedule"):
        old, new = getattr(before, table), getattr(after, table)
        if old.name != new.name:
            changes.append(f"{table} {old.name} → {new.name}")
        else:
            changes += _differences(f"{table}.", old, new)
    return " · ".join(changes)


def _differences(prefix: str, before: Strict, after: Strict) -> Iterator[str]:
    old, new = _values(before), _values(after)
    for key in new:
        if old[key] != new[key]:
            yield f"{prefix}{key} {_text(key, old[key])} → {_text(key, new[key])}"


def _values(table: Strict) -> Mapping[str, Any]:
    return {key: value for key, value in table if key not in _SILENT}


def _text(key: str, value: object) -> str:
    if value is None and key in ("momentum", "betas", "eps"):
        return _OWN
    return value_text(value).strip('"')
