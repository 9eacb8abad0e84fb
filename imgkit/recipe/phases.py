"""What each phase uses: settings laid over the common sections, and the values that no phase reads."""

from dataclasses import dataclass

from imgkit.duration import Duration
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.losses import LOSS_TYPES, ClassWeighted, LogitAdjusted, LossSettings
from imgkit.recipe.schedules import SCHEDULE_TYPES, Constant, Plateau, ScheduleSettings
from imgkit.recipe.schema import PhaseSettings, Recipe, TrainSettings
from imgkit.recipe.toml import value_text

_OF_UPDATES = ("augment.mixup", "augment.cutmix", "augment.mix_p", "augment.ramp")
"""Keys of `[augment]` that mean batches and epochs, of which a solved phase has none."""

TABLES = ("augment", "loss", "schedule")
"""Sections that a phase may have as tables of its own; keys of `[train]` stand in the phase directly."""

FROM_RUN = "run:"
"""How `model.weights` begins where a checkpoint of another run is the start: weights, head and optimizer's state."""

_CHANCES = {"jitter": "jitter_p", "policy": "policy_p", "mixup": "mix_p", "cutmix": "mix_p"}
"""What happens with a probability of its own."""
_SOLVED = ("loss.class_weights", "loss.class_weights_beta", "loss.tau")
_NEEDS = {
    "augment.jitter_p": (
        "augment.jitter is off",
        "Give the strengths too, for example augment.jitter=[0.2,0.2,0.2,0.1].",
    ),
    "augment.ratio": (
        "augment.crop is off",
        "Give augment.crop, the share of the area, for example augment.crop=[0.5,1.0].",
    ),
    "augment.scale_jitter": (
        "augment.crop is on and sets the scale",
        'Take one: augment.crop="none", or augment.scale_jitter="none".',
    ),
    "loss.class_weights_beta": (
        "loss.class_weights is not effective",
        "Give it too: loss.class_weights=effective.",
    ),
    "schedule.step_on": (
        "the rate changes in the warm-up alone, which is off",
        "Leave it out, or give the warm-up a length: schedule.warmup='2 epochs'.",
    ),
    "data.weight_col": (
        'no phase draws by weights: train.sampler is not "weighted"',
        "Add --sampler weighted, or leave out the column.",
    ),
    "augment.fill": (
        "nothing is moved in from outside the image",
        "Give what moves it too, for example augment.rotate=10, or a policy.",
    ),
    "augment.policy_p": ("augment.policy is off", "Name the policy too, for example augment.policy=trivialaugment."),
    "augment.policy_ops": ("only randaugment has a number of operations", "Give augment.policy=randaugment too."),
    "augment.policy_magnitude": (
        "only randaugment and augmix have a magnitude",
        "Give augment.policy=randaugment or augmix too.",
    ),
    "augment.mix_p": (
        "augment.mixup and augment.cutmix are off",
        "Give one of them too, for example augment.mixup=0.2.",
    ),
    **{
        f"augment.{key}": (f"augment.{chance} is 0", f"Leave it out, or give an augment.{chance} above 0.")
        for key, chance in _CHANCES.items()
    },
    "augment.ramp": (
        "nothing is on that has a strength (framing and flips have none)",
        "Give what is to grow, for example augment.rotate=10.",
    ),
    **dict.fromkeys(
        ("train.layer_decay", "train.batch_norm", "train.grad_checkpointing", "train.compile", "model.drop_path"),
        ("only the head trains", 'Leave it out, or train more: train = "all" in the phase.'),
    ),
}


# Values that a phase reads only where it takes gradients: a solve drops no units, has one evaluation, and is not cut.
_WHOLE_RUN = ("model.drop_rate", "model.drop_path", "early_stop", "time_limit", "save.keep_best", "save.average_best")


@dataclass(frozen=True)
class Resolved:
    """The settings of one phase, its own laid over the common ones."""

    train: TrainSettings
    augment: AugmentSettings
    loss: LossSettings
    schedule: ScheduleSettings


@dataclass(frozen=True)
class Unread:
    """Why a value is not used, and what to do about it."""

    reason: str
    hint: str


def resolve(recipe: Recipe, phase: PhaseSettings) -> Resolved:
    """Lay the phase's settings over the sections; a `loss` or `schedule` that changes `name` replaces the section."""
    own = phase.overrides
    loss, schedule = own.get("loss", {}), own.get("schedule", {})
    return Resolved(
        train=recipe.train.model_copy(update={key: own[key] for key in own if key not in TABLES}),
        augment=recipe.augment.model_copy(update=own.get("augment", {})),
        loss=LOSS_TYPES[loss["name"]](**loss)
        if _replaced(recipe, phase, "loss")
        else recipe.loss.model_copy(update=loss),
        schedule=SCHEDULE_TYPES[schedule["name"]](**schedule)
        if _replaced(recipe, phase, "schedule")
        else recipe.schedule.model_copy(update=schedule),
    )


