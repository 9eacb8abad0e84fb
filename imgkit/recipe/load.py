"""Recipes by name or file, with flags and sets laid over them, checked as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from imgkit.errors import RecipeError, printable, suggestion
from imgkit.recipe.draft import Draft, read_draft
from imgkit.recipe.fields import Strict
from imgkit.recipe.given import Flag, apply_given
from imgkit.recipe.heads import LINEAR, by_sgd
from imgkit.recipe.phases import TABLES, override_keys, unread
from imgkit.recipe.presets import lay_presets
from imgkit.recipe.problems import (
    OPEN,
    OVERRIDES,
    PHASE_KEYS,
    SECTIONS,
    TOP_LEVEL,
    UNIONS,
    Key,
    check,
    got,
    option_fault,
    stop_at,
    unknown_key,
)
from imgkit.recipe.schema import DataSettings, ModelSettings, PhaseSettings, Recipe, TrainSettings
from imgkit.recipe.shipped import shipped_recipes
from imgkit.recipe.toml import read_toml, value_text

__all__ = ["Flag", "Loaded", "load_recipe", "recipe_summary", "shipped_recipes"]

SCHEMA = 1


@dataclass(frozen=True)
class Loaded:
    """A recipe and where its values come from.

    Args:
        recipe: the values.
        origins: key ("train.batch_size", "phases.all.schedule.name") to "default", "recipe finetune", "file my.toml",
            the spelling of a flag ("--batch-size"), "--set" or "preset light". Every key of the recipe is listed, and
            every setting that a phase has of its own.
        source: "recipe finetune" or "file my.toml".
    """

    recipe: Recipe
    origins: Mapping[str, str]
    source: str


def recipe_summary(path: Path) -> str:
    """The first comment line of a recipe file, without its mark; empty where there is none.

    Raises:
        RecipeError: if the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        hint = "The recipes that there are:  imgkit recipes"
        raise RecipeError(f"{printable(str(path))}: cannot be read: {error.strerror}", hint) from None
    return next((line.lstrip("# ").rstrip() for line in lines if line.startswith("#")), "")


def load_recipe(source: str | Path, *, flags: Mapping[str, Flag] | None = None, sets: Sequence[str] = ()) -> Loaded:
    """Load a recipe and lay the command line's values over it.

    Flags and sets win over the file, the file over the defaults. A `name` given to a loss or a schedule by flag or set
    replaces the file's table; `epochs` replaces `steps` and the other way round. `KEY=none` turns a key off where it
    can be off, and takes it out otherwise (a table: takes out the table). Values of a shipped recipe that no phase
    reads any more, since the command line changed the phases, fall back to their defaults.

    Args:
        source: the name of a shipped recipe, or a path (it ends in ".toml" or has a separator).
        flags: key to value; "lr" and "epochs" are those of the only phase that takes gradient steps.
        sets: "key.path=value", the value as in TOML or bare text; phases by name: "phases.all.lr=3e-4".

    Raises:
        RecipeError: all that is wrong, one line each, with file and line or the option's spelling.
    """
    path, shown, origin = _find(source)
    draft = read_draft(read_toml(path), shown, origin)
    _check_schema(draft)
    apply_given(draft, flags or {}, sets)
    lay_presets(draft)
    loaded = _build(draft)
    idle = unread(loaded.recipe)
    by_user = [key for key in idle if not loaded.origins[key].startswith(("default", "preset ", origin))]
    if origin.startswith("recipe ") and not by_user:
        return _build(draft.without([tuple(key.split(".")) for key in idle if loaded.origins[key] == origin]))
    return loaded


def _find(source: str | Path) -> tuple[Path, str, str]:
    """File, how messages call it, and the origin of its values."""
    name = printable(str(source))
    shipped = shipped_recipes()
    if isinstance(source, str) and source in shipped:
        return shipped[source], f"{source}.toml", f"recipe {source}"
    path = Path(source)
    if path.is_file():
        return path, name, f"file {name}"
    if path.is_dir():
        inside = path / "recipe.toml"
        hint = f"Did you mean {printable(str(inside))}?" if inside.is_file() else "Give the .toml file itself."
        raise RecipeError(f"{name} is a folder, not a recipe", hint)
    listing = f"Shipped: {', '.join(shipped)}. Or give the path of a .toml file."
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise RecipeError(f"there is no recipe file {name}{suggestion(path.stem, shipped)}", listing)
    raise RecipeError(f"unknown recipe {name!r}{suggestion(name, shipped)}", listing)


