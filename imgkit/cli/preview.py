"""`imgkit data preview`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imgkit.cli.given import model_of, use_given_plugins
from imgkit.cli.options import preview_signature, recipe_flags
from imgkit.errors import UsageError
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.recipe.load import Flag


def preview_command() -> Callable[..., None]:
    """The command: MODEL, the options of the pictures and the recipe, --rows and --out."""

    def command(model: str | None = None, **given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        from imgkit import api
        from imgkit.recipe.load import Flag

        flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given).items()}
        if given["out"].suffix.lower() != ".png":
            raise UsageError(f"--out {given['out']} is no PNG.", "Call it  --out preview.png")
        if given["by_class"]:
            _by_class(model, flags, given)
            return
        recipe, sets = given["recipe"] or "finetune", given["set"] or []
        name = model or model_of(recipe, flags, sets)
        api.preview(
            name,
            recipe=recipe,
            rows=8 if given["rows"] is None else given["rows"],
            flags=flags,
            sets=sets,
            plugin=given["plugin"] or [],
            out=given["out"],
            screen=Screen(),
        )

    command.__dict__["__signature__"] = preview_signature()
    return command


def _by_class(model: str | None, flags: "Mapping[str, Flag]", given: Mapping[str, Any]) -> None:
    """Sample pictures of each class, which only the data decide on.

    Raises:
        UsageError: for what would be left unread.
    """
    from imgkit.class_sheet import write_class_sheet
    from imgkit.recipe.load import load_recipe

    words = [flag.spelling for key, flag in flags.items() if not key.startswith("data.")]
    words += [f"--set {text}" for text in given["set"] or [] if not text.startswith("data.")]
    words += ["--recipe"] if given["recipe"] else []
    if model is not None or words:
        raise UsageError(
            f"{model or words[0]} is not used: --by-class shows the pictures as they are, for no network.",
            "Leave it out.",
        )
    settings = load_recipe("finetune", flags=flags, sets=given["set"] or []).recipe.data
    write_class_sheet(settings, given["out"], rows=given["rows"], screen=Screen())
