"""One label an image or any number: which task a recipe asks for, and the recipe adapted to it."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imgkit.errors import RecipeError, UsageError, printable
from imgkit.recipe.check import named_scores
from imgkit.recipe.fields import Task
from imgkit.recipe.load import Loaded
from imgkit.recipe.losses import LOSS_TYPES, Bce
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.phases import resolve
from imgkit.recipe.schema import DataSettings, PhaseSettings, Recipe
from imgkit.recipe.toml import value_text

WORDS: Mapping[Task, str] = {"single": "single-label", "multilabel": "multi-label"}
_LOSS: Mapping[Task, str] = {"single": "cross_entropy", "multilabel": "bce"}
_DERIVED = "derived (task multilabel)"


def task_of(data: DataSettings) -> Task:
    """The task that `[data]` asks for: with "auto", several label columns or a delimiter make it multi-label.

    Raises:
        UsageError: if `task` is "single" beside several label columns or a delimiter.
    """
    columns, delimiter = data.label_col or (), data.label_delimiter
    if data.task == "single" and len(columns) > 1:
        raise UsageError(
            f"data.task = 'single' means one label an image, but there are {len(columns)} label columns: "
            f"{printable(', '.join(columns))}.",
            f"Name one of them:  --label-col {shlex.quote(columns[0])}   or use  --task multilabel",
        )
    if data.task == "single" and delimiter is not None:
        raise UsageError(
            f"data.task = 'single' means one label an image, but the delimiter {delimiter!r} stands between labels.",
            "Leave out --label-delimiter, or use  --task multilabel",
        )
    if data.task == "auto":
        return "multilabel" if len(columns) > 1 or delimiter is not None else "single"
    return data.task


def for_task(loaded: Loaded, task: Task) -> tuple[Loaded, list[str]]:
    """The recipe with losses that serve `task`, and notes on what was changed.

    In a multi-label task a cross-entropy that nobody asked for (it is the default, or a shipped recipe's) becomes
    binary cross-entropy, with the same label smoothing. Losses that no phase reads stay as they are.

    Raises:
        RecipeError: if a loss, a value of a loss, the monitor, or what a plateau watches is of the other task, or if
            a phase mixes images and its loss takes no mixed targets.
    """
    _check_scores(loaded, task)
    recipe = loaded.recipe
    unfit = [
        phase for phase in recipe.phases if phase.solver != "logistic" and task not in resolve(recipe, phase).loss.TASKS
    ]
    tables = list(dict.fromkeys(_table_of(phase) for phase in unfit))
    wrong = [table for table in tables if not _is_replaceable(loaded, table, task)]
    if wrong:
        raise _other_task(loaded, wrong, task)
    if not tables:
        _check_keys(loaded, task)
        _check_mixing(loaded.recipe, task)
        return loaded, []
    note = "the loss is bce, binary cross-entropy of each label by itself, since the task is multi-label"
    adapted = _with_bce(loaded, tables)
    _check_keys(adapted, task)
    _check_mixing(adapted.recipe, task)
    return adapted, [note]


def _check_scores(loaded: Loaded, task: Task) -> None:
    """See that the monitor, and what the plateaus of phases watch, are scores of the task."""
    for key, score, change in named_scores(loaded):
        if score.removeprefix("val/") not in MONITORS[task]:
            raise RecipeError(
                f"{key} = {value_text(score)} ({loaded.origins[key]}) is no score of a {WORDS[task]} task, which has "
                f"{', '.join(MONITORS[task])}",
                f"Type one of them, for example  {change}",
            )


def _check_keys(loaded: Loaded, task: Task) -> None:
    """See that no value of a loss was asked for that the loss does not read in the task."""
    recipe = loaded.recipe
    tables = {"loss": recipe.loss}
    tables |= {f"phases.{phase.name}.loss": resolve(recipe, phase).loss for phase in recipe.phases}
    for table, loss in tables.items():
        for name, reason in loss.unread(task).items():
            key = f"{table}.{name}"
            if key not in loaded.origins or not _is_asked(loaded, key):
                continue
            weigh = "  Labels are weighed by pos_weight of bce:  --set loss.name=bce --set loss.pos_weight=neg_pos"
            raise RecipeError(
                f"{key} = {value_text(getattr(loss, name))} ({loaded.origins[key]}) is not used: {reason}",
                f"Leave it out.{weigh if name == 'class_weights' else ''}",
            )


def _check_mixing(recipe: Recipe, task: Task) -> None:
    """See that a phase that mixes images has a loss that takes their mixed targets."""
    for phase in recipe.phases:
        settings = resolve(recipe, phase)
        if phase.solver == "logistic" or not settings.augment.mixes or task in settings.loss.SOFT:
            continue
        fitting = " or ".join(name for name, type_ in LOSS_TYPES.items() if task in type_.SOFT)
        raise RecipeError(
            f"phase {phase.name!r} mixes images, and so their targets, and the loss {settings.loss.name!r} takes none "
            "that are mixed",
            f"Leave the mixing out: --set augment.mixup=0 --set augment.cutmix=0; or take the loss {fitting}.",
        )


def _table_of(phase: PhaseSettings) -> str:
    """The table that names the loss of a phase: its own, or the common one."""
    return f"phases.{phase.name}.loss" if "name" in phase.overrides.get("loss", {}) else "loss"


def _is_replaceable(loaded: Loaded, table: str, task: Task) -> bool:
    return task == "multilabel" and _name(loaded, table) == "cross_entropy" and not _is_asked(loaded, f"{table}.name")


def _name(loaded: Loaded, table: str) -> str:
    if table == "loss":
        return loaded.recipe.loss.name
    name: str = _phase(loaded.recipe, table.split(".")[1]).overrides["loss"]["name"]
    return name


def _phase(recipe: Recipe, name: str) -> PhaseSettings:
    return next(phase for phase in recipe.phases if phase.name == name)


def _is_asked(loaded: Loaded, key: str) -> bool:
    """Whether a value is the user's: no default, and not a shipped recipe's."""
    return not loaded.origins[key].startswith(("default", "recipe "))


def _other_task(loaded: Loaded, tables: list[str], task: Task) -> RecipeError:
    fitting = ", ".join(name for name, type_ in LOSS_TYPES.items() if task in type_.TASKS)
    lines = [
        f"{table}.name = {value_text(_name(loaded, table))} ({loaded.origins[f'{table}.name']}) is no loss of a "
        f"{WORDS[task]} task, which has {fitting}"
        for table in tables
    ]
    change = " ".join(f"--set {table}.name={_LOSS[task]}" for table in tables)
    images = "each image has one label" if task == "single" else "an image has any number of labels"
    return RecipeError("\n".join(lines), f"In these data {images}. Change the loss:  {change}")


def _with_bce(loaded: Loaded, tables: list[str]) -> Loaded:
    """The recipe with bce instead of the cross-entropy that `tables` name."""
    recipe, origins = loaded.recipe, dict(loaded.origins)
    if "loss" in tables:
        recipe = recipe.model_copy(update={"loss": Bce(**_kept(loaded, "loss", dict(recipe.loss), origins))})
        origins |= {f"loss.{key}": origins.get(f"loss.{key}", "default") for key in Bce.model_fields}
    phases = tuple(_phase_with_bce(loaded, phase, tables, origins) for phase in recipe.phases)
    return replace(loaded, recipe=recipe.model_copy(update={"phases": phases}), origins=origins)


def _phase_with_bce(loaded: Loaded, phase: PhaseSettings, tables: list[str], origins: dict[str, str]) -> PhaseSettings:
    own, table = phase.overrides.get("loss", {}), f"phases.{phase.name}.loss"
    laid_over = "loss" in tables and "name" not in own  # a table without a name adds to the common one
    if not own or not (table in tables or laid_over):
        return phase
    return phase.model_copy(update={"overrides": phase.overrides | {"loss": _kept(loaded, table, own, origins)}})


def _kept(loaded: Loaded, table: str, given: Mapping[str, Any], origins: dict[str, str]) -> dict[str, Any]:
    """The values of a table of cross-entropy that bce has too, with its name where there was one."""
    kept = {key: value for key, value in given.items() if key in Bce.model_fields}
    for key in given.keys() - kept.keys():
        if _is_asked(loaded, f"{table}.{key}"):
            raise RecipeError(
                f"{table}.{key} = {value_text(given[key])} ({origins[f'{table}.{key}']}) is a value of cross_entropy, "
                f"and the loss of a multi-label task is bce, which has {', '.join(Bce.model_fields)}",
                f"Leave out {key}.",
            )
        del origins[f"{table}.{key}"]
    if "name" in kept:
        kept["name"] = "bce"
        origins[f"{table}.name"] = _DERIVED
    return kept
