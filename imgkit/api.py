"""imgkit in Python: what the commands do, as functions.

    run = imgkit.finetune("resnet50", data="cells/", epochs=4)
    run.evaluate(split="test")["f1_macro"]
    for answer in run.predict(["photos/"]):
        print(answer.path, answer.label, answer.prob)

torch is imported when something is trained, scored or predicted, not before.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from imgkit.errors import UsageError, suggestion
from imgkit.plugin_files import Given, changed_plugins, require_plugins, require_same_plugins, use_plugins
from imgkit.recipe.load import Flag, load_recipe
from imgkit.recipe.schema import DataSettings
from imgkit.run import RunFolder, check_place
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.load import LoadedData
    from imgkit.predict import Prediction
    from imgkit.prepare import Setup

RUNS = Path("runs")


class Run:
    """A finished or unfinished run: its folder, and what its model can do.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metrics of each stored evaluation by name ("val@1200", "test@1200"), as in their metrics.json."""
        return self.folder.evaluations()

    def evaluate(
        self,
        *,
        data: str | Path | DataSettings | None = None,
        split: str | None = None,
        device: str = "auto",
        screen: Screen | None = None,
    ) -> dict[str, Any]:
        """Score the best weights on a split of the run's data, or on other data by class name.

        A split of the run's own data is scored once; after that its stored metrics are returned.

        Args:
            data: a folder or CSV, or a recipe's data settings where columns have to be named; None: the run's data.
            split: "train", "val" or "test"; None: test if there is one, else val; of other data all images.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            screen: where to say what is going on; None: nowhere.

        Returns:
            What metrics.json holds, and "folder": where predictions and tables were written.

        Raises:
            DataError: if the data hold a class the model does not know.
            UsageError: if there is no such split or the run has no model yet.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        require_plugins(self.folder, "evaluate")
        from imgkit.evaluate import evaluate_run

        settings = DataSettings(path=str(data)) if isinstance(data, str | Path) else data
        return evaluate_run(self.folder, data=settings, split=split, device=device, screen=screen or Screen(quiet=True))

    def predict(
        self,
        inputs: str | Path | Iterable[str | Path],
        *,
        top_k: int = 1,
        image_col: str | None = None,
        root: str | Path | None = None,
        device: str = "auto",
        together_with: Sequence["Run"] = (),
    ) -> Iterator["Prediction"]:
        """Label files, folders or the images a CSV lists; one answer per image, in input order.

        An unreadable file gives an answer with `error` instead of a label. Memory does not grow with the number of
        images. A single file or folder may be given as it is.

        Args:
            inputs: files, folders, tables; "-": paths on stdin.
            top_k: classes to tell for each image.
            image_col: column of a CSV with the paths; None: that of the training where there is one, else a usual name.
            root: where relative paths of a CSV start; None: as in the training for its own CSV, else the CSV's folder.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            together_with: runs that vote with this one: probabilities are the mean over all; classes are the same.

        Raises:
            DataError: if a CSV has no such column, or there is no folder `root`.
            UsageError: if the run has no model yet.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        require_plugins(self.folder, "predict")
        from imgkit.device import choose_device
        from imgkit.predict import Trained, expand_inputs
        from imgkit.vote import Member, vote_on_files

        own = load_recipe(self.folder.path / "recipe.toml").recipe.data
        about = self.folder.read_json("run.json")["data"]
        trained = Trained(Path(about["path"]) if "path" in about else None, Path(about["root"]), own.image_col)
        inputs = [inputs] if isinstance(inputs, str | Path) else inputs
        files = expand_inputs(inputs, image_col=image_col, root=root, trained=trained)
        members = [Member.of(run.folder) for run in (self, *together_with)]
        yield from vote_on_files(members, files, top_k=top_k, device=choose_device(device))


class UserOptions(TypedDict, total=False):
    """What `finetune` and `scratch` take besides the model and the recipe.

    Attributes:
        data: a folder or a CSV; left out: $IMGKIT_DATA, then ./data.
        epochs: length of the only gradient phase.
        lr: rate of the only gradient phase.
        batch_size: images per update.
        image_size: side of the images, in pixels.
        seed: of splits, order, augmentation and new weights.
        workers: processes that load images; their number never changes a result.
        sets: "key.path=value" for any other key of the recipe.
        out: folder of run folders.
        name: of the run's folder; left out: made from time, verb, model and data.
        plugin: Python files with losses, schedules, sources and networks of your own; the run keeps copies.
    """

    data: str | Path
    epochs: int
    lr: float
    batch_size: int
    image_size: int
    seed: int
    workers: int
    sets: Sequence[str]
    out: str | Path
    name: str | None
    plugin: Given


class CommandOptions(TypedDict, total=False):
    """What a command hands over besides.

    Attributes:
        flags: recipe keys by path, with the spelling for messages.
        smoke: a few images and steps, to see that everything works.
        screen: where to say what is going on; left out: nowhere.
        command: the command line, for run.json.
    """

    flags: Mapping[str, Flag]
    smoke: bool
    screen: Screen
    command: str


class Options(UserOptions, CommandOptions, total=False):
    """All that `scratch` takes."""


class FinetuneOptions(Options, total=False):
    """All that `finetune` takes: also weights, "auto", a file, "package:NAME" or "hub:OWNER/NAME"."""

    weights: str | Path


_KEYS = {
    "data": "data.path",
    "epochs": "epochs",
    "lr": "lr",
    "batch_size": "train.batch_size",
    "image_size": "model.image_size",
    "seed": "seed",
    "workers": "run.workers",
    "weights": "model.weights",
}
"""Options that are recipe values, and their keys."""


def finetune(model: str, *, recipe: str = "finetune", **options: Unpack[FinetuneOptions]) -> Run:
    """Fine-tune a pretrained network of timm's registry by a shipped recipe or a TOML file.

    Args:
        model: timm's name, such as "resnet50".
        recipe: a shipped recipe's name or a TOML file.
        **options: data, weights, epochs, lr, batch_size, image_size, seed, workers, sets=["key.path=value"] for any
            other key of the recipe, out and name of the run's folder: `UserOptions` tells each.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    return _train("finetune", model, recipe, options)


