"""What is wrong with a recipe as a whole: values that nothing reads, that contradict each other, or decide nothing."""

from collections.abc import Mapping

from imgkit.errors import RecipeError
from imgkit.recipe.load import Loaded
from imgkit.recipe.monitors import TOPK
from imgkit.recipe.phases import override_keys, resolve, unread
from imgkit.recipe.problems import PHASE_KEYS
from imgkit.recipe.schedules import Plateau
from imgkit.recipe.schema import PhaseSettings, Recipe, TrainSettings
from imgkit.recipe.toml import value_text


def check_given(loaded: Loaded) -> None:
    """See that some phase reads each given value, and that they fit each other: all that takes no data to know.

    Raises:
        RecipeError: naming the values that do not.
    """
    _refuse_unread(loaded)
    for phase in loaded.recipe.phases:
        if phase.solver != "logistic":
            _check_micro_batch(loaded, phase, resolve(loaded.recipe, phase).train)
            _check_exact_world(loaded, phase, resolve(loaded.recipe, phase).train)


def named_scores(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Each score that decides something: its key, its name as "val/f1_macro", and what to type for another one."""
    recipe = loaded.recipe
    named = [("monitor", recipe.monitor, "--monitor val/f1_macro")]
    for phase in recipe.phases:
        schedule = resolve(recipe, phase).schedule
        if phase.solver != "logistic" and isinstance(schedule, Plateau) and schedule.watch != "monitor":
            key = f"phases.{phase.name}.schedule.watch"
            key = key if key in loaded.origins else "schedule.watch"
            named.append((key, schedule.watch, f"--set {key}=val/f1_macro"))
    return named


def check_classes(loaded: Loaded, classes: int) -> None:
    """See that no score decides that is the same for every network with so many classes.

    Raises:
        RecipeError: if `topk` would be 1 always: the first epoch would be the best one, and no other better.
    """
    for key, score, change in named_scores(loaded):
        if score == "val/topk" and classes <= TOPK:
            raise RecipeError(
                f"{key} = {value_text(score)} ({loaded.origins[key]}) is always 1 with {classes} classes: it counts "
                f"labels among the {TOPK} best answers",
                f"Type another score, for example  {change}",
            )


def _refuse_unread(loaded: Loaded) -> None:
    """Stop at values that were given but that nothing reads; those of shipped recipes and presets are no user's fault.

    A preset that has nothing to give to any phase is one.
    """
    idle = unread(loaded.recipe)
    nobodys = ("default", "recipe ", "preset ")
    given = {key: loaded.origins[key] for key in idle if not loaded.origins[key].startswith(nobodys)}
    if not given:
        return
    lines = [
        f"{key} = {value_text(_value(loaded.recipe, key))} ({origin}) is not used: {idle[key].reason}"
        for key, origin in given.items()
    ]
    raise RecipeError("\n".join(lines), "\n".join(dict.fromkeys(idle[key].hint for key in given)))


def _value(recipe: Recipe, key: str) -> object:
    """The value of a full key of a recipe."""
    steps = key.split(".")
    if steps[0] != "phases":
        section = recipe if len(steps) == 1 else getattr(recipe, steps[0])
        return getattr(section, steps[-1])
    phase = next(phase for phase in recipe.phases if phase.name == steps[1])
    if steps[2] in PHASE_KEYS:
        return getattr(phase, steps[2])
    own: object = phase.overrides
    for step in steps[2:]:
        assert isinstance(own, Mapping)
        own = own[step]
    return own


def _check_micro_batch(loaded: Loaded, phase: PhaseSettings, train: TrainSettings) -> None:
    if train.micro_batch is None or train.micro_batch <= train.batch_size:
        return
    key = "train.micro_batch"
    if "micro_batch" in override_keys(phase):
        key = f"phases.{phase.name}.micro_batch"
    raise RecipeError(
        f"{key} = {train.micro_batch} ({loaded.origins[key]}) is more than the batch_size of phase {phase.name!r}, "
        f"{train.batch_size}",
        "A micro-batch is a part of the batch; leave it out to take the whole batch at once.",
    )


def _check_exact_world(loaded: Loaded, phase: PhaseSettings, train: TrainSettings) -> None:
    key = "train.exact_world"
    if "exact_world" in override_keys(phase):
        key = f"phases.{phase.name}.exact_world"
    if train.exact_world not in (None, 1) and train.batch_norm == "sync":
        raise RecipeError(
            f"{key} = {train.exact_world} ({loaded.origins[key]}) computes each part of a batch by itself, and "
            f'batch_norm = "sync" takes statistics over all of it (phase {phase.name!r})',
            "Take one of them; with exact_world, batch_norm=train has statistics of each part.",
        )
    if train.exact_world is None or train.batch_size % train.exact_world == 0:
        return
    raise RecipeError(
        f"{key} = {train.exact_world} ({loaded.origins[key]}) does not divide the batch_size of phase {phase.name!r}, "
        f"{train.batch_size}",
        f"A batch is cut into so many shards of one size:  --batch-size {train.exact_world * 8}, for example.",
    )
