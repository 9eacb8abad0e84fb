"""The recipe: everything that describes one training, as frozen typed values.

Unknown keys are errors. A key left out has the default written here. Sections are common to all phases; a phase
may override any key of `[train]` but `precision` (written directly in the phase) and of `[augment]`, `[loss]`,
`[schedule]`. TOML has no null: the text "none" turns off a key that may be off (`crop = "none"`, `clip_norm = "none"`).
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from imgkit.duration import Duration
from imgkit.errors import suggestion

MONITORS = (
    "loss",
    "top1",
    "topk",
    *(f"{score}_{mean}" for score in ("f1", "precision", "recall") for mean in ("macro", "micro", "weighted")),
)
"""Names that may stand after "val/" in `monitor`; `metrics.METRICS` has the same."""


def _check_length(text: str) -> str:
    Duration.parse(text)
    return text


def known_monitors() -> tuple[str, ...]:
    """Every value of `monitor`."""
    return tuple(f"val/{name}" for name in MONITORS)


def _check_monitor(text: str) -> str:
    if text not in known_monitors():
        raise ValueError(
            f"{text!r} is not known{suggestion(text, known_monitors())}; write val/ and one of {', '.join(MONITORS)}"
        )
    return text


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


def _check_range(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the smaller number comes first, got {list(pair)}")
    return pair


def _check_area(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"a share of the image's area is at most 1, got {list(pair)}")
    return _check_range(pair)


def _check_jitter(jitter: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if min(jitter) < 0 or jitter[3] > 0.5:
        raise ValueError(f"needs numbers >= 0 and a hue (the last) of at most 0.5, got {list(jitter)}")
    return jitter


Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Pair = tuple[PositiveFloat, PositiveFloat]
Length = Annotated[str, AfterValidator(_check_length)]
"""A length with its unit: "10%" of the phase, "3 epochs" or "500 steps"."""


class Strict(BaseModel):
    """Frozen, closed to keys it does not know, and without infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Strict):
    """`[data]`: where the pictures are and how they are split."""

    path: str | None = None  # folder or CSV; None: $IMGKIT_DATA, then ./data
    train: str | None = None  # a folder of class folders, instead of `path`
    val_path: str | None = None  # the validation folder that goes with `train`
    image_col: str | None = None
    label_col: str | None = None
    split_col: str | None = None
    group_col: str | None = None
    root: str | None = None  # what relative paths of a CSV start from; None: the CSV's folder
    classes: PositiveInt | None = None  # checked against the data
    val: Share = 0.2  # share of train for validation where the data have no validation split
    test: Share = 0.0  # share held out for one final score where the data have no test split
    on_bad: Literal["stop", "skip"] = "stop"
    max_pixels: PositiveInt = 64_000_000  # a larger image is refused before it is decoded


class ModelSettings(Strict):
    """`[model]`: the network, its weights and its head."""

    name: str | None = None  # usually from the command line
    weights: str = "auto"  # auto | none | FILE | package:NAME | hub:ID
    head: Literal["linear"] = "linear"
    image_size: PositiveInt | None = None  # None: what the weights were made for
    drop_rate: Probability = 0.0  # dropout before the head
    drop_path: Probability = 0.0  # stochastic depth


class TrainSettings(Strict):
    """`[train]`: the update. A phase may override any of these."""

    batch_size: PositiveInt = 32  # images per optimizer update
    micro_batch: PositiveInt | None = None  # images per forward pass; None: the whole batch
    optimizer: str = "adamw"  # any of timm's names
    momentum: Probability | None = None  # None: the optimizer's own
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05  # not on biases and norms unless decay_all
    decay_all: bool = False
    clip_norm: PositiveFloat | None = None  # largest norm of the gradient
    batch_norm: Literal["frozen", "train"] = "frozen"  # statistics; a frozen stage is always frozen
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # decay of averaged weights; 0: no averaging
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # a group's rate: lr * layer_decay**depth below the head
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: the faster one, measured once and then kept


class AugmentSettings(Strict):
    """`[augment]`: what happens to a training image, keyed by (seed, epoch, sample)."""

    # area share of a random resized crop; None: `scale_jitter`, or else the evaluation crop
    crop: Annotated[Pair, AfterValidator(_check_area)] | None = (0.5, 1.0)
    scale_jitter: Annotated[Pair, AfterValidator(_check_range)] | None = None  # of the evaluation's scale; random place
    ratio: Annotated[Pair, AfterValidator(_check_range)] = (3 / 4, 4 / 3)  # aspect ratio of that crop
    hflip: Probability = 0.5
    vflip: Probability = 0.0
    # brightness, contrast, saturation, hue
    jitter: Annotated[tuple[float, float, float, float], AfterValidator(_check_jitter)] | None = None
    jitter_p: Probability = 1.0  # probability of the jitter


