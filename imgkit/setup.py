"""What a training works with, and what is said of it before the first step."""

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from imgkit.branch import Start
from imgkit.class_weights import logit_shifts, weights_lines
from imgkit.data.aspect import crop_warnings
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, EvalReader, Place, train_batches
from imgkit.data.class_table import class_table, sampling_of
from imgkit.data.index import SPLITS, Index
from imgkit.data.load import LoadedData
from imgkit.data.preprocessing import Preprocessing
from imgkit.data.rows import count
from imgkit.data.sampling import row_weights
from imgkit.device import choose_workers, in_turn, out_of_memory
from imgkit.errors import DeviceError, DivergedError, printable
from imgkit.features import BATCH, head_layer
from imgkit.losses import LabelFacts, Loss, make_loss
from imgkit.models.freeze import set_trainable
from imgkit.optimizers import make_optimizer
from imgkit.recipe.check import named_scores
from imgkit.recipe.heads import LINEAR
from imgkit.recipe.load import Loaded
from imgkit.recipe.plan import PhasePlan, Plan
from imgkit.recipe.schema import Recipe
from imgkit.recipe.task import WORDS
from imgkit.schedule_fit import schedule_warnings
from imgkit.scoring import Scores, score
from imgkit.screen import Screen
from imgkit.shares import Shards, slice_of
from imgkit.signals import Watched
from imgkit.trainer import Trainer
from imgkit.world import current, ranks_here

_LARGE = 15_000_000  # parameters; measured: tf_efficientnet_lite0 (4.7) trains at 39 images a second on two cores
_NAMED = 3  # files of a batch that diverged