def scratch(model: str, *, recipe: str = "scratch", **options: Unpack[Options]) -> Run:
    """Train a network of timm's registry from random weights.

    Args:
        model: timm's name, such as "vgg19".
        recipe: a shipped recipe's name or a TOML file.
        **options: as `finetune` takes them, without weights.

    Raises:
        ImgkitError: the kind says what has to be mended.
    """
    return _train("scratch", model, recipe, options)


def show_plan(verb: str, model: str, *, recipe: str, **options: Unpack[FinetuneOptions]) -> None:
    """Say what `finetune` or `scratch` would do: phases, steps, rates, sizes, images per class. Writes nothing."""
    setup, _, screen = _prepare(verb, model, recipe, options, dry_run=True)
    from imgkit.prepare import plan_lines

    screen.fact("Plan", *plan_lines(setup))


def _train(verb: str, model: str, recipe: str, options: Options) -> Run:
    setup, found, screen = _prepare(verb, model, recipe, options)
    from imgkit.experiment import Experiment
    from imgkit.prepare import begin

    folder = begin(setup, found, out=Path(options.get("out", RUNS)), name=options.get("name"))
    screen.log_to(folder.path / "log.txt")
    screen.fact("Writes", f"{folder.path}/")
    with folder.lock():
        Experiment(folder, setup, screen).run()
    return Run(folder)


