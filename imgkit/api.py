"""imgkit in Python: what the commands do, as functions.

    run = imgkit.finetune("resnet50", data="cells/", epochs=4)
    run.evaluate(split="test")["f1_macro"]
    for answer in run.predict(["photos/"]):
        print(answer.path, answer.label, answer.prob)

torch is imported when something is trained, scored or predicted, not before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from imgkit.api_folds import Folds, cross_validate
from imgkit.api_options import FinetuneOptions, Options, flags_of, refuse_ranks, refuse_unknown
from imgkit.api_run import Run
from imgkit.errors import UsageError
from imgkit.notebook import usual_screen
from imgkit.plugin_files import Given, changed_plugins, require_same_plugins, use_plugins
from imgkit.recipe.load import load_recipe
from imgkit.run import RunFolder, check_place
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.load import LoadedData
    from imgkit.range_test import LrCurve
    from imgkit.setup import Setup
    from imgkit.studies.schema import Verb

__all__ = [
    "RUNS",
    "Folds",
    "Run",
    "finetune",
    "lr_find",
    "open_run",
    "prepared",
    "preview",
    "resume",
    "scratch",
    "show_plan",
]
RUNS = Path("runs")


@overload
def finetune(model: str, *, recipe: str = ..., folds: None = None, **options: Unpack[FinetuneOptions]) -> Run: ...


@overload
def finetune(model: str, *, recipe: str = ..., folds: int, **options: Unpack[FinetuneOptions]) -> Folds: ...


def finetune(
    model: str, *, recipe: str = "finetune", folds: int | None = None, **options: Unpack[FinetuneOptions]
) -> Run | Folds:
    """Fine-tune a pretrained network of timm's registry by a shipped recipe or a TOML file.

    Args:
        model: timm's name, such as "resnet50".
        recipe: a shipped recipe's name or a TOML file.
        folds: cross-validate: so many trainings, each in a process of its own and scored on the part that it did not
            see; the same call again goes on where it was stopped.
        **options: data, weights, epochs, lr, batch_size, image_size, seed, workers, sets=["key.path=value"] for any
            other key of the recipe, out and name of the run's folder: `UserOptions` tells each.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    return _train("finetune", model, recipe, folds, options)


@overload
def scratch(model: str, *, recipe: str = ..., folds: None = None, **options: Unpack[Options]) -> Run: ...


@overload
def scratch(model: str, *, recipe: str = ..., folds: int, **options: Unpack[Options]) -> Folds: ...


def scratch(
    model: str, *, recipe: str = "scratch", folds: int | None = None, **options: Unpack[Options]
) -> Run | Folds:
    """Train a network of timm's registry from random weights.

    Args:
        model: timm's name, such as "vgg19".
        recipe: a shipped recipe's name or a TOML file.
        folds: as `finetune` takes it.
        **options: as `finetune` takes them, without weights.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    return _train("scratch", model, recipe, folds, options)


def lr_find(
    model: str,
    *,
    recipe: str = "finetune",
    steps: int = 100,
    min_lr: float = 1e-7,
    max_lr: float = 1.0,
    **options: Unpack[FinetuneOptions],
) -> "LrCurve":
    """Look for a learning rate: the loss of the first gradient phase while its rate grows (Smith 2017).

    Phases before it, such as a solved head, are done first. Makes no run; writes lr-find.csv and lr-find.png.

    Args:
        model: timm's name, such as "resnet50".
        recipe: a shipped recipe's name or a TOML file.
        steps: updates, at most; at least 10.
        min_lr: the first rate.
        max_lr: the last rate.
        **options: data, weights, batch_size, image_size, seed, sets; out, the folder of the files, or lr-find/.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    if steps < 10 or not 0 < min_lr < max_lr:
        raise UsageError(
            f"A range test of {steps} steps from {min_lr:g} to {max_lr:g} gives no curve.",
            "It takes 10 steps or more, and rates above 0 that grow: --steps 100 --min-lr 1e-7 --max-lr 1",
        )
    options["out"] = out = Path(options.get("out", "lr-find"))
    with prepared("lr_find", model, recipe, options) as (setup, _, screen):
        from imgkit.range_test import run_range_test

        return run_range_test(setup, steps=steps, min_lr=min_lr, max_lr=max_lr, out=out, screen=screen)


def show_plan(verb: str, model: str, *, recipe: str, **options: Unpack[FinetuneOptions]) -> None:
    """Say what `finetune` or `scratch` would do: phases, steps, rates, sizes, images per class. Writes nothing."""
    with prepared(verb, model, recipe, options, dry_run=True) as (setup, _, screen):
        from imgkit.setup import plan_lines

        screen.fact("Plan", *plan_lines(setup))


