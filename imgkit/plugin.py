"""What a plugin imports: decorators that add a loss, schedule, source, network or tracker under a name of its own.

    from imgkit.plugin import Loss, register_loss

    @register_loss("tversky")
    def tversky(alpha: float = 0.5, beta: float = 0.5) -> Loss:
        ...

The parameters of a loss or schedule are its keys in a recipe: `--set loss.name=tversky --set loss.alpha=0.3`. Types
and defaults are theirs, so a value of the wrong type, a missing one and an unknown key are told as for imgkit's own.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import timm.models
from pydantic import create_model
from pydantic.errors import PydanticUserError
from torch import Tensor, nn

from imgkit.data.own_sources import SOURCES, Picture, Reader
from imgkit.errors import UsageError
from imgkit.losses import LOSSES, LabelFacts, Loss
from imgkit.recipe.fields import Strict, Task
from imgkit.recipe.losses import LOSS_TYPES, LossSettings
from imgkit.recipe.schedules import SCHEDULE_TYPES, ScheduleSettings
from imgkit.schedules import SCHEDULES, Schedule
from imgkit.tracking import TRACKERS, Tracker

__all__ = [
    "Loss",
    "Picture",
    "Schedule",
    "Tracker",
    "register_loss",
    "register_model",
    "register_schedule",
    "register_source",
    "register_tracker",
]

Settings = TypeVar("Settings", bound=Strict)
MakeLoss = TypeVar("MakeLoss", bound=Callable[..., Loss])
MakeSchedule = TypeVar("MakeSchedule", bound=Callable[..., Schedule])
MakeTracker = TypeVar("MakeTracker", bound=Callable[[], Tracker])
MakeModel = TypeVar("MakeModel", bound=Callable[..., nn.Module])

import_module("imgkit.models")  # which registers imgkit's own networks: they are no plugin's


def register_loss(
    name: str, *, tasks: Sequence[Task] = ("single",), soft: Sequence[Task] = ()
) -> Callable[[MakeLoss], MakeLoss]:
    """Decorator for a function of recipe values that gives a loss.

    The loss takes logits (B, K), float, and targets, and returns the mean over the batch, a scalar. Targets are
    int64 (B,) in [0, K) in the task "single", and float (B, K), zeros and ones, in the task "multilabel".

    Args:
        name: in recipes.
        tasks: that it serves.
        soft: of these, the tasks in which it also takes mixed targets: float (B, K) in [0, 1].

    Raises:
        UsageError: if the name is taken, a task is not known, or a parameter cannot be a key of a recipe.
    """
    unknown = [task for task in (*tasks, *soft) if task not in get_args(Task)]
    if unknown or not tasks or not set(soft) <= set(tasks):
        raise UsageError(
            f"The loss {name!r} cannot serve the tasks {list(tasks)}, {list(soft)} of them with mixed targets.",
            f"Tasks are {' and '.join(get_args(Task))}; soft ones are among them.",
        )

    def add(make: MakeLoss) -> MakeLoss:
        values = _settings_type("loss", name, make, LossSettings)

        values.TASKS, values.SOFT = tuple(tasks), tuple(soft)

        def from_settings(settings: LossSettings, labels: LabelFacts) -> Loss:
            return _scalar(name, make(**_own_values(settings, LossSettings)))

        LOSSES.register(name)(from_settings)
        LOSS_TYPES[name] = values
        return make

    return add


def register_schedule(name: str) -> Callable[[MakeSchedule], MakeSchedule]:
    """Decorator for a function of recipe values that gives a schedule: progress of the phase to factor, both [0, 1].

    Raises:
        UsageError: if the name is taken, or a parameter cannot be a key of a recipe.
    """

    def add(make: MakeSchedule) -> MakeSchedule:
        values = _settings_type("schedule", name, make, ScheduleSettings)

        def from_settings(settings: ScheduleSettings, steps: int, steps_per_epoch: int) -> Schedule:
            return _bounded(name, make(**_own_values(settings, ScheduleSettings)))

        SCHEDULES.register(name)(from_settings)
        SCHEDULE_TYPES[name] = values
        return make

    return add


def register_source(name: str) -> Callable[[Reader], Reader]:
    """Decorator for a function that lists the pictures of a data set: `--data NAME:ARG` calls it with ARG.

    It gives `Picture`s. Their paths are absolute, or relative to the folder that ARG is or lies in (to the
    working folder where ARG is no path).

    Raises:
        UsageError: if the name is taken, or has not the form of one.
    """
    if len(name) < 2 or not name.replace("-", "_").isidentifier() or not name.isascii():
        raise UsageError(f"{name!r} cannot be the name of a source.", "Take two letters at least, digits, - and _.")
    return SOURCES.register(name)


def register_tracker(name: str) -> Callable[[MakeTracker], MakeTracker]:
    """Decorator for a class, or a function without parameters, that gives a `Tracker`: `--track NAME` tells it a run.

    Raises:
        UsageError: if the name is taken.
    """
    return TRACKERS.register(name)  # type: ignore[return-value]


def register_model(make: MakeModel) -> MakeModel:
    """Timm's `register_model` for a function (num_classes, …) -> network, under the function's name.

    Raises:
        UsageError: if timm has a network of that name, which timm alone would replace.
    """
    name = make.__name__
    # An import that failed leaves its networks with timm, which has no way to take one out; the next one replaces them.
    left = timm.models.is_model(name) and timm.models.model_entrypoint(name).__module__ == make.__module__
    if timm.models.is_model(name) and not left:
        raise UsageError(f"there are two networks called {name!r}", "Rename the function.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Overwriting ", UserWarning)
        timm.models.register_model(make)
    return make


def registered() -> dict[str, frozenset[str]]:
    """What is registered now, imgkit's own and plugins': names by kind."""
    registries: Mapping[str, Any] = {
        "loss": LOSSES,
        "schedule": SCHEDULES,
        "source": SOURCES,
        "tracker": TRACKERS,
    }
    return {"model": frozenset(timm.models.list_models())} | {
        kind: frozenset(registry) for kind, registry in registries.items()
    }


def unregister(names: Mapping[str, frozenset[str]]) -> None:
    """Take out what a plugin registered before it failed, so that it can be mended and imported again."""
    for name in names["loss"]:
        LOSSES.remove(name)
        del LOSS_TYPES[name]
    for name in names["schedule"]:
        SCHEDULES.remove(name)
        del SCHEDULE_TYPES[name]
    for name in names["source"]:
        SOURCES.remove(name)
    for name in names["tracker"]:
        TRACKERS.remove(name)


def _settings_type(kind: str, name: str, make: Callable[..., object], base: type[Settings]) -> type[Settings]:
    """The type of a recipe table with the parameters of `make` as keys."""
    if not name.isidentifier() or not name.isascii():
        raise UsageError(f"{name!r} cannot be the name of a {kind}.", "Take letters, digits and _.")
    hints = get_type_hints(make, include_extras=True)
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for key, parameter in inspect.signature(make).parameters.items():
        about = f"{kind} {name!r}: its parameter {key!r}"
        if key in base.model_fields or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UsageError(f"{about} cannot be a key of a recipe.", "Take a named parameter of another name.")
        if key not in hints:
            raise UsageError(f"{about} has no type.", f"Write it, as  {key}: float = 1.0")
        fields[key] = (hints[key], ... if parameter.default is parameter.empty else parameter.default)
    try:
        made = create_model(name, __base__=base, __module__=make.__module__, __doc__=make.__doc__, **fields)
    except (PydanticUserError, NameError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{kind} {name!r}: its parameters cannot be keys of a recipe: {reason}",
            "Their types are int, float, bool, str, or tuples of these.",
        ) from error
    return made


def _own_values(settings: Strict, base: type[Strict]) -> dict[str, Any]:
    """The keys that `make` asked for."""
    return {key: getattr(settings, key) for key in type(settings).model_fields if key not in base.model_fields}


def _scalar(name: str, loss: Loss) -> Loss:
    """`loss`, told from the first batch on where it forgets the mean."""

    def checked(logits: Tensor, targets: Tensor) -> Tensor:
        value = loss(logits, targets)
        if not isinstance(value, Tensor) or value.dim() != 0:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"The loss {name!r} gives {found}, not a scalar.", "End it with  .mean()")
        return value

    return checked


def _bounded(name: str, schedule: Schedule) -> Schedule:
    """`schedule`, told where its factor is none."""

    def checked(progress: float) -> float:
        factor = schedule(progress)
        if not (math.isfinite(factor) and 0.0 <= factor <= 1.0):
            raise UsageError(
                f"The schedule {name!r} gives {factor:g} at progress {progress:.3g}; a factor lies in [0, 1].",
                "The rate itself is the phase's lr.",
            )
        return factor

    return checked
