"""imgkit in Python: what the commands do, as functions.

    run = imgkit.finetune("resnet50", data="cells/", epochs=4)
    run.evaluate(split="test")["f1_macro"]
    for answer in run.predict(["photos/"]):
        print(answer.path, answer.label, answer.prob)

torch is imported when something is trained, scored or predicted, not before.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from imgkit.api_options import Cautions, FinetuneOptions, Options, flags_of, other_data, refuse_unknown
from imgkit.errors import UsageError
from imgkit.plugin_files import Given, changed_plugins, require_plugins, require_same_plugins, use_plugins
from imgkit.recipe.load import load_recipe
from imgkit.recipe.schema import DataSettings
from imgkit.run import RunFolder, check_place
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.data.load import LoadedData
    from imgkit.inference import Precision
    from imgkit.predict import Prediction
    from imgkit.range_test import LrCurve
    from imgkit.setup import Setup
    from imgkit.vote import Rule

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
        max_pixels: int | None = None,
        root: str | Path | None = None,
        device: str = "auto",
        images: bool = True,
        screen: Screen | None = None,
    ) -> dict[str, Any]:
        """Score the best weights on a split of the run's data, or on other data by class name.

        A split of the run's own data is scored once; after that its stored metrics are returned.

        Args:
            data: a folder or CSV, or a recipe's data settings where columns have to be named; None: the run's data.
            split: "train", "val" or "test"; None: test if there is one, else val; of other data all images.
            max_pixels: larger images of other data are refused; None: as in the training.
            root: the folder that the run's own data were moved to, kept in the run; or where paths of a CSV start.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            images: whether small pictures and maps of mistakes and unsure answers are stored with the scores.
            screen: where to say what is going on; None: nowhere.

        Returns: what metrics.json holds, and "folder": where all that is.

        Raises:
            DataError: if the data hold a class the model does not know.
            UsageError: if there is no such split or the run has no model yet.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        require_plugins(self.folder, "evaluate")
        from imgkit.evaluate import evaluate_run
        from imgkit.moved import move_data

        told, settings = screen or Screen(quiet=True), other_data(data, max_pixels, root)
        if root is not None and settings is None:
            move_data(self.folder, root, told)
        return evaluate_run(self.folder, data=settings, split=split, device=device, images=images, screen=told)

    def predict(
        self,
        inputs: str | Path | Iterable[str | Path],
        *,
        top_k: int = 1,
        image_col: str | None = None,
        root: str | Path | None = None,
        max_pixels: int | None = None,
        device: str = "auto",
        together_with: Sequence["Run"] = (),
        vote: "Rule" = "mean",
        precision: "Precision" = "auto",
        screen: Screen | None = None,
        **cautions: Unpack[Cautions],
    ) -> Iterator["Prediction"]:
        """Label files, folders or the images a CSV lists; one answer per image, in input order.

        An unreadable file gives an answer with `error` instead of a label. Memory is flat in the number of images.

        Args:
            inputs: files, folders, tables; "-": paths on stdin. A single one may be given as it is.
            top_k: classes to tell for each image.
            image_col: column of a CSV with the paths; None: that of the training where there is one, else a usual name.
            root: where relative paths of a CSV start; None: as in the training for its own CSV, else the CSV's folder.
            max_pixels: larger images are not opened; None: as in the training.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            together_with: runs that vote with this one; classes are the same by name.
            vote: "mean" of their probabilities, or "majority" of their answers: see `vote.vote_on_files`.
            precision: "float32", "bfloat16", "float16", or "auto": see `inference.Network`.
            screen: where to say which precision was found, and what validation says of `cautions`; None: nowhere.
            **cautions: reject_at, target_accuracy, unlike, conformal: `Cautions` tells each.

        Raises:
            DataError: if a CSV has no such column, or there is no folder `root`.
            UsageError: if a run has no model yet, classes or tasks differ, or cautions cannot be kept.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        for run in (self, *together_with):
            require_plugins(run.folder, "predict")
        from imgkit.caution import Wish, ask_cautiously

        folders = [run.folder for run in (self, *together_with)]
        how: dict[str, Any] = {"top_k": top_k, "image_col": image_col, "root": root, "max_pixels": max_pixels}
        how |= {"device": device, "rule": vote, "precision": precision}
        yield from ask_cautiously(folders, inputs, Wish(**cautions), screen, **how)


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

    write_sheet(loaded, file, rows=rows, screen=options.get("screen") or Screen(quiet=True))
    return file


def _train(verb: str, model: str, recipe: str, options: Options) -> Run:
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

    screen = options.get("screen") or Screen(quiet=True)
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
        screen: where to say what is going on; None: nowhere.

    Raises:
        UsageError: if there is no such run, another process works on it, or a plugin is missing or changed.
        DataError: if its data changed.
    """
    screen = screen or Screen(quiet=True)
    folder = RunFolder.open(name, Path(out), screen.note)
    require_same_plugins(folder, use_plugins(plugin, screen))
    with folder.lock():
        if root is not None:
            from imgkit.moved import move_data

            move_data(folder, root, screen)
        if folder.read_json("status.json")["state"] == "finished" and folder.has_model:
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
