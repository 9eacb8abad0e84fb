"""The shapes of answers, as the description of the interface has them; `served.Served.row` makes them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Guess(_Shape):
    """A class and its calibrated probability."""

    label: str = Field(description="The class.")
    prob: float = Field(ge=0, le=1, description="From 0 to 1.")


class Health(_Shape):
    """What is served."""

    status: Literal["ready"]
    run: str
    model: str = Field(description="The network, in timm's words.")
    task: Literal["single", "multilabel"]
    classes: int = Field(description="How many there are.")
    device: str


_PATH = (str, Field(description="The name that the picture was sent with."))
_TOP = (list[Guess], Field(description="The top_k most likely classes, best first."))
_ERROR = (str, Field(description="Why the picture cannot be read; empty where it can."))
_MORE: dict[str, Any] = {
    "guess": (str | None, Field(description="The most likely class, also where the answer is left open.")),
    "rejected": (Literal["unsure"] | None, Field(description="Why the answer is left open.")),
    "set": (list[str] | None, Field(description="The classes of the conformal set, the most likely one first.")),
}


def answer_shape(*, several: bool, columns: tuple[str, ...]) -> type[BaseModel]:
    """The model of an answer.

    Args:
        several: whether an image may have any number of labels.
        columns: what an answer has besides, of `Wish.columns`.
    """
    if several:
        what: dict[str, Any] = {
            "labels": (list[str] | None, Field(description="Those at or above their threshold, most likely first.")),
            "probs": (dict[str, float] | None, Field(description="The probability of each label.")),
        }
    else:
        what = {
            "label": (str | None, Field(description="The answer; null where it is left open or cannot be read.")),
            "prob": (float | None, Field(description="The calibrated probability of the most likely class.")),
        }
    more = {name: _MORE[name] for name in columns}
    return create_model("Answer", __base__=_Shape, path=_PATH, **what, top=_TOP, **more, error=_ERROR)


def answers_shape(answer: type[BaseModel]) -> type[BaseModel]:
    """The model of the answers to several pictures."""
    described = Field(description="One for each picture, in the order in which they were sent.")
    return create_model("Answers", __base__=_Shape, answers=(list[answer], described))  # type: ignore[valid-type]
