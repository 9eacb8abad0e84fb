"""A loaded recipe as TOML, with the origin of every value."""

from collections.abc import Mapping

from imgkit.errors import printable
from imgkit.recipe.load import Loaded
from imgkit.recipe.phases import TABLES, Unread, unread
from imgkit.recipe.problems import OPEN, PHASE_KEYS, SECTIONS, TOP_LEVEL, UNIONS
from imgkit.recipe.schema import PhaseSettings
from imgkit.recipe.toml import value_text

_WIDEST = 60  # columns before the comments; longer lines push their own comment out
Line = tuple[str, str]
"""What stands on a line, and its comment."""


def render(loaded: Loaded) -> str:
    """The resolved recipe as TOML text that `load_recipe` reads back to an equal recipe.

    Given values are live lines and carry their origin. Defaults are comments (`# seed = 0  # default`), so that reading
    the file does not turn them into given values; defaults that are off, or that no phase reads, are left out. A given
    value that no phase reads, which `make_plan` refuses, is a comment too.
    """
    recipe, idle = loaded.recipe, unread(loaded.recipe)
    lines: list[Line] = [
        (f"# {printable(recipe.name)}: a resolved recipe, made from {printable(loaded.source)}", ""),
        (f"#   imgkit finetune {'' if recipe.model.name else 'MODEL '}--recipe THIS_FILE", ""),
        ("# Each value has its origin beside it; lines that begin with # are defaults, shown to be changed.", ""),
    ]
    values = dict(recipe) | {"schema": recipe.schema_version}
    lines += _values(loaded, idle, "", {key: values[key] for key in TOP_LEVEL})
    for name in (*SECTIONS, *UNIONS):
        section = dict(values[name])
        inside = {key[-1]: section.pop(key[-1]) for key in OPEN if key[:-1] == (name,)}
        lines += _table(f"[{name}]", _values(loaded, idle, f"{name}.", section))
        for key, given in inside.items():
            lines += _table(f"[{name}.{key}]", _values(loaded, idle, f"{name}.{key}.", given))
    for phase in recipe.phases:
        lines += _phase(loaded, idle, phase)
    width = min(_WIDEST, max(len(text) for text, comment in lines if comment))
    return "".join(
        f"{text:<{width}}  # {comment}".rstrip() + "\n" if comment else f"{text}\n" for text, comment in lines
    )


def _phase(loaded: Loaded, idle: Mapping[str, Unread], phase: PhaseSettings) -> list[Line]:
    prefix = f"phases.{phase.name}."
    own = {key: value for key, value in phase.overrides.items() if key not in TABLES}
    values = {key: getattr(phase, key) for key in PHASE_KEYS} | own
    lines = _table("[[phases]]", _values(loaded, idle, prefix, values))
    for table in TABLES:
        inner = phase.overrides.get(table, {})
        lines += _table(f"[phases.{table}]", _values(loaded, idle, f"{prefix}{table}.", inner))
    return lines


def _table(header: str, lines: list[Line]) -> list[Line]:
    return [("", ""), (header, ""), *lines] if lines else []


def _values(loaded: Loaded, idle: Mapping[str, Unread], prefix: str, values: Mapping[str, object]) -> list[Line]:
    lines = []
    for key, value in values.items():
        origin, why = loaded.origins[prefix + key], idle.get(prefix + key)
        text = f"{key} = {value_text(value)}"
        if origin == "default":
            lines += [(f"# {text}", origin)] if value is not None and why is None else []
        elif why is None:
            lines.append((text, printable(origin)))
        else:
            lines.append((f"# {text}", f"{printable(origin)}; not used: {why.reason}"))
    return lines
