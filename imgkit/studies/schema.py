"""A study as values: what its file asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from imgkit.recipe.given import Flag

Verb = Literal["finetune", "scratch"]


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Args:
        name: unique in the study; the first part of its runs' names.
        values: recipe key -> value, with the line of the file where it stands.
        levels: factor -> level; empty for variants that are listed.
    """

    name: str
    values: Mapping[str, Flag]
    levels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inference:
    """How the time a batch is measured: images of a forward pass, passes before, passes that are timed."""

    batch_size: int = 32
    warm_up: int = 3
    passes: int = 9


@dataclass(frozen=True)
class Study:
    """A study's file.

    Args:
        source: the file, or the name of a shipped study.
        name: of the study.
        verb: what each run does.
        recipe: a shipped recipe's name or a TOML file.
        seeds: at least one.
        base: recipe values of every run.
        variants: at least one.
        axes: factor -> its levels, the reference first; empty for variants that are listed.
        baseline: the variant that others are compared with.
        compare: "baseline", or "all" pairs.
        train_images: how many training images are scored; None: all.
        inference: how the time a batch is measured.
        verb_place: where the verb is given.
        text: the file.
    """

    source: str
    name: str
    verb: Verb
    recipe: str
    seeds: tuple[int, ...]
    base: Mapping[str, Flag]
    variants: tuple[Variant, ...]
    axes: Mapping[str, tuple[str, ...]]
    baseline: str
    compare: str
    train_images: int | None
    inference: Inference
    verb_place: str
    text: str
