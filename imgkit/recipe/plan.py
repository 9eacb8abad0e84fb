"""The plan of a run: phases on one axis of steps, with every setting resolved."""

from dataclasses import dataclass
from math import ceil

from imgkit.duration import Duration
from imgkit.errors import DataError
from imgkit.recipe.augment import AugmentSettings, Ramp
from imgkit.recipe.check import check_given
from imgkit.recipe.load import Loaded
from imgkit.recipe.losses import LogitAdjusted, LossSettings
from imgkit.recipe.phases import augment_words, resolve
from imgkit.recipe.schedules import ScheduleSettings
from imgkit.recipe.schema import PhaseSettings, SaveSettings, TrainSettings
from imgkit.recipe.toml import value_text


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a plan. Steps count optimizer updates from the start of the run, epochs likewise.

    Args:
        name: as in the recipe.
        train: what trains: "head", "last:N" or "all".
        solver: "sgd", or "logistic": the head is solved in one step and no epoch.
        views: augmented pictures of each image that the head learns from: a solve besides the evaluation's, epochs in
            turn; 0: none, or in each epoch a new one.
        first_step: updates done before the phase.
        steps: updates of the phase, at least 1.
        steps_per_epoch: updates in one pass over the training images; 1 in a solved phase.
        first_epoch: number of the phase's first epoch, as it goes into keys.
        epochs: passes begun; the last one may be cut short where the phase is given in steps.
        lr: rate of the head group at schedule factor 1; None in a solved phase.
        optimizer_state: "keep" the moments that there are when the phase begins, or "reset" them.
        settings: the update; `batch_size` is at most the number of training images.
        augment: augmentation.
        ramp: how strong it is, by epoch.
        loss: loss and its values.
        schedule: schedule and its values.
    """

    name: str
    train: str
    solver: str
    views: int
    first_step: int
    steps: int
    steps_per_epoch: int
    first_epoch: int
    epochs: int
    lr: float | None
    optimizer_state: str
    settings: TrainSettings
    augment: AugmentSettings
    ramp: Ramp
    loss: LossSettings
    schedule: ScheduleSettings

    @property
    def stop(self) -> int:
        """Updates done when the phase is over."""
        return self.first_step + self.steps

    @property
    def augments(self) -> bool:
        """Whether the phase sees augmented pictures."""
        return self.lr is not None or self.views > 0

    @property
    def augmentation(self) -> str:
        """What is on of the augmentation, for people."""
        return augment_words(self.augment, solved=self.lr is None) if self.augments else "none"

    def strength(self, step: int) -> float:
        """How strong the augmentation is in update `step` of the run, in [0, 1]."""
        return self.ramp.strength(self.first_epoch + (step - self.first_step) // self.steps_per_epoch)

    def ends_epoch(self, step_done: int) -> bool:
        """Whether `step_done` updates of the run being done closes an epoch of this phase, or the phase."""
        done = step_done - self.first_step
        return 0 < done <= self.steps and (done % self.steps_per_epoch == 0 or done == self.steps)


@dataclass(frozen=True)
class Plan:
    """A run as phases one after another.

    Args:
        phases: in order, without gaps.
        total_steps: updates of all phases.
        notes: what the user should know: clipped batches, images that sit out.
    """

    phases: tuple[PhasePlan, ...]
    total_steps: int
    notes: tuple[str, ...]

    def phase_at(self, step: int) -> PhasePlan:
        """The phase that makes update `step`, 0 <= step < total_steps."""
        assert 0 <= step < self.total_steps, f"step {step} of {self.total_steps}"
        return next(phase for phase in self.phases if step < phase.stop)

    def trained_before(self, phase: PhasePlan) -> PhasePlan | None:
        """The last phase before `phase` that takes gradient steps."""
        earlier = [one for one in self.phases if one.lr is not None and one.stop <= phase.first_step]
        return earlier[-1] if earlier else None


def make_plan(loaded: Loaded, n_train: int) -> Plan:
    """Lay the phases of a recipe end to end for `n_train` training images.

    Raises:
        RecipeError: if a given value (file, flag or --set) is read by no phase, or values contradict each other.
        DataError: if there is no training image.
    """
    if n_train < 1:
        raise DataError("there is no training image", "Check the folder or file given as --data.")
    check_given(loaded)
    phases: list[PhasePlan] = []
    notes = _kept_notes(loaded.recipe.save)
    step = epoch = 0
    for phase in loaded.recipe.phases:
        planned = _plan_phase(loaded, phase, step, epoch, n_train)
        step, epoch = planned.stop, epoch + planned.epochs
        phases.append(planned)
        if planned.lr is not None:
            wanted = resolve(loaded.recipe, phase).train.batch_size
            notes += _notes(planned, wanted, n_train)
        elif planned.views and planned.augmentation == "none":
            notes.append(
                f"phase {phase.name!r}: its views are the evaluation's pictures again, since no augmentation is on; "
                f"--set phases.{phase.name}.views=0 saves the time"
            )
    notes += _patience_notes(loaded.recipe.early_stop, phases)
    drawn = {phase.settings.sampler for phase in phases if phase.lr is not None} - {"uniform"}
    notes += [
        f"phase {phase.name!r}: the solve sees every image equally often; only phases that take gradient steps are "
        f"sampled ({', '.join(sorted(drawn))})"
        for phase in phases
        if drawn and phase.lr is None
    ]
    notes += [
        f"phase {phase.name!r}: rare classes are drawn more often (sampler {phase.settings.sampler}) and "
        f"{_raised(phase.loss)}: that is done twice; one of the two is usual"
        for phase in phases
        if phase.lr is not None and phase.settings.sampler in ("balanced", "sqrt") and _raised(phase.loss)
    ]
    return Plan(tuple(phases), step, tuple(notes))


def _raised(loss: LossSettings) -> str:
    """What a loss does for rare classes, for people; "": nothing."""
    if isinstance(loss, LogitAdjusted):
        return "their logits raised (loss.name = logit_adjusted)"
    return "weigh more (loss.class_weights)" if getattr(loss, "class_weights", "none") != "none" else ""


def _kept_notes(save: SaveSettings) -> list[str]:
    wanted = save.average_best or 0
    if wanted <= save.keep_best or save.keep == "all":
        return []
    return [f"save.keep_best is {save.keep_best}, but the {wanted} best checkpoints are kept: their mean needs them"]


def _patience_notes(patience: int | None, phases: list[PhasePlan]) -> list[str]:
    """A note where `early_stop` cannot come before the last evaluation; the first one is the best so far."""
    evaluations = sum(1 if phase.lr is None else phase.epochs for phase in phases)
    most = evaluations - 2
    if patience is None or patience <= most:
        return []
    what = f"{most} or less" if most > 0 else "more epochs"
    times = "once" if evaluations == 1 else f"{evaluations} times"
    return [f"early_stop = {patience} never ends this run early: validation is scored {times}; it takes {what}"]


def _plan_phase(loaded: Loaded, phase: PhaseSettings, first_step: int, first_epoch: int, n_train: int) -> PhasePlan:
    settings = resolve(loaded.recipe, phase)
    train, steps, steps_per_epoch, epochs = settings.train, 1, 1, 0
    if phase.solver != "logistic":
        batch_size = min(train.batch_size, n_train)
        micro_batch = None if train.micro_batch is None else min(train.micro_batch, batch_size)
        if train.exact_world is not None and batch_size % train.exact_world:
            raise DataError(
                f"{n_train} training images are a batch of {batch_size}, which train.exact_world = {train.exact_world} "
                f"does not divide (phase {phase.name!r})",
                f"Take a smaller batch:  --batch-size {max(1, batch_size // train.exact_world) * train.exact_world}",
            )
        train = train.model_copy(update={"batch_size": batch_size, "micro_batch": micro_batch})
        steps_per_epoch = n_train // batch_size
        steps = phase.steps if phase.steps is not None else (phase.epochs or 0) * steps_per_epoch
        epochs = ceil(steps / steps_per_epoch)
    return PhasePlan(
        name=phase.name,
        train=phase.train,
        solver=phase.solver,
        views=phase.views,
        first_step=first_step,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        first_epoch=first_epoch,
        epochs=epochs,
        lr=phase.lr,
        optimizer_state=phase.optimizer_state,
        settings=train,
        augment=settings.augment,
        ramp=Ramp() if phase.views else _ramp(settings.augment, first_epoch, steps, steps_per_epoch),
        loss=settings.loss,
        schedule=settings.schedule,
    )


def _ramp(augment: AugmentSettings, first_epoch: int, steps: int, steps_per_epoch: int) -> Ramp:
    return Ramp(first_epoch, Duration.parse(augment.ramp).steps(steps, steps_per_epoch) / steps_per_epoch)


def _notes(phase: PhasePlan, wanted: int, n_train: int) -> list[str]:
    notes = []
    batch = phase.settings.batch_size
    if batch < wanted:
        notes.append(f"phase {phase.name!r}: batch size {batch} instead of {wanted}, since there are {n_train} images")
    tail = n_train % batch
    if tail and phase.settings.sampler == "uniform":
        notes.append(
            f"phase {phase.name!r}: {tail} of {n_train} training images sit out each epoch, others each time, "
            f"since {n_train} is no multiple of batch size {batch}"
        )
    strength = phase.strength(phase.stop - 1)
    if strength < 1:
        notes.append(
            f"phase {phase.name!r}: augmentation grows to {strength:.0%} of its strength in the last epoch "
            f"(augment.ramp = {value_text(phase.augment.ramp)})"
        )
    return notes
