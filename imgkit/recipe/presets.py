"""Presets of `[augment]`: a name for the values of many keys."""

from collections.abc import Mapping
from typing import Any

from imgkit.recipe.draft import Draft, Given
from imgkit.recipe.problems import Key

_STILL: Mapping[str, Any] = {
    "rotate": 0.0,
    "translate": 0.0,
    "scale": None,
    "shear": 0.0,
    "policy": None,
    "jitter": None,
    "gray": 0.0,
    "blur": 0.0,
    "erase": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {**_STILL, "crop": None, "scale_jitter": None, "hflip": 0.0, "vflip": 0.0},
    "light": {**_STILL, "rotate": 5.0, "translate": 0.05, "jitter": (0.1, 0.1, 0.1, 0.0)},
    "medium": {
        **_STILL,
        "rotate": 10.0,
        "translate": 0.1,
        "scale": (0.9, 1.1),
        "jitter": (0.2, 0.2, 0.2, 0.05),
        "erase": 0.1,
    },
    # the values of torchvision's reference training (Vryniotis 2021)
    "strong": {**_STILL, "policy": "trivialaugment", "erase": 0.1, "mixup": 0.2, "cutmix": 1.0},
}
"""Values by key. "none" is the evaluation's picture; the others leave framing and flips as they are: how a head was
solved decides the one, and what is in the pictures the other. Light and medium are assumed, not tuned."""

_KEPT = ("crop", "scale_jitter", "ratio", "hflip", "vflip", "fill", "ramp")
"""What stays in a file's table when the command line asks for a preset other than "none"."""


def lay_presets(draft: Draft) -> None:
    """Give each `[augment]` that has a preset the values of it, where they are not given.

    A preset of the command line comes before what the file gives, one of the file after it.
    """
    for table in [("augment",), *(("phases", phase, "augment") for phase in draft.phases)]:
        given = draft.values.get((*table, "preset"))
        if given is None or not isinstance(given.value, str) or given.value not in PRESETS:
            continue  # a wrong name is told with all other faults
        if given.origin != draft.origin:
            _take_out(draft, table, () if given.value == "none" else _KEPT)
        for key, value in PRESETS[given.value].items():
            draft.values.setdefault((*table, key), Given(value, f"preset {given.value}", given.place))


def _take_out(draft: Draft, table: Key, kept: tuple[str, ...]) -> None:
    """Take out what the file gives to a table, save for `kept`."""
    from_file = [key for key, value in draft.values.items() if key[:-1] == table and value.origin == draft.origin]
    for key in from_file:
        if key[-1] not in kept:
            draft.drop(key)
