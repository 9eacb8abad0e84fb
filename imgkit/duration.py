"""Lengths of training that carry their unit, time limits, and seconds for people."""

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["epochs", "steps", "percent"]
_FORM = re.compile(r"^\s*(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>epochs?|steps?|%)\s*$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*")


@dataclass(frozen=True)
class Duration:
    """A length: so many epochs, optimizer steps, or percent of a phase."""

    count: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read "3 epochs", "500 steps" or "10%".

        Raises:
            ValueError: if the text has another form; the message says which forms there are.
        """
        match = _FORM.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not a length; write '10%', '3 epochs' or '500 steps'")
        unit: Unit = "percent" if match["unit"] == "%" else "epochs" if match["unit"].startswith("e") else "steps"
        return cls(float(match["count"]), unit)

    def steps(self, phase_steps: int, steps_per_epoch: int) -> int:
        """This length in optimizer steps, rounded to the nearest, at least 0."""
        if self.unit == "percent":
            return round(self.count * phase_steps / 100)
        return round(self.count * (steps_per_epoch if self.unit == "epochs" else 1))

    def __str__(self) -> str:
        count = f"{self.count:g}"
        return f"{count}%" if self.unit == "percent" else f"{count} {self.unit}"


def parse_seconds(text: str) -> float:
    """Read "90s", "10m", "2h" or "1h 30m" as seconds, more than 0.

    Raises:
        ValueError: if the text has another form; the message says which forms there are.
    """
    parts = _TIME.findall(text)
    seconds = sum(float(count) * _SECONDS[unit] for count, unit in parts)
    if _TIME.sub("", text) or seconds <= 0.0:
        raise ValueError(f"{text!r} is not a time; write '90s', '10m', '2h' or '1h 30m'")
    return seconds


def format_seconds(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
