"""Scores of validation that a recipe may name: they choose the best checkpoint, stop early, and lower a rate."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator

from imgkit.errors import suggestion
from imgkit.recipe.fields import Task

Way = Literal["max", "min"]

_AVERAGED: Mapping[str, Way] = {
    f"{score}_{mean}": "max" for score in ("f1", "precision", "recall") for mean in ("macro", "micro", "weighted")
}
MONITORS: Mapping[Task, Mapping[str, Way]] = {
    "single": {"loss": "min", "loss_calibrated": "min", "top1": "max", "topk": "max", **_AVERAGED},
    "multilabel": {
        "loss": "min",
        "loss_calibrated": "min",
        "map": "max",
        "subset_accuracy": "max",
        **_AVERAGED,
        "f1_samples": "max",
    },
}
"""Names that may stand after "val/" in `monitor`, by task, and which way is better; metrics have the same names."""

TOPK = 5
"""Answers among which `topk` looks for the label: with so many classes or fewer it finds all of them."""


def way(monitor: str, task: Task) -> Way:
    """Whether a greater or a smaller value of a monitor, as "val/f1_macro", is better."""
    return MONITORS[task][monitor.removeprefix("val/")]


def is_better(value: float, than: float, monitor: str, task: Task) -> bool:
    """Whether one value of a monitor is better than another; an equal one, or one that is no number, is not."""
    return value > than if way(monitor, task) == "max" else value < than


def known_monitors() -> tuple[str, ...]:
    """Every value of `monitor`, of any task."""
    return tuple(f"val/{name}" for name in dict.fromkeys(name for names in MONITORS.values() for name in names))


def check_monitor(text: str) -> str:
    """`text`, if it is a value of `monitor` for some task.

    Raises:
        ValueError: if it is not; the message names the nearest one.
    """
    if text not in known_monitors():
        names = ", ".join(name.removeprefix("val/") for name in known_monitors())
        raise ValueError(f"{text!r} is not known{suggestion(text, known_monitors())}; write val/ and one of {names}")
    return text


Monitor = Annotated[str, AfterValidator(check_monitor)]
"""A score of validation, as "val/f1_macro"."""