def override_keys(phase: PhaseSettings) -> dict[str, str]:
    """The phase's own settings: key as written in the phase ("layer_decay", "loss.gamma") to key of the section."""
    keys = {}
    for key, value in phase.overrides.items():
        if key in TABLES:
            keys.update({f"{key}.{inner}": f"{key}.{inner}" for inner in value})
        else:
            keys[key] = f"train.{key}"
    return keys


def unread(recipe: Recipe) -> dict[str, Unread]:
    """Keys whose values no phase reads, given or not: full key ("train.ema", "phases.head.ema") to the reason."""
    found: dict[str, Unread] = {}
    from_section = {phase.name: _from_section(recipe, phase) for phase in recipe.phases}
    for key in _common_keys(recipe):
        readers = [phase for phase in recipe.phases if _may_read(recipe, phase, key)]
        if not readers:
            reason = f"every phase of {recipe.name!r} is solved on features"
            found[key] = Unread(reason, "Leave it out, or choose a recipe that trains, such as finetune.")
        elif not any(key in from_section[phase.name] for phase in readers):
            found[key] = _why_common(recipe, readers, key)
    if isinstance(recipe.data.prepared, int) and not any(_augments(phase) for phase in recipe.phases):
        reason = "a solve without views sees each picture once, as evaluated"
        found["data.prepared"] = Unread(reason, "Leave it out, or choose a recipe that trains, such as finetune.")
    if all(phase.solver == "logistic" for phase in recipe.phases):
        found |= _unread_of_solves(len(recipe.phases))
    for phase in recipe.phases:
        if phase.train != "head":
            reason = f"phase {phase.name!r} trains more than the head: its pictures are new ones in each epoch"
            found[f"phases.{phase.name}.views"] = Unread(reason, "Leave it out, or train the head alone.")
        if stateless := _stateless(recipe, phase):
            hint = "Leave it out: there is no state that it could keep or reset."
            found[f"phases.{phase.name}.optimizer_state"] = Unread(stateless, hint)
        used = _used(recipe, phase)
        for written, key in override_keys(phase).items():
            if not _may_read(recipe, phase, key):
                reason = f"phase {phase.name!r} is solved on features"
                found[f"phases.{phase.name}.{written}"] = Unread(
                    reason, "Leave it out, or move it to a phase that trains."
                )
            elif key not in used:
                found[f"phases.{phase.name}.{written}"] = _need(key, [phase])
    return found


def _augments(phase: PhaseSettings) -> bool:
    return phase.solver != "logistic" or phase.views > 0


def _stateless(recipe: Recipe, phase: PhaseSettings) -> str:
    """Why no state of an optimizer can be there when the phase begins; "" where one may be."""
    if phase.solver == "logistic":
        return f"phase {phase.name!r} is solved on features, without an optimizer"
    earlier = recipe.phases[: recipe.phases.index(phase)]
    before = next((one for one in reversed(earlier) if one.solver != "logistic"), None)
    if before is None:
        starts = f"no phase before {phase.name!r} takes gradient steps"
        return "" if recipe.model.weights.startswith(FROM_RUN) else starts
    was, is_ = (resolve(recipe, one).train.optimizer for one in (before, phase))
    return "" if was == is_ else f"phase {before.name!r} before it has another optimizer, {was!r}"


def _unread_of_solves(phases: int) -> dict[str, Unread]:
    """What a recipe of so many solved phases and no other does not read of saving and choosing."""
    hint = "Leave it out, or choose a recipe that trains, such as finetune."
    found = dict.fromkeys(
        ("save.every_minutes", "save.every_steps"), Unread("a solved phase is one step, saved when it is done", hint)
    )
    if phases == 1:
        reason = "one solved phase is scored and saved once, so there is nothing to choose from"
        found |= dict.fromkeys(("monitor", "save.keep"), Unread(reason, hint))
    return found


def _common_keys(recipe: Recipe) -> list[str]:
    sections = {"train": recipe.train, "augment": recipe.augment, "loss": recipe.loss, "schedule": recipe.schedule}
    keys = [f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields]
    return [*keys, "data.weight_col", *_WHOLE_RUN]


def _may_read(recipe: Recipe, phase: PhaseSettings, key: str) -> bool:
    """Whether a phase of its kind can read `key` of a section.

    A solved one reads the augmentation of its views, the class weights, which become those of its images, and whether
    the loss is adjusted, which shifts its biases.
    """
    if phase.solver != "logistic" or key in _SOLVED:
        return True
    if key == "loss.name":
        return isinstance(resolve(recipe, phase).loss, LogitAdjusted)
    return phase.views > 0 and key.startswith("augment.") and key not in _OF_UPDATES


