"""`imgkit data prepare`."""

from collections.abc import Callable
from typing import Any

from imgkit.cli.given import model_of, use_given_plugins
from imgkit.cli.options import prepare_signature, recipe_flags
from imgkit.screen import Screen


def prepare_command() -> Callable[..., None]:
    """The command: MODEL, and the options that say which pixels a training needs."""

    def command(model: str | None = None, **given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        from imgkit.model_names import resolve_name
        from imgkit.recipe.load import Flag, load_recipe

        flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given).items()}
        recipe, sets = given["recipe"] or "finetune", given["set"] or []
        name = model or model_of(recipe, flags, sets)
        resolve_name(name)
        loaded = load_recipe(recipe, flags={**flags, "model.name": Flag("MODEL", name)}, sets=sets)
        from imgkit.decode_once import prepare_pictures

        prepare_pictures(loaded, Screen())

    command.__dict__["__signature__"] = prepare_signature()
    return command
