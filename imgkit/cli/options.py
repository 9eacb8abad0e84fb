"""The options that `finetune` and `scratch` share: one table gives the command line and the recipe keys."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from imgkit.cli import complete
from imgkit.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One option of the training commands.

    Args:
        flag: as typed, "--batch-size".
        key: the recipe key it sets, "train.batch_size"; "" where it is no recipe value.
        kind: the type of its value.
        text: the line in --help.
        panel: the group in --help.
        default: the value where it is not given; None for every recipe value.
        metavar: how the value is called in --help; None: from the type, of which a choice is listed.
    """

    flag: str
    key: str
    kind: Any
    text: str
    panel: str
    default: Any = None
    metavar: str | None = None

    @property
    def name(self) -> str:
        """The name of its parameter in Python."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return f"{name}_" if iskeyword(name) else name

    def parameter(self) -> inspect.Parameter:
        """The parameter that Typer reads."""
        info = typer.Option(
            self.flag,
            help=self.text,
            rich_help_panel=self.panel,
            metavar=self.metavar or _METAVARS.get(self.kind),
            show_default=bool(self.default),
            autocompletion=complete.BY_FLAG.get(self.flag),
        )
        optional = self.kind if self.default is not None else self.kind | None
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=Annotated[optional, info]
        )


_METAVARS = {int: "N", float: "X", Path: "PATH", list[str]: "PATH"}
_PRESETS = Literal["none", "light", "medium", "strong"]
PLUGIN = typer.Option("--plugin", metavar="FILE", help="A plugin that the run was made with. Repeatable.")
"""The option of the commands that take a run."""
MAX_PIXELS = typer.Option("--max-pixels", metavar="N", help="Larger images are refused, such as 300M.")
"""The option of the commands that read other pictures than those of a training."""

_GROUP = "CSV column of groups (such as patient); a group stays in one split."
_EXACT = "Cut each batch into N parts: any number of processes that divides N gives identical weights."
_DATA, _RECIPE, _MACHINE, _RUN = "The pictures", "The recipe", "The machine", "The run"

OPTIONS = (
    Option("--data", "data.path", list[str], "Folder or CSV (else $IMGKIT_DATA, ./data). Repeatable: joined.", _DATA),
    Option("--train", "data.train", str, "Folder of class folders to train on; with --val.", _DATA, metavar="FOLDER"),
    Option("--val", "data.val_path", str, "Validation folder; or a share of train, such as 0.2.", _DATA, metavar="X"),
    Option("--image-col", "data.image_col", str, "CSV column with the image paths.", _DATA, metavar="COLUMN"),
    Option("--label-col", "data.label_col", list[str], "CSV column of labels. Repeatable.", _DATA, metavar="COLUMN"),
    Option("--label-delimiter", "data.label_delimiter", str, "What separates a cell's labels.", _DATA, metavar="TEXT"),
    Option("--task", "data.task", Literal["auto", "single", "multilabel"], "One label an image, or any number.", _DATA),
    Option("--split-col", "data.split_col", str, "CSV column with train, val or test.", _DATA, metavar="COLUMN"),
    Option("--group-col", "data.group_col", str, _GROUP, _DATA, metavar="COLUMN"),
    Option("--split-seed", "data.split_seed", int, "Seed of the splits that imgkit makes.", _DATA),
    Option("--weight-col", "data.weight_col", str, "CSV column of --sampler weighted.", _DATA, metavar="COLUMN"),
    Option("--root", "data.root", str, "Where relative paths of a CSV start.", _DATA, metavar="FOLDER"),
    Option("--classes", "data.classes", int, "Number of classes, checked against the data.", _DATA),
    Option("--on-bad", "data.on_bad", Literal["stop", "skip"], "What to do about files that do not open.", _DATA),
    Option("--max-pixels", "data.max_pixels", str, "Larger images are refused, such as 300M.", _DATA, metavar="N"),
    Option("--plugin", "", list[Path], "A Python file of your own losses, … Repeatable.", _RECIPE, metavar="FILE"),
    Option("--recipe", "", str, "A shipped recipe (imgkit recipes) or a TOML file.", _RECIPE, metavar="RECIPE"),
    Option("--set", "", list[str], "Any recipe value: --set phases.all.lr=3e-4. Repeatable.", _RECIPE, metavar="KEY=X"),
    Option("--epochs", "epochs", int, "Epochs of the phase that has them.", _RECIPE),
    Option("--batch-size", "train.batch_size", int, "Images per update.", _RECIPE),
    Option("--micro-batch", "train.micro_batch", int, "Images per forward pass; less memory.", _RECIPE),
    Option("--exact-world", "train.exact_world", int, _EXACT, _RECIPE),
    Option("--sampler", "train.sampler", str, "uniform, balanced, sqrt or weighted draws.", _RECIPE, metavar="DRAWS"),
    Option("--image-size", "model.image_size", int, "Side of the images, in pixels.", _RECIPE),
    Option("--fit", "model.fit", Literal["crop", "squash", "letterbox"], "How pictures are made to fit it.", _RECIPE),
    Option("--augment", "augment.preset", _PRESETS, "How much training pictures are changed.", _RECIPE),
    Option("--lr", "lr", float, "Learning rate of the head, at the top of the schedule.", _RECIPE),
    Option("--seed", "seed", int, "Seed of image order, augmentation, dropout and new weights.", _RECIPE),
    Option(
        "--weights", "model.weights", str, "auto, none, FILE, part:FILE, package:NAME, hub:ID.", _RECIPE, metavar="FROM"
    ),
    Option("--from", "model.weights", str, "Start from a checkpoint of a run: NAME@EPOCH.", _RECIPE, metavar="RUN"),
    Option("--head", "model.head", str, "linear, mlp:1000, mlp:1000:relu or pool5-mlp:4096.", _RECIPE, metavar="HEAD"),
    Option("--max-size", "budget.size", str, "Largest network allowed: 100MB, 95MiB or none.", _RECIPE, metavar="SIZE"),
    Option("--max-params", "budget.params", str, "Most parameters allowed, such as 25M.", _RECIPE, metavar="N"),
    Option("--max-latency", "budget.latency", str, "Longest time for an image, such as 20ms.", _RECIPE, metavar="TIME"),
    Option("--monitor", "monitor", str, "What chooses the best epoch, such as val/top1.", _RECIPE, metavar="METRIC"),
    Option("--early-stop", "early_stop", int, "Stop after so many epochs without a gain.", _RECIPE, metavar="EPOCHS"),
    Option(
        "--time", "time_limit", str, "Train so long at most, such as 10m, and end as usual.", _RECIPE, metavar="TIME"
    ),
    Option("--device", "run.device", str, "auto, cpu, cuda, cuda:N or mps.", _MACHINE, metavar="DEVICE"),
    Option("--workers", "run.workers", int, "Processes that load images.", _MACHINE),
    Option("--no-feature-cache", "run.feature_cache", bool, "Keep no features, and take none that are kept.", _MACHINE),
    Option("--out", "", Path, "Folder for runs.", _RUN, Path("runs"), metavar="FOLDER"),
    Option("--name", "", str, "Name of the run's folder (else from time, model, data).", _RUN, metavar="NAME"),
    Option("--resume", "", Literal["auto"], "With --name: begin the run, or go on with it.", _RUN),
    Option(
        "--folds", "", int, "Cross-validate: K trainings, each scored on the part it did not see.", _RUN, metavar="K"
    ),
    Option(
        "--track",
        "run.track",
        list[str],
        "Send metrics to tensorboard, mlflow or wandb. Repeatable.",
        _RUN,
        metavar="NAME",
    ),
    Option("--dry-run", "", bool, "Show the plan and stop: nothing is trained.", _RUN, False),
    Option("--print-recipe", "", bool, "Print the full recipe as TOML and stop.", _RUN, False),
    Option("--smoke", "", bool, "Run everything for a few steps, to see whether it works.", _RUN, False),
)


_IN_PREVIEW = ("--plugin", "--recipe", "--set", "--epochs", "--image-size", "--fit", "--augment", "--seed")
_NOT_IN_CHECK = ("--data", "--on-bad")  # the first as arguments; all bad files are to be found, whatever is done then
_IN_CHECK = ("--plugin", "--sampler")
_OF_CHECK = (
    Option("--fix-list", "", Path, "Write all findings as a CSV.", _RUN, metavar="FILE"),
    Option("--html", "", Path, "Write all findings as one page, with pictures.", _RUN, metavar="FILE"),
)
_OF_PREVIEW = (
    Option("--rows", "", int, "Number of pictures (8); with --by-class, of classes (50).", _RUN),
    Option("--by-class", "", bool, "Samples of each class instead, train beside val.", _RUN, False),
    Option("--out", "", Path, "The PNG to write.", _RUN, Path("preview.png")),
)
_NOT_IN_SPLIT = ("--data", "--train", "--val")  # the first as arguments; a pair has its splits, --val is a share here
_OF_SPLIT = (
    Option("--val", "data.val", float, "Share for validation (0.2).", _DATA, metavar="SHARE"),
    Option("--test", "data.test", float, "Share for one final score (0).", _DATA, metavar="SHARE"),
    Option("--time-col", "", str, "CSV column of dates or numbers: the newest are test.", _DATA, metavar="COLUMN"),
    Option("--folds", "", int, "Deal all but test to so many folds, too.", _DATA, metavar="K"),
    Option("--out", "", Path, "The CSV to write.", _RUN, Path("split.csv")),
)
_NOT_IN_LR_FIND = (
    *("--epochs", "--lr", "--monitor", "--early-stop", "--time", "--exact-world", "--resume"),
    *("--from", "--out", "--name", "--folds", "--track", "--dry-run", "--print-recipe", "--smoke"),
)
_MACHINES = ("--device", "--workers", "--no-feature-cache")
_IN_PROBE = ("--plugin", "--recipe", "--set", "--image-size", "--fit", "--seed", "--weights", *_MACHINES)
_OF_ANY_TABLE = ("--classes", "--on-bad", "--max-pixels")  # the others say how pictures are found, labelled and split
_OF_PROBE = (
    Option("--models", "", str, "The models again, with commas: --models resnet50,resnet18.", _RECIPE, metavar="NAMES"),
    Option("--out", "", Path, "Folder for probe.csv and held-out.csv.", _RUN, Path("probe")),
)
_MODEL = Option("--model", "", str, "A timm model (else one whose weights are installed).", _RECIPE, metavar="NAME")
_OF_LABEL_ERRORS = (
    _MODEL,
    Option("--top", "", int, "Suspects shown on the screen.", _RUN, 10),
    Option("--out", "", Path, "Folder for labels.csv and label-errors.html.", _RUN, Path("label-errors")),
)
_OF_LEARNING_CURVE = (
    _MODEL,
    Option("--seeds", "", int, "Draws of each share of the training images.", _RUN, 5),
    Option("--out", "", Path, "Folder for points.csv, the plot and the fits.", _RUN, Path("learning-curve")),
)
_IN_PREPARE = ("--plugin", "--recipe", "--set", "--image-size", "--fit", "--augment", "--workers")
_OF_LR_FIND = (
    Option("--steps", "", int, "Updates of the test, at most.", _RUN, 100),
    Option("--min-lr", "", float, "The first rate.", _RUN, 1e-7),
    Option("--max-lr", "", float, "The last rate.", _RUN, 1.0),
    Option("--out", "", Path, "Folder for lr-find.csv and lr-find.png.", _RUN, Path("lr-find")),
)


def signature(verb: str) -> inspect.Signature:
    """The signature of the training command `verb`: MODEL and the options; `scratch` has none of weights."""
    return _signature([option for option in OPTIONS if not (verb == "scratch" and option.key == "model.weights")])


def preview_signature() -> inspect.Signature:
    """The signature of `data preview`: MODEL, and those options that change what a picture looks like."""
    shared = [option for option in OPTIONS if option.panel == _DATA or option.flag in _IN_PREVIEW]
    return _signature([*shared, *_OF_PREVIEW])


def prepare_signature() -> inspect.Signature:
    """The signature of `data prepare`: MODEL, and those options that say which pixels a training needs."""
    return _signature([option for option in OPTIONS if option.panel == _DATA or option.flag in _IN_PREPARE])


def check_signature() -> inspect.Signature:
    """The signature of `data check`: folders or tables, and those options that change how they are read and split."""
    of_pictures = [option for option in OPTIONS if option.panel == _DATA and option.flag not in _NOT_IN_CHECK]
    shared = [*of_pictures, *(option for option in OPTIONS if option.flag in _IN_CHECK)]
    return signature_of_paths([*shared, *_OF_CHECK])


def split_options() -> tuple[Option, ...]:
    """The options of `data split`: those that change how pictures are read, and its own."""
    shared = [option for option in OPTIONS if option.panel == _DATA and option.flag not in _NOT_IN_SPLIT]
    data = next(option for option in OPTIONS if option.flag == "--data")
    return (data, *shared, *(option for option in OPTIONS if option.flag == "--plugin"), *_OF_SPLIT)


def split_signature() -> inspect.Signature:
    """The signature of `data split`: folders or tables, and its options."""
    return signature_of_paths([option for option in split_options() if option.flag != "--data"])


def signature_of_paths(options: Sequence[Option]) -> inspect.Signature:
    """The signature of a command that takes folders or tables, and options."""
    first = _first("data", list[str] | None, complete.PATHS)
    return inspect.Signature([first, *(option.parameter() for option in options)])


def lr_find_signature() -> inspect.Signature:
    """The signature of `lr-find`: MODEL, the options of a training that still mean something, and its own."""
    return _signature([*(option for option in OPTIONS if option.flag not in _NOT_IN_LR_FIND), *_OF_LR_FIND])


def probe_signature() -> inspect.Signature:
    """The signature of `probe`: MODELs, and those options that mean something where heads alone are solved."""
    first = _first("networks", list[str] | None, complete.MODELS)
    shared = [option for option in OPTIONS if option.panel == _DATA or option.flag in _IN_PROBE]
    return inspect.Signature([first, *(option.parameter() for option in [*shared, *_OF_PROBE])])


def label_errors_signature() -> inspect.Signature:
    """The signature of `data label-errors`: the options of `probe`, with the model as one of them."""
    return inspect.Signature([option.parameter() for option in [*_of_features(), *_OF_LABEL_ERRORS]])


def learning_curve_signature() -> inspect.Signature:
    """The signature of `data learning-curve`: likewise."""
    return inspect.Signature([option.parameter() for option in [*_of_features(), *_OF_LEARNING_CURVE]])


def table_again(given: Mapping[str, Any]) -> list[str]:
    """What was asked for of classes, files, network and machine, for a table that has labels, splits and groups."""
    read = {option.name: None for option in OPTIONS if option.panel == _DATA and option.flag not in _OF_ANY_TABLE}
    sets = [text for text in given["set"] or [] if not text.strip().startswith("data.")]
    return asked_again({**given, **read, "set": sets})


def _of_features() -> list[Option]:
    """The options that mean something where features of a whole data set are computed; weights of images do not."""
    of_pictures = [option for option in OPTIONS if option.panel == _DATA and option.flag != "--weight-col"]
    return [*of_pictures, *(option for option in OPTIONS if option.flag in _IN_PROBE)]


def _signature(options: Sequence[Option]) -> inspect.Signature:
    first = _first("model", str | None, complete.MODEL)
    return inspect.Signature([first, *(option.parameter() for option in options)])


def _first(name: str, kind: object, info: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, info]
    )


def typed(flags: Mapping[str, tuple[str, object]]) -> list[str]:
    """Flags as words of a command line; one that was given several times comes as often."""
    return [
        word
        for flag, value in flags.values()
        for one in (value if isinstance(value, list) else [value])
        for word in ((flag,) if one is False else (flag, str(one)))
    ]


def asked_again(given: Mapping[str, Any]) -> list[str]:
    """What was asked for of data, recipe and machine, as words to type behind the next command."""
    words = typed(recipe_flags(given))
    words += [word for file in given["plugin"] or [] for word in ("--plugin", str(file))]
    words += ["--recipe", given["recipe"]] if given["recipe"] else []
    return words + [word for text in given["set"] or [] for word in ("--set", text)]


def recipe_flags(given: Mapping[str, Any], options: tuple[Option, ...] = OPTIONS) -> dict[str, tuple[str, object]]:
    """Recipe key -> (the flag as typed, its value) for the options that were given.

    Args:
        given: parameter name -> value; None where not given.
        options: the options to look for.

    Raises:
        UsageError: if both --weights and --from are given.
    """
    from imgkit.recipe.phases import FROM_RUN

    flags: dict[str, tuple[str, object]] = {}
    for option in options:
        value = given.get(option.name)
        if not option.key or value is None or value == []:  # nothing, of an option that may be repeated
            continue
        key = option.key
        if option.flag == "--val" and (share := _share(value)) is not None:
            key, value = "data.val", share
        elif option.flag == "--no-feature-cache":
            value = False
        elif option.flag == "--data" and isinstance(value, list):
            value, *more = value
            flags |= {"data.path": ("--data", value)} | ({"data.more": ("--data", more)} if more else {})
        elif option.flag == "--from":
            if key in flags:
                raise UsageError(
                    "--weights and --from each name the weights to start from.",
                    "Give one: --from RUN@EPOCH takes the network with its head and the optimizer's state.",
                )
            value = FROM_RUN + str(value).removeprefix(FROM_RUN)
        flags[key] = (option.flag, value)
    return flags


def _share(text: str) -> float | None:
    """The number, where `--val` was given one; a folder called 0.2 can be written ./0.2."""
    try:
        return float(text)
    except ValueError:
        return None


def pixels(text: str | None) -> int | None:
    """The number that `--max-pixels` was given, `300000000` or `300M`; None where it was not given.

    Raises:
        UsageError: if it is none.
    """
    from imgkit.recipe.schema import DataSettings

    if text is None:
        return None
    try:
        return DataSettings.model_validate({"max_pixels": text}).max_pixels
    except ValueError:
        raise UsageError(f"--max-pixels {text!r} is not a number of pixels.", "Write 300000000 or 300M.") from None