def _used(recipe: Recipe, phase: PhaseSettings) -> set[str]:
    """Keys of sections whose resolved values this phase reads, wherever they come from."""
    settings = resolve(recipe, phase)
    sections = {
        "train": settings.train,
        "augment": settings.augment,
        "loss": settings.loss,
        "schedule": settings.schedule,
    }
    used = {f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields}
    used |= {*_WHOLE_RUN, *({"data.weight_col"} if settings.train.sampler == "weighted" else set())}
    used -= {f"augment.{key}" for key in _idle(settings.augment)}
    effective = isinstance(settings.loss, ClassWeighted) and settings.loss.class_weights == "effective"
    used -= set() if effective else {"loss.class_weights_beta"}
    used -= {"schedule.step_on"} if _holds(settings.schedule) else set()
    used -= {"augment.ramp"} if phase.views else set()
    if phase.train == "head":
        used -= {"train.layer_decay", "train.batch_norm", "train.grad_checkpointing", "train.compile"}
        used -= {"model.drop_path"}
    return {key for key in used if _may_read(recipe, phase, key)}


def _holds(schedule: ScheduleSettings) -> bool:
    """Whether the schedule alone never changes the rate within the phase."""
    return isinstance(schedule, Constant | Plateau) and Duration.parse(schedule.warmup).count == 0


def augment_words(augment: AugmentSettings, *, solved: bool) -> str:
    """What is on of `[augment]`, for people: "hflip 0.5 · rotate 10.0"; keys that say how, where not as by default."""
    silent = _idle(augment) | {"preset"} | {key.removeprefix("augment.") for key in _OF_UPDATES if solved}
    for key in ("ratio", "fill", "policy_p", "jitter_p", "mix_p"):
        silent |= {key} if getattr(augment, key) == type(augment).model_fields[key].default else set()
    shown = {key: value for key, value in augment if key not in silent and value not in (None, 0, "0%")}
    return " · ".join(f"{key} {value_text(value).strip(chr(34))}" for key, value in shown.items()) or "none"


def _idle(augment: AugmentSettings) -> set[str]:
    """Keys of `[augment]` that mean nothing beside the others."""
    idle = {"ratio"} if augment.crop is None else {"scale_jitter"}
    idle |= {"jitter_p"} if augment.jitter is None else set()
    idle |= set() if augment.moves or augment.policy else {"fill"}
    idle |= set() if augment.policy else {"policy_p"}
    idle |= set() if augment.policy == "randaugment" else {"policy_ops"}
    idle |= set() if augment.policy in ("randaugment", "augmix") else {"policy_magnitude"}
    idle |= set() if augment.mixes else {"mix_p"}
    idle |= {key for key, chance in _CHANCES.items() if getattr(augment, key) and getattr(augment, chance) == 0}
    return idle | (set() if augment.can_ramp else {"ramp"})


def _from_section(recipe: Recipe, phase: PhaseSettings) -> set[str]:
    """Keys of sections that this phase reads from the section itself."""
    own = set(override_keys(phase).values())
    # A table that keeps the section's loss or schedule is laid over it: the section's name decides that, and what the
    # section cannot do without (`first`) stays in it.
    kept = {
        f"{table}.{key}"
        for table, section in (("loss", recipe.loss), ("schedule", recipe.schedule))
        if not _replaced(recipe, phase, table)
        for key, info in type(section).model_fields.items()
        if key == "name" or info.is_required()
    }
    gone = {
        f"{table}.{key}"
        for table, section in (("loss", recipe.loss), ("schedule", recipe.schedule))
        if _replaced(recipe, phase, table)
        for key in type(section).model_fields
    }
    return _used(recipe, phase) - (own - kept) - gone


def _replaced(recipe: Recipe, phase: PhaseSettings, table: str) -> bool:
    common: str = getattr(recipe, table).name
    return bool(phase.overrides.get(table, {}).get("name", common) != common)


def _why_common(recipe: Recipe, training: list[PhaseSettings], key: str) -> Unread:
    """Why no training phase reads the section's `key`: a phase has its own, or something it needs is off."""
    section, _, name = key.partition(".")
    for phase in training:
        if section in ("loss", "schedule") and _replaced(recipe, phase, section):
            reason = f"phase {phase.name!r} has its own {section}, {phase.overrides[section]['name']!r}"
            change = f"{section}.name={getattr(recipe, section).name}"
            return Unread(reason, f"Change the phase instead: --set phases.{phase.name}.{change}")
        for written, overridden in override_keys(phase).items():
            if overridden == key:
                change = f"{written}={value_text(getattr(getattr(recipe, section), name))}"
                reason = f"phase {phase.name!r} has its own value"
                return Unread(reason, f"Change the phase instead: --set phases.{phase.name}.{change}")
    return _need(key, training)


def _need(key: str, phases: list[PhaseSettings]) -> Unread:
    """What `key` of a section lacks in the phases that could read it."""
    if key == "augment.ramp" and any(phase.views for phase in phases):
        return Unread("the same views come again, so they cannot grow stronger", "Leave it out, or set views = 0.")
    return Unread(*_NEEDS[key])