def _check_schema(draft: Draft) -> None:
    """Stop at another schema: what else is wrong could not be told."""
    schema = draft.value("schema")
    if schema is None:
        draft.fault(("schema",), f"is missing; write schema = {SCHEMA} at the top")
    elif schema is True or schema != SCHEMA:
        draft.problems.clear()
        draft.fault(("schema",), f"the file has schema {value_text(schema)}, this imgkit reads schema {SCHEMA}")
    else:
        return
    stop_at(draft.problems)


def _build(draft: Draft) -> Loaded:
    """Check every value of a draft.

    Raises:
        RecipeError: all problems, those noted in the draft too.
    """
    known = draft.without([key for key in draft.values if not _is_known(draft, key)])
    parts: dict[str, Strict | None] = {name: _section(known, name) for name in (*SECTIONS, *UNIONS)}
    phases = tuple(_phase(known, phase, parts) for phase in draft.phases)
    if not draft.phases and all(problem.key != ("phases",) for problem in draft.problems):
        draft.fault(("phases",), "is missing; a recipe has at least one [[phases]]")
    _check_weights(draft, parts, phases)
    _check_head(draft, parts["model"], phases)
    recipe, faults = check(Recipe, {**known.table(), **parts, "phases": phases})
    for key in faults.keys() - parts.keys() - {"phases"}:
        draft.fault((key,), faults[key])
    stop_at(draft.problems)
    recipe = cast(Recipe, recipe)
    return Loaded(recipe, _origins(recipe, draft), draft.origin)


def _is_known(draft: Draft, key: Key) -> bool:
    """Whether a key exists, and in an open table whether its value may; notes the fault where not."""
    name = draft.name_of(*key[:-1]) if len(key) > 1 and key[-2] in UNIONS else ""
    if not isinstance(name, str) or (name and name not in UNIONS[key[-2]]):
        return key[-1] == "name"  # the name is the fault
    fault = unknown_key(key, name) or (option_fault(draft.value(*key)) if key[:-1] in OPEN else None)
    if fault:
        draft.fault(key, fault)
    return fault is None


def _section(draft: Draft, name: str) -> Strict | None:
    inside = {key[-1]: values for key in OPEN if key[:-1] == (name,) and (values := draft.table(*key))}
    return _checked(draft, (name,), {}, draft.table(name) | inside)


def _phase(draft: Draft, phase: str, parts: Mapping[str, Strict | None]) -> PhaseSettings | None:
    """A phase with what it has of its own, checked together with the sections it is laid over."""
    place = ("phases", phase)
    given = draft.table(*place)
    settings, faults = check(PhaseSettings, {key: value for key, value in given.items() if key in PHASE_KEYS})
    for key, text in faults.items():
        draft.fault((*place, key), text)
    own = _own(draft, (*place, "train"), parts["train"], {key: given[key] for key in given if key in OVERRIDES})
    for table in TABLES:
        values = _own(draft, (*place, table), parts[table], draft.table(*place, table))
        own.update({table: values} if values else {})
    if settings is None:
        return None
    _check_length(draft, place, settings)
    return settings.model_copy(update={"overrides": own})


def _own(draft: Draft, place: Key, section: Strict | None, given: Mapping[str, object]) -> dict[str, object]:
    """Settings of a phase in one table, checked as laid over the section; empty where they are wrong."""
    if not given:
        return {}
    replaced = place[-1] in UNIONS and draft.name_of(*place) != draft.name_of(place[-1])
    if section is None and place[-1] in UNIONS and not replaced:
        return {}  # what is wrong with the section is told first
    base = section.model_dump() if section and not replaced else {}
    model = _checked(draft, place, base, given)
    return {key: getattr(model, key) for key in given} if model else {}


