"""The recipe: everything that describes one training, as frozen typed values.

Unknown keys are errors. A key left out has the default written here. Sections are common to all phases; a phase
may override any key of `[train]` but `precision` (written directly in the phase) and of `[augment]`, `[loss]`,
`[schedule]`. TOML has no null: the text "none" turns off a key that may be off (`crop = "none"`, `clip_norm = "none"`).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, SerializeAsAny

from imgkit.duration import parse_seconds
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.fields import (
    Betas,
    Columns,
    Count,
    Latency,
    Means,
    Names,
    Pixels,
    Probability,
    Seed,
    Share,
    Size,
    Spreads,
    Strict,
    Task,
    Text,
)
from imgkit.recipe.heads import LINEAR, check_head
from imgkit.recipe.losses import CrossEntropy, LossSettings
from imgkit.recipe.monitors import Monitor
from imgkit.recipe.schedules import Cosine, ScheduleSettings


def _check_phase_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", text):
        raise ValueError(f"must be small letters, digits, '-' and '_', beginning with a letter, got {text!r}")
    return text


def _check_part(text: str) -> str:
    if not re.fullmatch(r"head|all|last:[1-9][0-9]*", text):
        raise ValueError(f"must be 'head', 'all' or 'last:N' (N groups of layers), got {text!r}")
    return text


def _check_device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", text):
        raise ValueError(f"must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {text!r}")
    return text


def _check_time(text: str) -> str:
    parse_seconds(text)
    return text


class DataSettings(Strict):
    """`[data]`: where the pictures are and how they are split."""

    path: str | None = None  # folder or table; None: $IMGKIT_DATA, then ./data
    more: tuple[Text, ...] = ()  # further data sets, joined with `path`
    train: str | None = None  # a folder of class folders, instead of `path`
    val_path: str | None = None  # the validation folder that goes with `train`
    task: Literal["auto"] | Task = "auto"  # one label an image, or any number; auto: from the label columns of a CSV
    image_col: str | None = None  # of a table: paths; None: by its name
    label_col: Columns | None = None  # one column, or several of a multi-label task
    label_delimiter: Text | None = None  # what stands between the labels of a cell; None: a cell holds one
    split_col: str | None = None  # of a table: train, val or test; None: by its name, if there is one
    group_col: str | None = None  # of a table: images of one group, such as a patient, stay in one split
    weight_col: str | None = None  # how often the sampler "weighted" draws an image
    root: str | None = None  # what relative paths of a CSV start from; None: the CSV's folder
    classes: PositiveInt | None = None  # checked against the data
    val: Share = 0.2  # share of train for validation where the data have no validation split
    test: Share = 0.0  # share held out for one final score where the data have no test split
    split_seed: Seed = 0  # of the splits that imgkit makes, whatever the `seed`: runs of several seeds share them
    on_bad: Literal["stop", "skip"] = "stop"  # at files that do not open
    max_pixels: Pixels = 64_000_000  # a larger image is refused before it is decoded
    prepared: Literal["auto"] | PositiveInt | None = "auto"  # shorter side, pixels, that training images are shrunk to
    # once and kept with, in $IMGKIT_CACHE; None: they are decoded in each epoch; auto: what a measurement says


class ModelSettings(Strict):
    """`[model]`: the network, its weights and its head."""

    name: str | None = None  # usually from the command line
    weights: str = "auto"  # auto | none | FILE | part:FILE | package:NAME | hub:ID
    head: Annotated[str, AfterValidator(check_head)] = LINEAR  # linear | mlp:1000 | mlp:1000:relu | pool5-mlp:4096,2048
    in_chans: Literal[1, 3] = 3  # channels that the network reads: colours, or 1 of greys
    image_size: PositiveInt | None = None  # None: what the weights were made for
    fit: Literal["crop", "squash", "letterbox"] | None = None  # of pictures into it; None: as the weights' own rule
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None  # image_size / what a picture is resized to before
    # the centre crop; None: as the weights' own rule, and 1 with a fit that loses nothing
    mean: Means | None = None  # subtracted from pixels in [0, 1], for each channel; None: as the weights' own rule
    std: Spreads | None = None  # what they are then divided by; None: likewise
    drop_rate: Probability = 0.0  # dropout before the head
    drop_path: Probability = 0.0  # stochastic depth
    options: Mapping[str, Any] = Field(default_factory=dict)  # what this network takes besides; see `option_fault`


class TrainSettings(Strict):
    """`[train]`: the update. A phase may override any of these."""

    batch_size: PositiveInt = 32  # images per optimizer update
    sampler: Literal["uniform", "balanced", "sqrt", "weighted"] = "uniform"  # how often an epoch draws each image
    micro_batch: PositiveInt | None = None  # images per forward pass; None: the whole batch
    exact_world: PositiveInt | None = None  # shards of a batch whose gradients are added up in order: the same bits on
    # every number of processes that divides it; None: one a process
    grad_checkpointing: bool = False  # keep few activations and compute the others again: less memory, more time
    optimizer: str = "adamw"  # any of timm's names
    momentum: Probability | None = None  # None: the optimizer's own
    betas: Betas | None = None  # decays of the moments, two or three; None: the optimizer's own
    eps: PositiveFloat | None = None  # added to a denominator; None: the optimizer's own
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05  # not on biases and norms unless decay_all
    decay_all: bool = False  # biases and norms, too
    clip_norm: PositiveFloat | None = None  # largest norm of the gradient
    batch_norm: Literal["frozen", "train", "sync"] = "frozen"  # statistics; a frozen stage is always frozen; sync: over
    # the images of all processes
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # decay of averaged weights; 0: no averaging
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # a group's rate: lr * layer_decay**depth below the head
    compile: bool = False  # by torch, a minute or more at the start of a phase
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: the faster, measured once, then kept


class PhaseSettings(Strict):
    """One of `[[phases]]`: how long, what trains, and settings of its own over the common ones.

    `overrides` is filled by the loader: keys of `[train]` given in the phase, and its tables `augment`, `loss`,
    `schedule`, with checked values. `phases.resolve` lays them over the sections.
    """

    name: Annotated[str, AfterValidator(_check_phase_name)]  # by which it is addressed: phases.NAME.lr
    train: Annotated[str, AfterValidator(_check_part)]  # head | last:N groups of layers | all
    solver: Literal["logistic", "sgd"] = "sgd"  # logistic: the head, solved on features computed once
    views: NonNegativeInt = 0  # augmented pictures of each image that the head learns from: a solve besides the
    # evaluation's, epochs in turn; 0: none, or in each epoch a new one
    epochs: PositiveInt | None = None  # its length; or `steps`
    steps: PositiveInt | None = None  # its length in updates
    lr: PositiveFloat | None = None  # of the head group, at schedule factor 1
    optimizer_state: Literal["keep", "reset"] = "keep"  # moments of the phase before: go on from them, or start anew
    overrides: dict[str, Any] = Field(default_factory=dict)


class BudgetSettings(Strict):
    """`[budget]`: what the network may be at most. Over it, no training begins and the exit code is 8."""

    size: Size = "auto"  # of parameters and buffers in float32, "100MB" or "95MiB"; auto: the network's own, if any
    params: Count | None = None  # how many parameters, "25M"
    latency: Latency | None = None  # of one image on the device, "20ms"


class SaveSettings(Strict):
    """`[save]`: checkpoints."""

    every_minutes: PositiveFloat = 5.0  # besides the end of each epoch
    every_steps: PositiveInt | None = None  # and then a kill costs no more: where it would, training waits for a save
    keep: PositiveInt | Literal["all"] = 2  # newest checkpoints kept; the best one is always kept
    keep_best: PositiveInt = 1  # best checkpoints kept besides, by `monitor`
    average_best: Annotated[int, Field(ge=2)] | None = None  # mean of so many best ones, if it is better at the end


class RunSettings(Strict):
    """`[run]`: the machine. None of these changes what is learned, but the last bits may differ."""

    device: Annotated[str, AfterValidator(_check_device)] = "auto"  # auto | cpu | cuda | cuda:N | mps
    deterministic: bool = False  # same bits in two runs: float32, deterministic kernels, one thread unless `threads`
    workers: Annotated[int, Field(ge=0)] | None = None  # loader processes; None: from the number of cores
    threads: PositiveInt | None = None  # None: torch's own choice, or 1 in a deterministic run
    feature_cache: bool = True  # features of pictures are kept for later runs, in $IMGKIT_CACHE, and taken from there
    track: Names = ()  # other tools that are told its numbers: tensorboard, mlflow, wandb, or a plugin's


class Recipe(Strict):
    """The whole of one training as values."""

    schema_version: Literal[1] = Field(alias="schema")  # of this form of recipes
    name: str  # of the recipe
    seed: Seed = 0  # of order, augmentation, dropout and new weights
    monitor: Monitor = "val/f1_macro"  # chooses the best checkpoint and stops early
    early_stop: PositiveInt | None = None  # evaluations (one an epoch) without improvement; None: never
    time_limit: Annotated[str, AfterValidator(_check_time)] | None = None  # of training, such as "10m"; None: no limit
    score_test: bool = True  # test is scored once, at the end; false: it is held back, for `imgkit evaluate NAME`
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: SerializeAsAny[LossSettings] = CrossEntropy()
    schedule: SerializeAsAny[ScheduleSettings] = Cosine()
    budget: BudgetSettings = BudgetSettings()
    save: SaveSettings = SaveSettings()
    run: RunSettings = RunSettings()
    phases: Annotated[tuple[PhaseSettings, ...], Field(min_length=1)]