@dataclass(frozen=True)
class Setup:
    """What the training loop works with. `about` is the content of run.json."""

    loaded: Loaded
    index: Index
    plan: Plan
    model: nn.Module
    preprocessing: Preprocessing
    device: torch.device
    autocast: torch.dtype | None
    workers: int
    about: Mapping[str, Any]
    start: Start | None = None  # of a new run that begins at a checkpoint of another one
    warn: Callable[[str], object] = warnings.warn  # told what went wrong and was mended

    @property
    def recipe(self) -> Recipe:
        """The recipe's values."""
        return self.loaded.recipe

    def with_chosen(self, table: str, key: str, value: object, why: str) -> "Setup":
        """The setup whose recipe says what was chosen for it, and why, so that repeating the run repeats it."""
        section = getattr(self.recipe, table).model_copy(update={key: value})
        origins = {**self.loaded.origins, f"{table}.{key}": f"chosen ({why})"}
        recipe = self.recipe.model_copy(update={table: section})
        return replace(self, loaded=replace(self.loaded, recipe=recipe, origins=origins))

    @property
    def fits_loss(self) -> bool:
        """Whether `loss_calibrated`, which takes a fit, decides something: it is monitored, or a plateau watches it."""
        return any(score == "val/loss_calibrated" for _, score, _ in named_scores(self.loaded))

    @property
    def prepared(self) -> int | None:
        """The shorter side, in pixels, that training pictures are shrunk to once; None: they are not."""
        side = self.recipe.data.prepared
        return None if side == "auto" else side

    def transform(self, phase: PhasePlan) -> TrainTransform:
        """What makes the pictures that a phase trains on."""
        return TrainTransform(self.preprocessing, phase.augment, phase.ramp, self.prepared)

    def shards(self, phase: PhasePlan) -> Shards:
        """How the batches of a phase are cut up, and who computes what."""
        world, exact = current(), phase.settings.exact_world
        return Shards(exact or (1 if world is None else world.size), exact is not None, world)

    def batches(self, phase: PhasePlan, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of updates `start`..`stop - 1` of a phase that takes gradient steps; of each, this rank's part.

        Where pictures are mixed, that part begins with the picture before it, which is mixed with its first one.
        """
        rows, world = self.index.rows("train"), current()

        def part(places: list[Place]) -> list[Place]:
            if world is None:
                return places
            return slice_of(places, world.rank, world.size, before=phase.augment.mixes)

        return train_batches(
            self.index,
            rows,
            transform=self.transform(phase),
            seed=self.recipe.seed,
            first_epoch=phase.first_epoch,
            batch_size=phase.settings.batch_size,
            steps_per_epoch=phase.steps_per_epoch,
            start=start,
            stop=stop,
            workers=self.workers,
            max_pixels=self.recipe.data.max_pixels,
            weights=row_weights(self.index, rows, phase.settings.sampler),
            views=phase.views,
            part=part,
            in_turn=self.in_turn,
            warn=self.warn,
        )

    @property
    def in_turn(self) -> bool:
        """Whether loader processes read while the network waits for a batch, and not while it computes."""
        return in_turn(self.device, self.workers, ranks_here())

    def no_memory(self, phase: PhasePlan) -> DeviceError:
        """The error for an update of a phase that did not fit."""
        settings = phase.settings
        return out_of_memory(self.device, self.preprocessing.size, settings.batch_size, settings.micro_batch)

    def least_room(self) -> int:
        """Bytes that the run takes of the disk at least: two checkpoints, the old and the new one, and the model.

        What an optimizer keeps is counted as one number a parameter that trains, which each but plain SGD has.
        """
        model, numbers = int(self.about["parameters"]), [0]
        for phase in self.plan.phases:
            kept = model if phase.settings.ema > 0.0 else 0
            if phase.lr is not None:
                set_trainable(self.model, phase.train)
                kept += sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
            numbers.append(kept)
        return 4 * (2 * (model + max(numbers)) + model)

    def no_memory_to_save(self, step: int) -> DeviceError:
        """The error for the checkpoint of a step for whose copies memory lacked."""
        settings = self.plan.phase_at(max(0, step - 1)).settings
        tried = settings.micro_batch or settings.batch_size
        return DeviceError(
            f"Out of memory while step {step} was saved; updates take {tried} images at once.",
            "The checkpoints before it are whole. Close other programs, then: imgkit resume latest\n"
            f"Or start again with --micro-batch {max(1, tried // 2)}: the same batch of {settings.batch_size} "
            "in smaller parts.",
        )

    @contextmanager
    def files_told(self) -> Iterator[None]:
        """Name the files on which an update diverged."""
        try:
            yield
        except DivergedError as error:
            if not error.rows:
                raise
            names = [printable(str(self.index.path(row))) for row in error.rows[:_NAMED]]
            more = f" and {len(error.rows) - _NAMED:,} more" * (len(error.rows) > _NAMED)
            raise DivergedError(f"{error.message} Images: {', '.join(names)}{more}.", error.hint) from error

    def reader(self) -> EvalReader:
        """Reads pictures to be scored; the caller closes it.

        By no more processes than the rule gives, since they stay beside those that a measurement added for training.
        """
        rule = choose_workers(self.recipe.run.workers, self.device, ranks_here())
        workers = min(self.workers, rule)
        return EvalReader(
            self.index,
            preprocessing=self.preprocessing,
            batch_size=BATCH,
            workers=workers,
            max_pixels=self.recipe.data.max_pixels,
            in_turn=in_turn(self.device, workers, ranks_here()),
            warn=self.warn,
        )

    def score(
        self, model: nn.Module, split: str, watched: Watched, *, what: str = "", reader: EvalReader | None = None
    ) -> Scores:
        """What `model` answers on a split, under a line of progress; `what` names the weights in it.

        A `reader` that is given stays open.
        """
        used = closing(self.reader()) if reader is None else nullcontext(reader)
        with used as pictures, watched(f"scoring {what}{split}") as progress:
            return score(model, pictures, self.index.rows(split), device=self.device, progress=progress)

    def loss_of(self, phase: PhasePlan) -> Loss:
        """The loss of a phase on the training labels, with the weights that run.json has."""
        weights = self.about["loss_weights"].get(phase.name)
        return make_loss(phase.loss, LabelFacts.of(self.index, weights, self.device))


def trainer_of(setup: Setup) -> Trainer:
    """What trains the network of a setup."""
    return Trainer(
        setup.model,
        preprocessing=setup.preprocessing,
        device=setup.device,
        autocast=setup.autocast,
        seed=setup.recipe.seed,
        loss_of=setup.loss_of,
    )


def plan_lines(setup: Setup) -> list[str]:
    """The plan for people: phases, steps, rates per group of parameters, sizes, images per class."""
    lines = []
    for phase in setup.plan.phases:
        lines.append(f"{phase.name}: {_phase_words(phase)}")
        set_trainable(setup.model, phase.train)
        lines += weights_lines(setup.about["loss_weights"].get(phase.name))
        learned = head_layer(setup.model) if phase.solver == "logistic" else setup.model
        trainable = sum(weight.numel() for weight in learned.parameters() if weight.requires_grad)
        lines.append(f"  trains {phase.train}: {trainable:,} of {setup.about['parameters']:,} parameters")
        if phase.lr is not None:
            optimizer = make_optimizer(setup.model, phase.settings, phase.lr)
            for group in optimizer.param_groups:
                count = sum(parameter.numel() for parameter in group["params"])
                rate = phase.lr * group["lr_scale"]
                lines.append(f"  lr {rate:.3g} · weight decay {group['weight_decay']:g} · {count:,} parameters")
        lines.append(f"  augmentation: {phase.augmentation}")
    mib, rule = setup.about["parameters"] * 4 / 2**20, setup.preprocessing
    lines.append(f"size: {mib:.1f} MiB of parameters in float32, image size {rule.size}, fit {rule.fit}")
    counts = {split: setup.index.counts(split) for split in SPLITS}
    what = "class" if setup.index.task == "single" else "label"
    for code, name in enumerate(setup.index.classes):
        lines.append(f"{what} {name}: " + ", ".join(f"{split} {counts[split][code]:,}" for split in SPLITS))
    if setup.index.task == "multilabel":
        lines.append("no label: " + ", ".join(f"{split} {len(setup.index.unlabelled(split)):,}" for split in SPLITS))
    return lines


def say_data(data: LoadedData, index: Index, screen: Screen) -> None:
    """What was found in the data."""
    sizes = " · ".join(f"{split} {len(index.rows(split)):,}" for split in SPLITS if len(index.rows(split)))
    kind = "" if index.task == "single" else f"{WORDS[index.task]} · "
    screen.fact("Data", data.where, f"{kind}{count(len(index.classes), 'class', 'classes')} · {sizes} images")
    for text in data.notes:
        screen.note(text)
    for text in data.warnings:
        screen.warn(text)


def say_setup(setup: Setup, data: LoadedData, screen: Screen) -> None:
    """What was chosen, and why: network, recipe, machine, and how often each class is seen."""
    about, weights = setup.about, setup.about["weights"]
    height, width = setup.preprocessing.size
    greys = " of greys" if setup.preprocessing.channels == 1 else ""
    licence = f" · licence {weights['licence']}" if weights["licence"] else ""
    source = "random weights" if weights["kind"] == "none" else f"weights: {weights['detail']}{licence}"
    its = {"run": "its ", "part": ""}.get(weights["kind"], "new ")
    screen.fact(
        "Model",
        f"{about['model']} · {about['parameters'] / 1e6:.2f} M parameters · {height}×{width}{greys}",
        f"{source} · {its}head{_head_words(setup)} for {len(setup.index.classes)} classes",
    )
    if weights["additions"]:
        screen.note(f"{weights['additions']:,} parameters that the weights lack are new besides the head")
    screen.fact(
        "Recipe",
        f"{setup.recipe.name} · seed {setup.recipe.seed} · best by {setup.recipe.monitor}",
        *(f"{phase.name}: {_phase_words(phase)}" for phase in setup.plan.phases),
    )
    if about["budget"]:
        limits = about["budget"].values()
        screen.fact("Budget", *(f"{one['words']}: within {one['limit']} ({one['origin']})" for one in limits))
    none = " · no GPU found" if setup.device.type == "cpu" and setup.recipe.run.device == "auto" else ""
    screen.fact("Machine", f"{about['machine']}{none} · {about['format']['why']}")
    if none and about["parameters"] > _LARGE and any(phase.train != "head" for phase in setup.plan.phases):
        probe = "" if weights["kind"] == "none" else "--recipe probe, which trains its head alone, or "
        screen.note(
            f"{about['model']} is large for a processor. Quicker:  {probe}a smaller network, such as "
            "tf_efficientnet_lite0"
        )
    for text in setup.plan.notes:
        screen.note(text)
    for text in schedule_warnings(setup.plan):
        screen.warn(text)
    for text in crop_warnings(data.aspects, setup.preprocessing.size, setup.preprocessing.fit):
        screen.warn(text)
    screen.fact(
        "Classes",
        *class_table(
            setup.index, sampling_of(setup.plan), about["loss_weights"], logit_shifts(setup.plan, setup.index)
        ),
    )


def _head_words(setup: Setup) -> str:
    head = setup.recipe.model.head
    return "" if head == LINEAR else f" {head}"


def _phase_words(phase: PhasePlan) -> str:
    if phase.solver == "logistic":
        views = f", {count(phase.views, 'augmented view')} of each image besides" if phase.views else ""
        return f"train {phase.train}, solved by logistic regression on features computed once{views}"
    schedule = phase.schedule.name.replace("_", " ")
    return (
        f"train {phase.train}, {count(phase.epochs, 'epoch')} of {count(phase.steps_per_epoch, 'step')} "
        f"({phase.steps:,} in all), "
        f"{phase.settings.optimizer} lr {phase.lr:g} ({schedule}), batch {phase.settings.batch_size}"
    )