def _prepare(
    verb: str, model: str, recipe: str, options: Options, *, dry_run: bool = False
) -> tuple["Setup", "LoadedData", Screen]:
    _refuse_unknown(verb, options)
    plugins = use_plugins(options.get("plugin", ()), options.get("screen"))
    loaded = load_recipe(recipe, flags=_flags(verb, model, options), sets=options.get("sets", ()))
    from imgkit.data.sources import find_data, refuse_inside
    from imgkit.models.names import resolve_name

    # What can be told before torch is imported, which takes seconds.
    out = Path(options.get("out", RUNS))
    refuse_inside(find_data(loaded.recipe.data), loaded.recipe.data.root, out)
    check_place(out, options.get("name"))
    resolve_name(model)
    from imgkit.prepare import prepare

    screen = options.get("screen") or Screen(quiet=True)
    screen.header()
    command, smoke = options.get("command", ""), options.get("smoke", False)
    setup, found = prepare(loaded, verb=verb, command=command, smoke=smoke, dry_run=dry_run, screen=screen)
    about = {**setup.about, "plugins": [one.about() for one in plugins]}
    return replace(setup, about=about), found, screen


def _refuse_unknown(verb: str, options: Mapping[str, object]) -> None:
    """Python does not check the keys of a TypedDict, and a misspelt option must not be left out in silence."""
    known = (Options if verb == "scratch" else FinetuneOptions).__annotations__
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        offered = sorted(known.keys() - CommandOptions.__annotations__.keys())
        raise UsageError(
            f"{verb} has no option {unknown!r}{suggestion(unknown, offered)}",
            f'Known: {", ".join(offered)}. Any key of the recipe goes through sets=["train.optimizer=sgd"].',
        )


def _flags(verb: str, model: str, options: Options) -> dict[str, Flag]:
    flags = {"model.name": Flag("MODEL", model), **verb_flags(verb)}
    given: Mapping[str, object] = options
    for name, key in _KEYS.items():
        if name in given:
            value = given[name]
            flags[key] = Flag(f"{name}=", str(value) if isinstance(value, Path) else value)
    return {**flags, **options.get("flags", {})}


def verb_flags(verb: str) -> dict[str, Flag]:
    """What a verb itself asks for: `scratch` starts from random weights, whatever the recipe."""
    return {"model.weights": Flag("imgkit scratch", "none")} if verb == "scratch" else {}


def resume(
    name: str,
    *,
    out: str | Path = RUNS,
    workers: int | None = None,
    plugin: Given = (),
    screen: Screen | None = None,
) -> Run:
    """Go on with a run that was stopped or killed, to the same weights it would have had.

    Args:
        name: of the run, a path, or "latest".
        out: folder of run folders.
        workers: loader processes; None: as before. Their number never changes a result.
        plugin: the files that the run began with, unchanged.
        screen: where to say what is going on; None: nowhere.

    Raises:
        UsageError: if there is no such run, another process works on it, or a plugin is missing or changed.
        DataError: if its data changed.
    """
    screen = screen or Screen(quiet=True)
    folder = RunFolder.open(name, Path(out))
    require_same_plugins(folder, use_plugins(plugin, screen))
    with folder.lock():
        if folder.read_json("status.json")["state"] == "finished" and folder.has_model:
            screen.note(f"{folder.name} is finished already.")
            return Run(folder)
        from imgkit.checkpoint import steps
        from imgkit.experiment import Experiment
        from imgkit.prepare import reopen

        screen.header()
        screen.log_to(folder.path / "log.txt")
        setup = reopen(folder, fresh=not steps(folder.path / "checkpoints"), workers=workers, screen=screen)
        Experiment(folder, setup, screen).run()
    return Run(folder)


def open_run(name: str, out: str | Path = RUNS, *, plugin: Given = (), screen: Screen | None = None) -> Run:
    """The run called `name`: a folder under `out`, a path, or "latest".

    Args:
        name: of the run.
        out: folder of run folders.
        plugin: Python files; those that the run was made with are needed to score and to predict.
        screen: told of a plugin that changed since the run began; None: nobody.

    Raises:
        UsageError: if there is none.
    """
    folder = RunFolder.open(name, Path(out))
    use_plugins(plugin, screen)
    for text in changed_plugins(folder):
        if screen is not None:
            screen.warn(text)
    return Run(folder)