def _checked(draft: Draft, table: Key, base: Mapping[str, object], given: Mapping[str, object]) -> Strict | None:
    """Validate `given`, laid over `base`, as the table it is; faults are noted."""
    if table[-1] in UNIONS:
        types, name = UNIONS[table[-1]], draft.name_of(*table)
        if not isinstance(name, str) or name not in types:
            near = suggestion(name, types) if isinstance(name, str) else ""
            if "name" in given:
                draft.fault((*table, "name"), f"must be one of {', '.join(types)}, got {got(name)}{near}")
            return None
        type_, base = types[name], {**base, "name": name}
    else:
        type_ = SECTIONS[table[-1]]
    model, faults = check(type_, {**base, **given})
    for key, text in faults.items():
        # Keys of [train] stand in the phase itself.
        direct = len(table) == 3 and table[-1] == "train"
        draft.fault((*(table[:-1] if direct else table), key), text)
    return model


def _check_length(draft: Draft, place: Key, phase: PhaseSettings) -> None:
    """A solved phase takes no steps; any other has a rate and one length."""
    if phase.solver == "logistic":
        if phase.train != "head":
            draft.fault((*place, "train"), f"must be 'head' with solver = 'logistic', got {phase.train!r}")
        for key in ("lr", "epochs", "steps"):
            if getattr(phase, key) is not None:
                draft.fault((*place, key), f"a solved phase has no {key}; leave it out, or set solver = 'sgd'")
        return
    if phase.lr is None:
        draft.fault((*place, "lr"), "is missing; a phase with solver 'sgd' has a rate")
    if phase.epochs is None and phase.steps is None:
        draft.fault(place, "needs epochs or steps")
    elif phase.epochs is not None and phase.steps is not None:
        draft.fault((*place, "steps"), f"give epochs or steps, not both (epochs = {phase.epochs})")


def _check_weights(draft: Draft, parts: Mapping[str, Strict | None], phases: tuple[PhaseSettings | None, ...]) -> None:
    """A phase that draws by weights has a column that holds them."""
    data, train = parts["data"], parts["train"]
    if not isinstance(data, DataSettings) or not isinstance(train, TrainSettings) or data.weight_col is not None:
        return
    for phase in phases:
        if phase is None or phase.solver == "logistic" or phase.overrides.get("sampler", train.sampler) != "weighted":
            continue
        key = ("phases", phase.name, "sampler") if "sampler" in phase.overrides else ("train", "sampler")
        draft.fault(
            key,
            "'weighted' draws by a column of a CSV, and data.weight_col names none; add --weight-col COLUMN. Folders "
            "have none: draw by class there, --sampler balanced or sqrt",
        )
        return


def _check_head(draft: Draft, model: Strict | None, phases: tuple[PhaseSettings | None, ...]) -> None:
    """A solve gives one linear layer, so a head of several is trained by gradients."""
    if not isinstance(model, ModelSettings) or model.head == LINEAR:
        return
    for phase in phases:
        if phase is not None and phase.solver == "logistic":
            draft.fault(
                ("model", "head"),
                f"{model.head!r} has several layers, and phase {phase.name!r} is solved, which gives one linear layer; "
                f"train it by gradients: {by_sgd(phase.name)}",
            )
            return


def _origins(recipe: Recipe, draft: Draft) -> dict[str, str]:
    sections = {name: getattr(recipe, name) for name in (*SECTIONS, *UNIONS)}
    keys = [*TOP_LEVEL]
    for name, section in sections.items():
        for key in type(section).model_fields:
            keys += [f"{name}.{key}.{inner}" for inner in getattr(section, key)] if (name, key) in OPEN else []
            keys += [f"{name}.{key}"] if (name, key) not in OPEN else []
    for phase in recipe.phases:
        keys += [f"phases.{phase.name}.{key}" for key in (*PHASE_KEYS, *override_keys(phase))]
    given = {".".join(key): value.origin for key, value in draft.values.items()}
    return {key: given.get(key, "default") for key in keys}
