"""`imgkit data preview`."""

from collections.abc import Callable
from typing import Any

from imgkit.cli.options import preview_signature, recipe_flags
from imgkit.cli.train import model_of, use_given_plugins
from imgkit.errors import UsageError
from imgkit.screen import Screen


def preview_command() -> Callable[..., None]:
    """The command: MODEL, the options of the pictures and the recipe, --rows and --out."""

    def command(model: str | None = None, **given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        from imgkit import api
        from imgkit.recipe.load import Flag

        flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given).items()}
        recipe, sets = given["recipe"] or "finetune", given["set"] or []
        name = model or model_of(recipe, flags, sets)
        if given["out"].suffix.lower() != ".png":
            raise UsageError(f"--out {given['out']} is no PNG.", "Call it  --out preview.png")
        api.preview(
            name,
            recipe=recipe,
            rows=given["rows"],
            flags=flags,
            sets=sets,
            plugin=given["plugin"] or [],
            out=given["out"],
            screen=Screen(),
        )

    command.__dict__["__signature__"] = preview_signature()
    return command
