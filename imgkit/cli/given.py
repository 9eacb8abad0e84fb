"""What the words of a command mean: recipe values, the model, plugins. For commands with options of a training."""

import os
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imgkit.cli.options import recipe_flags
from imgkit.errors import UsageError

if TYPE_CHECKING:
    from imgkit.plugin_files import Plugin
    from imgkit.recipe.load import Flag


def command_line() -> str:
    """The command as typed, quoted for a shell."""
    return shlex.join(["imgkit", *sys.argv[1:]])


def smoke_asked(flag: bool) -> bool:
    """Whether a trial of a few steps is wanted: --smoke, or IMGKIT_SMOKE=1 in the environment."""
    return flag or os.environ.get("IMGKIT_SMOKE") == "1"


def use_given_plugins(given: Mapping[str, Any]) -> "tuple[Plugin, ...]":
    """Import the files of --plugin, before a recipe that names what they register is read."""
    if not given["plugin"]:
        return ()
    from imgkit.plugin_files import use_plugins

    return use_plugins(given["plugin"])


def model_and_flags(recipe: str, model: str | None, given: Mapping[str, Any]) -> "tuple[str, dict[str, Flag]]":
    """The model, which may be the recipe's own, and the recipe values of the options that were given."""
    flags = flags_of(given)
    return model or model_of(recipe, flags, given["set"] or []), flags


def flags_of(given: Mapping[str, Any]) -> "dict[str, Flag]":
    """The recipe values of the options that were given, with how each is spelt."""
    from imgkit.recipe.load import Flag

    return {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given).items()}


def model_of(recipe: str, flags: "Mapping[str, Flag]", sets: list[str]) -> str:
    """The model that the recipe itself names, such as that of an earlier run, or that of the run it starts from."""
    from imgkit.recipe.load import load_recipe
    from imgkit.recipe.phases import FROM_RUN

    chosen = load_recipe(recipe, flags=flags, sets=sets).recipe.model
    name = chosen.name
    if name is None and chosen.weights.startswith(FROM_RUN):
        from imgkit.branch import parent_of

        return str(parent_of(chosen.weights)[0].read_json("run.json")["model"])
    if name is None:
        raise UsageError(
            "Which model? Neither the command nor the recipe names one.",
            "For example:  imgkit finetune resnet50 --data PICTURES\nAll of them:  imgkit models",
        )
    return name
