"""Amounts that carry their unit: "100MB" or "95MiB", "25M" parameters, "20ms"."""

import re
from collections.abc import Mapping

from imgkit.errors import suggestion

BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COUNTS = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9}
TIMES_MS = {"ms": 1.0, "s": 1e3}
_FORM = re.compile(r"\s*(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-zµ]*)\s*")


def parse_bytes(text: str) -> int:
    """Read "100MB" (10^6 bytes each) or "95MiB" (2^20 bytes each) as bytes.

    Raises:
        ValueError: if there is no such unit, none at all, or no number above 0; the message says what there is.
    """
    return int(_parse(text, BYTES, "a size", "'100MB' (millions of bytes) or '95MiB' (2^20 bytes each)"))


def parse_count(text: str) -> int:
    """Read "25M", "800k" or "25000000" as a number of things.

    Raises:
        ValueError: as `parse_bytes`.
    """
    return int(_parse(text, COUNTS, "a number of parameters", "'25M', '800k' or '25000000'"))


def parse_ms(text: str) -> float:
    """Read "20ms" or "0.5s" as milliseconds.

    Raises:
        ValueError: as `parse_bytes`.
    """
    return _parse(text, TIMES_MS, "a time", "'20ms' or '0.5s'")


def unit_of(text: str) -> str:
    """The unit of an amount that has been read: "MB" of "100MB"."""
    form = _FORM.fullmatch(text)
    assert form is not None, text
    return form["unit"]


def format_bytes(count: int, unit: str) -> str:
    """`97.70 MiB`: bytes in a unit of `BYTES`."""
    return f"{count / BYTES[unit]:,.2f} {unit}"


def about_bytes(count: int) -> str:
    """`3.2 GiB`, `640 MiB`, `12 KiB`: bytes in the unit that fits, for people."""
    for unit in ("GiB", "MiB"):
        if count >= BYTES[unit]:
            number = count / BYTES[unit]
            return f"{number:,.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{count / BYTES['KiB']:,.0f} KiB"


def _parse(text: str, units: Mapping[str, float], what: str, examples: str) -> float:
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} is not {what}; write {examples}")
    unit, number = form["unit"], float(form["number"].replace("_", ""))
    if unit not in units:
        near = suggestion(unit, [name for name in units if name])
        known = ", ".join(name for name in units if name)
        fault = f"has no unit ({known})" if not unit else f"has the unit {unit!r}, which is none of {known}{near}"
        raise ValueError(f"{text!r} {fault}; write {examples}")
    if number <= 0:
        raise ValueError(f"{text!r} is not above 0; write {examples}")
    return number * units[unit]
