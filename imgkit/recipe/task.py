"""One label an image or any number: which task a recipe asks for, and the recipe adapted to it."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imgkit.errors import RecipeError, UsageError, printable
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
        RecipeError: if a loss or the monitor is of the other task.
    """
    _check_monitor(loaded, task)
    recipe = loaded.recipe
    unfit = [
        phase for phase in recipe.phases if phase.solver != "logistic" and task not in resolve(recipe, phase).loss.TASKS
    ]
    tables = list(dict.fromkeys(_table_of(phase) for phase in unfit))
    wrong = [table for table in tables if not _is_replaceable(loaded, table, task)]
    if wrong:
        raise _other_task(loaded, wrong, task)
    if not tables:
        return loaded, []
    note = "the loss is bce, binary cross-entropy of each label by itself, since the task is multi-label"
    return _with_bce(loaded, tables), [note]


def _check_monitor(loaded: Loaded, task: Task) -> None:
    name = loaded.recipe.monitor.removeprefix("val/")
    if name not in MONITORS[task]:
        raise RecipeError(
            f"monitor = {value_text(loaded.recipe.monitor)} ({loaded.origins['monitor']}) is no score of a "
            f"{WORDS[task]} task, which has {', '.join(MONITORS[task])}",
            "Type one of them, for example  --monitor val/f1_macro",
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
