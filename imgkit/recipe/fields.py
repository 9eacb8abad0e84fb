"""Types of the values that a recipe may hold."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt

from imgkit.duration import Duration
from imgkit.quantity import parse_bytes, parse_count, parse_ms


def _check_length(text: str) -> str:
    Duration.parse(text)
    return text


def _check_span(text: str) -> str:
    if Duration.parse(text).count == 0:
        raise ValueError(f"needs a length above 0, got {text!r}")
    return text


def _check_milestones(given: object) -> object:
    lengths = (given,) if isinstance(given, str) else given
    if not isinstance(lengths, tuple) or not lengths or not all(isinstance(length, str) for length in lengths):
        shown = list(lengths) if isinstance(lengths, tuple) else given
        raise ValueError(f'must be lengths with their unit, such as ["50%", "75%"], got {shown!r}')
    return lengths


def _check_rising(lengths: tuple[str, ...]) -> tuple[str, ...]:
    counts = [Duration.parse(length) for length in lengths]
    if len({length.unit for length in counts}) > 1 or any(a.count >= b.count for a, b in pairwise(counts)):
        raise ValueError(f"must be rising lengths of one unit, got {list(lengths)}")
    return lengths


def _check_range(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the smaller number comes first, got {list(pair)}")
    return pair


def _check_area(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"a share of the image's area is at most 1, got {list(pair)}")
    return _check_range(pair)


def _check_columns(given: object) -> object:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        shown = list(names) if isinstance(names, tuple) else given
        raise ValueError(f"expected the name of a column or a list of names, got {shown!r}")
    if not names:
        raise ValueError("needs one column at least; leave it out, and imgkit looks for one")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"names the column {twice[0]!r} twice")
    return names


def parse_pixels(given: object) -> object:
    """`"300M"` or `"300_000_000"` as a whole number; what is no text stays as it is.

    Raises:
        ValueError: for another text.
    """
    if not isinstance(given, str):
        return given
    plain = given.upper()
    try:
        return int(float(plain[:-1]) * 1_000_000) if plain.endswith("M") else int(plain)
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number of pixels, such as 300000000 or 300M, got {given!r}") from None


def _amount(given: object) -> object:
    """A bare number as text, so that it is told which unit it lacks."""
    return str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given


def _each_channel(given: object) -> object:
    """One number stands for red, green and blue."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return (given,) * 3
    if not isinstance(given, tuple):
        raise ValueError(f"must be a number, or one for each of red, green and blue, got {given!r}")
    return given


def _check_size(text: str) -> str:
    if text not in ("auto", "none"):
        parse_bytes(text)
    return text


def _check_count(text: str) -> str:
    parse_count(text)
    return text


def _check_latency(text: str) -> str:
    parse_ms(text)
    return text


Task = Literal["single", "multilabel"]
"""One label an image, or any number of them."""
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Betas = Annotated[tuple[Share, ...], Field(min_length=2, max_length=3)]
"""Decays of running means, each in [0, 1)."""
Pair = tuple[PositiveFloat, PositiveFloat]
Range = Annotated[Pair, AfterValidator(_check_range)]
"""The smaller number first."""
Area = Annotated[Pair, AfterValidator(_check_area)]
"""Shares of an image's area, the smaller first."""
Pixels = Annotated[PositiveInt, BeforeValidator(parse_pixels)]
"""A number of pixels; millions may be written as text: "300M"."""
Text = Annotated[str, Field(min_length=1)]
Means = Annotated[tuple[Probability, Probability, Probability], BeforeValidator(_each_channel)]
"""Of red, green and blue in [0, 1]; one number stands for all."""
Spreads = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(_each_channel)]
"""Of red, green and blue, above 0; one number stands for all."""
Columns = Annotated[tuple[str, ...], BeforeValidator(_check_columns)]
"""Names of columns; one may be given as text."""
Names = Annotated[tuple[Text, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""Names of things; one may be given as text."""
Size = Annotated[str, BeforeValidator(_amount), AfterValidator(_check_size)]
"""A number of bytes with its unit, "100MB" or "95MiB"; "auto" or "none"."""
Count = Annotated[str, BeforeValidator(_amount), AfterValidator(_check_count)]
"""A number of things: "25M", "25000000"."""
Latency = Annotated[str, BeforeValidator(_amount), AfterValidator(_check_latency)]
"""A time with its unit: "20ms"."""
Length = Annotated[str, AfterValidator(_check_length)]
"""A length with its unit: "10%" of the phase, "3 epochs" or "500 steps"."""
Span = Annotated[str, AfterValidator(_check_span)]
"""A length above zero."""
Milestones = Annotated[tuple[Span, ...], BeforeValidator(_check_milestones), AfterValidator(_check_rising)]
"""Rising lengths of one unit; one may be given as text."""


class Strict(BaseModel):
    """Frozen, closed to keys it does not know, and without infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