class CrossEntropy(Strict):
    """Cross-entropy with label smoothing (Szegedy et al. 2016)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class Focal(Strict):
    """Focal loss (Lin et al. 2017) over a softmax: alpha * (1 - p)**gamma * -log p."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0.0)] = 2.0
    alpha: PositiveFloat = 1.0  # one weight for every class; class weights are a key of their own


LossSettings = Annotated[CrossEntropy | Focal, Field(discriminator="name")]
LOSS_TYPES: dict[str, type[CrossEntropy] | type[Focal]] = {"cross_entropy": CrossEntropy, "focal": Focal}


class Constant(Strict):
    """The same rate throughout, after the warm-up."""

    name: Literal["constant"]
    warmup: Length = "0%"


class Cosine(Strict):
    """Half a cosine from 1 to `end` (Loshchilov and Hutter 2017), after the warm-up."""

    name: Literal["cosine"] = "cosine"
    warmup: Length = "0%"
    end: Probability = 0.0  # factor at the end


class CosineRestarts(Strict):
    """Cosine warm restarts (SGDR, Loshchilov and Hutter 2017): each cycle `mult` times as long as the one before."""

    name: Literal["cosine_restarts"]
    first: Length  # length of the first cycle
    mult: PositiveInt = 1
    warmup: Length = "0%"
    end: Probability = 0.0


class OneCycle(Strict):
    """One cycle (Smith 2018): cosine from `start` up to 1 over `rise`, then cosine down to `end`."""

    name: Literal["one_cycle"]
    rise: Length = "30%"
    start: Probability = 0.04  # 1/25, as in fastai
    end: Probability = 0.0001


ScheduleSettings = Annotated[Constant | Cosine | CosineRestarts | OneCycle, Field(discriminator="name")]
SCHEDULE_TYPES: dict[str, type[Constant] | type[Cosine] | type[CosineRestarts] | type[OneCycle]] = {
    "constant": Constant,
    "cosine": Cosine,
    "cosine_restarts": CosineRestarts,
    "one_cycle": OneCycle,
}


class PhaseSettings(Strict):
    """One of `[[phases]]`: how long, what trains, and settings of its own over the common ones.

    `overrides` is filled by the loader: keys of `[train]` given in the phase, and its tables `augment`, `loss`,
    `schedule`, with checked values. `phases.resolve` lays them over the sections.
    """

    name: Annotated[str, AfterValidator(_check_phase_name)]
    train: Annotated[str, AfterValidator(_check_part)]
    solver: Literal["logistic", "sgd"] = "sgd"  # logistic: the head, solved on features computed once
    views: NonNegativeInt = 0  # with solver logistic: augmented pictures of each image, besides the evaluation's
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    lr: PositiveFloat | None = None  # of the head group, at schedule factor 1
    overrides: dict[str, Any] = Field(default_factory=dict)


class SaveSettings(Strict):
    """`[save]`: checkpoints."""

    every_minutes: PositiveFloat = 5.0  # besides the end of each epoch
    every_steps: PositiveInt | None = None
    keep: PositiveInt | Literal["all"] = 2  # newest checkpoints kept; the best one is always kept


class RunSettings(Strict):
    """`[run]`: the machine. None of these changes what is learned, but the last bits may differ."""

    device: Annotated[str, AfterValidator(_check_device)] = "auto"  # auto | cpu | cuda | cuda:N | mps
    deterministic: bool = False  # same bits in two runs: float32, deterministic kernels, fixed threads
    workers: Annotated[int, Field(ge=0)] | None = None  # loader processes; None: from the number of cores
    threads: PositiveInt | None = None  # None: torch's own choice


class Recipe(Strict):
    """The whole of one training as values."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    monitor: Annotated[str, AfterValidator(_check_monitor)] = (
        "val/f1_macro"  # chooses the best checkpoint and stops early
    )
    early_stop: PositiveInt | None = None  # evaluations (one an epoch) without improvement; None: never
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = CrossEntropy()
    schedule: ScheduleSettings = Cosine()
    save: SaveSettings = SaveSettings()
    run: RunSettings = RunSettings()
    phases: Annotated[tuple[PhaseSettings, ...], Field(min_length=1)]
