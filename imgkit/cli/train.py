"""`imgkit finetune`, `scratch` and `resume`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgkit.cli import complete
from imgkit.cli.folds import cross_validate
from imgkit.cli.given import command_line, flags_of, model_and_flags, smoke_asked, use_given_plugins
from imgkit.cli.options import PLUGIN, signature
from imgkit.cli.ranks import check_training, goes_on, led
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.recipe.load import Flag

PANEL = "Train"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for verb, text in (
        ("finetune", "Fine-tune a pretrained model on your images."),
        ("scratch", "Train from random weights."),
    ):
        app.command(verb, help=text, rich_help_panel=PANEL, no_args_is_help=True)(_command(verb))
    app.command(rich_help_panel=PANEL)(resume)


def resume(
    name: Annotated[str, complete.RUN],
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that load images; any number gives the same.")
    ] = None,
    root: Annotated[str | None, typer.Option(metavar="FOLDER", help="The folder that its data were moved to.")] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
) -> None:
    """Go on with a run that was stopped or killed."""
    from imgkit import api

    plugins = use_given_plugins({"plugin": plugin})
    with led(plugins):
        api.resume(name, out=runs, workers=workers, root=root, plugin=plugin or [], screen=Screen())


def _command(verb: str) -> Callable[..., None]:
    def command(model: str | None = None, **given: object) -> None:
        _train(verb, model, given)

    command.__dict__["__signature__"] = signature(verb)  # where inspect, and so Typer, looks first
    return command


def _train(verb: str, model: str | None, given: Mapping[str, Any]) -> None:
    check_training(given)
    plugins = use_given_plugins(given)
    flags, recipe = flags_of(given), given["recipe"] or _parents_recipe(given) or verb
    sets: list[str] = given["set"] or []
    if given["folds"] is not None:
        cross_validate(verb, recipe, model, given)
        return
    if given["print_recipe"]:
        _print_recipe(verb, recipe, model, flags, sets)
        return
    with led(plugins):
        if goes_on(given):
            _go_on(given)
        else:
            _begin(verb, recipe, model, given)


def _go_on(given: Mapping[str, Any]) -> None:
    """Resume the run that --name names."""
    from imgkit import api
    from imgkit.run import RunFolder

    screen, folder = Screen(), RunFolder(Path(given["out"]) / given["name"])
    began = folder.read_json("run.json")["command"]
    if began != command_line():
        screen.warn(f"{folder.name} goes on as it began, whatever is typed now; it began with:  {began}")
    plugin = given["plugin"] or []
    api.resume(given["name"], out=given["out"], workers=given["workers"], plugin=plugin, screen=screen)


def _begin(verb: str, recipe: str, model: str | None, given: Mapping[str, Any]) -> None:
    from imgkit import api
    from imgkit.api_options import Options

    name, flags = model_and_flags(recipe, model, given)
    options = Options(
        flags=flags,
        sets=given["set"] or [],
        out=given["out"],
        name=given["name"],
        plugin=given["plugin"] or [],
        smoke=smoke_asked(given["smoke"]),
        screen=Screen(),
        command=command_line(),
    )
    if given["dry_run"]:
        api.show_plan(verb, name, recipe=recipe, **options)
        return
    (api.finetune if verb == "finetune" else api.scratch)(name, recipe=recipe, **options)


def _parents_recipe(given: Mapping[str, Any]) -> str:
    """The recipe of the run that --from names; "" without it."""
    if not given.get("from_"):
        return ""
    from imgkit.branch import parent_of

    return str(parent_of(given["from_"])[0].path / "recipe.toml")


def _print_recipe(verb: str, recipe: str, model: str | None, flags: "Mapping[str, Flag]", sets: list[str]) -> None:
    from imgkit.api_options import verb_flags
    from imgkit.recipe.load import Flag, load_recipe
    from imgkit.recipe.write import render

    named = {} if model is None else {"model.name": Flag("MODEL", model)}
    print(render(load_recipe(recipe, flags={**named, **verb_flags(verb), **flags}, sets=sets)), end="")
