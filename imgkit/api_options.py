"""The options of `imgkit.finetune` and `imgkit.scratch`, and the recipe keys that they give."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from imgkit.errors import UsageError, suggestion
from imgkit.plugin_files import Given
from imgkit.recipe.load import Flag
from imgkit.recipe.schema import DataSettings
from imgkit.screen import Screen


class UserOptions(TypedDict, total=False):
    """What `finetune` and `scratch` take besides the model and the recipe.

    Attributes:
        data: a folder or a CSV; left out: $IMGKIT_DATA, then ./data.
        epochs: length of the only gradient phase.
        lr: rate of the only gradient phase.
        batch_size: images per update.
        image_size: side of the images, in pixels.
        fit: how pictures are made to fit it: "crop", "squash" or "letterbox".
        augment: how much training pictures are changed: "none", "light", "medium" or "strong".
        head: "linear", or of several layers: "mlp:1000", "mlp:1000:relu", "pool5-mlp:4096,2048".
        max_size: of parameters and buffers, "100MB" or "95MiB"; over it, or over the next two, GateError.
        max_params: such as "25M".
        max_latency: of one image on the device, such as "20ms".
        seed: of order, augmentation, dropout and new weights.
        workers: processes that load images; their number never changes a result.
        sets: "key.path=value" for any other key of the recipe.
        out: folder of run folders.
        name: of the run's folder; left out: made from time, verb, model and data.
        track: "tensorboard", "mlflow", "wandb" or a plugin's tracker, or several of them.
        plugin: Python files with losses, schedules, sources and networks of your own; the run keeps copies.
    """

    data: str | Path
    epochs: int
    lr: float
    batch_size: int
    image_size: int
    fit: str
    augment: str
    head: str
    max_size: str
    max_params: str | int
    max_latency: str
    seed: int
    workers: int
    sets: Sequence[str]
    out: str | Path
    name: str | None
    track: str | Sequence[str]
    plugin: Given


class Cautions(TypedDict, total=False):
    """What `Run.predict` takes to leave answers open or to give sets of classes; shares in (0, 1), None: not asked.

    Attributes:
        reject_at: an answer of a smaller calibrated probability is left open.
        target_accuracy: wanted among the answers given; chooses that threshold on validation, or says that it cannot.
        unlike: an image is left open that is further from the training images than this share of validation images.
        conformal: share of images whose set of classes holds the true one.
    """

    reject_at: float | None
    target_accuracy: float | None
    unlike: float | None
    conformal: float | None


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
    """All that `finetune` takes: also weights, "auto", a file, "part:FILE", "package:NAME" or "hub:OWNER/NAME"."""

    weights: str | Path


_KEYS = {
    "data": "data.path",
    "epochs": "epochs",
    "lr": "lr",
    "batch_size": "train.batch_size",
    "image_size": "model.image_size",
    "fit": "model.fit",
    "augment": "augment.preset",
    "head": "model.head",
    "max_size": "budget.size",
    "max_params": "budget.params",
    "max_latency": "budget.latency",
    "seed": "seed",
    "workers": "run.workers",
    "track": "run.track",
    "weights": "model.weights",
}
"""Options that are recipe values, and their keys."""


def refuse_unknown(verb: str, options: Mapping[str, object]) -> None:
    """See that each option is one of `verb`.

    Python does not check the keys of a TypedDict, and a misspelt option must not be left out in silence.

    Raises:
        UsageError: naming the first that is not, and what there is.
    """
    known = {*(Options if verb == "scratch" else FinetuneOptions).__annotations__}
    if verb in {"lr_find", "probe"}:  # the rate is what it looks for, or nothing is trained; and there is no run
        known -= {"lr", "epochs", "name", "smoke", "track"}
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        offered = sorted(known - CommandOptions.__annotations__.keys())
        raise UsageError(
            f"{verb} has no option {unknown!r}{suggestion(unknown, offered)}",
            f'Known: {", ".join(offered)}. Any key of the recipe goes through sets=["train.optimizer=sgd"].',
        )


def refuse_ranks() -> None:
    """See that a training is not started several times at once, by a script under torchrun.

    Raises:
        UsageError: if it is; the command shares the work instead.
    """
    told = [os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "WORLD_SIZE")]
    if not all(told) or told[-1] == "1":
        return
    if (world := sys.modules.get("imgkit.world")) is None or world.current() is None:
        raise UsageError(
            f"torchrun started this {os.environ['WORLD_SIZE']} times, and each would train by itself.",
            "Share the training by the command:  torchrun … -m imgkit finetune MODEL --name NAME --resume auto",
        )


def other_data(
    data: str | Path | DataSettings | None, max_pixels: int | None, root: str | Path | None
) -> DataSettings | None:
    """The settings of data that a run was not trained on, as `Run.evaluate` is given them; None: there are none.

    Raises:
        UsageError: if `max_pixels` is given for the run's own.
    """
    if data is None:
        if max_pixels is not None:
            raise UsageError("max_pixels is not used: it is for other data.", "Name them:  data=FOLDER_OR_CSV")
        return None
    settings = data if isinstance(data, DataSettings) else DataSettings(path=str(data))
    given = {"max_pixels": max_pixels, "root": None if root is None else str(root)}
    return settings.model_copy(update={key: value for key, value in given.items() if value is not None})


def flags_of(verb: str, model: str, options: Options) -> dict[str, Flag]:
    """The recipe keys that a call gives, by path, with the spelling for messages."""
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