def preview(model: str, *, recipe: str = "finetune", rows: int = 8, **options: Unpack[FinetuneOptions]) -> Path:
    """Write a contact sheet: training pictures as evaluation sees them, and as each of the first epochs will.

    Args:
        model: timm's name; decides size, colours and fit. Its weights are not needed.
        recipe: a shipped recipe's name or a TOML file.
        rows: pictures, of each class in turn.
        **options: as `finetune` takes them; `out` is the PNG, "preview.png" where it is left out.

    Returns:
        the PNG.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    refuse_unknown("finetune", options)
    use_plugins(options.get("plugin", ()), options.get("screen"))
    loaded = load_recipe(recipe, flags=flags_of("finetune", model, options), sets=options.get("sets", ()))
    from imgkit.data.sources import find_data, refuse_inside
    from imgkit.model_names import resolve_name

    file = Path(options.get("out", "preview.png"))
    data = loaded.recipe.data
    refuse_inside(find_data(data), data.root, file, called="picture", beside="preview.png")
    resolve_name(model)
    from imgkit.preview import write_sheet

    write_sheet(loaded, file, rows=rows, screen=options.get("screen") or usual_screen())
    return file


def _train(verb: "Verb", model: str, recipe: str, folds: int | None, options: Options) -> Run | Folds:
    if folds is not None:
        refuse_unknown(verb, options)
        return cross_validate(verb, model, recipe, folds, options, RUNS)
    with prepared(verb, model, recipe, options) as (setup, found, screen):
        from imgkit.experiment import Experiment
        from imgkit.prepare import begin

        folder = begin(setup, found, out=Path(options.get("out", RUNS)), name=options.get("name"))
        screen.log_to(folder.path / "log.txt")
        screen.fact("Writes", f"{folder.path}/")
        with folder.lock():
            Experiment(folder, setup, screen).run()
    return Run(folder)


@contextmanager
def prepared(
    verb: str, model: str, recipe: str, options: Options, *, dry_run: bool = False
) -> Iterator[tuple["Setup", "LoadedData", Screen]]:
    """What training works with; what it sets for the whole process is given back when the block ends."""
    refuse_unknown(verb, options)
    refuse_ranks()
    screen = options.get("screen") or usual_screen()
    plugins = use_plugins(options.get("plugin", ()), options.get("screen"))
    loaded = load_recipe(recipe, flags=flags_of(verb, model, options), sets=options.get("sets", ()))
    from imgkit.data.sources import find_data, refuse_inside
    from imgkit.model_names import resolve_name

    # What can be told before torch is imported, which takes seconds.
    out = Path(options.get("out", RUNS))
    refuse_inside(find_data(loaded.recipe.data), loaded.recipe.data.root, out)
    check_place(out, options.get("name"))
    resolve_name(model)
    from imgkit.device import settings_kept
    from imgkit.prepare import prepare

    screen.header()
    command, smoke = options.get("command", ""), options.get("smoke", False)
    with settings_kept():
        setup, found = prepare(loaded, verb=verb, command=command, smoke=smoke, dry_run=dry_run, screen=screen)
        about = {**setup.about, "plugins": [one.about() for one in plugins]}
        yield replace(setup, about=about), found, screen


def resume(
    name: str,
    *,
    out: str | Path = RUNS,
    workers: int | None = None,
    root: str | Path | None = None,
    plugin: Given = (),
    screen: Screen | None = None,
) -> Run:
    """Go on with a run that was stopped or killed, to the same weights it would have had.

    Args:
        name: of the run, a path, or "latest".
        out: folder of run folders.
        workers: loader processes; None: as before. Their number never changes a result.
        root: the folder that the run's data were moved to; kept in the run.
        plugin: the files that the run began with, unchanged.
        screen: where to say what is going on; None: in the cell of a notebook, else nowhere.

    Raises:
        UsageError: if there is no such run, another process works on it, or a plugin is missing or changed.
        DataError: if its data changed.
    """
    refuse_ranks()
    screen = screen or usual_screen()
    folder = RunFolder.open(name, Path(out), screen.note)
    require_same_plugins(folder, use_plugins(plugin, screen))
    with folder.lock():
        if root is not None:
            from imgkit.moved import move_data

            move_data(folder, root, screen)
        if folder.read_json("status.json")["state"] == "finished" and folder.has_model:
            folder.clean()  # a kill may have come while its page was written
            if not (folder.path / "report.html").is_file():
                from imgkit.finish import write_page

                write_page(folder, screen)
            screen.note(f"{folder.name} is finished already.")
            return Run(folder)
        from imgkit.checkpoint import steps
        from imgkit.device import settings_kept
        from imgkit.experiment import Experiment
        from imgkit.prepare import reopen

        screen.header()
        screen.log_to(folder.path / "log.txt")
        with settings_kept():
            setup = reopen(folder, fresh=not steps(folder.path / "checkpoints"), workers=workers, screen=screen)
            Experiment(folder, setup, screen).run()
    return Run(folder)


def open_run(name: str, out: str | Path = RUNS, *, plugin: Given = (), screen: Screen | None = None) -> Run:
    """The run called `name`: a folder under `out`, a path, or "latest".

    Args:
        name: of the run.
        out: folder of run folders.
        plugin: Python files; those that the run was made with are needed to score and to predict.
        screen: told of a plugin that changed since the run began, and of a "latest" that was removed; None: nobody.

    Raises:
        UsageError: if there is none.
    """
    folder = RunFolder.open(name, Path(out), None if screen is None else screen.note)
    use_plugins(plugin, screen)
    for text in changed_plugins(folder):
        if screen is not None:
            screen.warn(text)
    return Run(folder)
