"""What each phase uses: settings laid over the common sections, and the values that no phase reads."""

from dataclasses import dataclass

from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.losses import LOSS_TYPES, LossSettings
from imgkit.recipe.schedules import SCHEDULE_TYPES, ScheduleSettings
from imgkit.recipe.schema import PhaseSettings, Recipe, TrainSettings
from imgkit.recipe.toml import value_text

TABLES = ("augment", "loss", "schedule")
"""Sections that a phase may have as tables of its own; keys of `[train]` stand in the phase directly."""

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
    **dict.fromkeys(
        ("train.layer_decay", "train.batch_norm", "train.grad_checkpointing", "model.drop_path"),
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
    for key in _common_keys(recipe):
        readers = [phase for phase in recipe.phases if _may_read(phase, key)]
        if not readers:
            reason = f"every phase of {recipe.name!r} is solved on features"
            found[key] = Unread(reason, "Leave it out, or choose a recipe that trains, such as finetune.")
        elif not any(key in _from_section(recipe, phase) for phase in readers):
            found[key] = _why_common(recipe, readers, key)
    for phase in recipe.phases:
        if phase.solver != "logistic":
            hint = f"Leave it out, or solve the phase: --set phases.{phase.name}.solver=logistic"
            found[f"phases.{phase.name}.views"] = Unread(f"phase {phase.name!r} is not solved on features", hint)
        used = _used(recipe, phase)
        for written, key in override_keys(phase).items():
            if not _may_read(phase, key):
                reason = f"phase {phase.name!r} is solved on features"
                found[f"phases.{phase.name}.{written}"] = Unread(
                    reason, "Leave it out, or move it to a phase that trains."
                )
            elif key not in used:
                found[f"phases.{phase.name}.{written}"] = Unread(*_NEEDS[key])
    return found


def _common_keys(recipe: Recipe) -> list[str]:
    sections = {"train": recipe.train, "augment": recipe.augment, "loss": recipe.loss, "schedule": recipe.schedule}
    keys = [f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields]
    return [*keys, *_WHOLE_RUN]


def _may_read(phase: PhaseSettings, key: str) -> bool:
    """Whether a phase of its kind can read `key` of a section: a solved one only the augmentation of its views."""
    return phase.solver != "logistic" or (phase.views > 0 and key.startswith("augment."))


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
    used |= set(_WHOLE_RUN)
    used -= {"augment.jitter_p"} if settings.augment.jitter is None else set()
    used -= {"augment.ratio"} if settings.augment.crop is None else {"augment.scale_jitter"}
    if phase.train == "head":
        used -= {"train.layer_decay", "train.batch_norm", "train.grad_checkpointing", "model.drop_path"}
    return {key for key in used if _may_read(phase, key)}


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
    return Unread(*_NEEDS[key])
