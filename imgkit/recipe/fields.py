"""Types of the values that a recipe may hold."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat

from imgkit.duration import Duration


def _check_length(text: str) -> str:
    Duration.parse(text)
    return text


def _check_range(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the smaller number comes first, got {list(pair)}")
    return pair


def _check_area(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"a share of the image's area is at most 1, got {list(pair)}")
    return _check_range(pair)


Task = Literal["single", "multilabel"]
"""One label an image, or any number of them."""
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Pair = tuple[PositiveFloat, PositiveFloat]
Range = Annotated[Pair, AfterValidator(_check_range)]
"""The smaller number first."""
Area = Annotated[Pair, AfterValidator(_check_area)]
"""Shares of an image's area, the smaller first."""
Length = Annotated[str, AfterValidator(_check_length)]
"""A length with its unit: "10%" of the phase, "3 epochs" or "500 steps"."""


class Strict(BaseModel):
    """Frozen, closed to keys it does not know, and without infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
