"""Scores of validation that a recipe may name: they choose the best checkpoint, stop early, and lower a rate."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from imgkit.errors import suggestion
from imgkit.recipe.fields import Task

_AVERAGED = tuple(
    f"{score}_{mean}" for score in ("f1", "precision", "recall") for mean in ("macro", "micro", "weighted")
)
MONITORS: Mapping[Task, tuple[str, ...]] = {
    "single": ("loss", "loss_calibrated", "top1", "topk", *_AVERAGED),
    "multilabel": ("loss", "loss_calibrated", "map", "subset_accuracy", *_AVERAGED, "f1_samples"),
}
"""Names that may stand after "val/" in `monitor`, by task; the metrics have the same."""

TOPK = 5
"""Answers among which `topk` looks for the label: with so many classes or fewer it finds all of them."""


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
