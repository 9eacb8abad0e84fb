"""The runs of a study: each variant's recipe with each seed, resolved and checked as far as text goes."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from imgkit.branch import start_of
from imgkit.errors import DataError, DeviceError, GateError, ImgkitError, RecipeError, UsageError, WeightsError
from imgkit.model_names import resolve_name
from imgkit.plugin_files import use_plugins
from imgkit.recipe.adapt import adapt
from imgkit.recipe.given import Flag, holds_none
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.shrink import shrink
from imgkit.recipe.toml import value_text
from imgkit.screen import Screen
from imgkit.studies.schema import Study, Variant

Made = TypeVar("Made")
_SHORT = {"data.path": "--data", "seed": "--seed", "lr": "--lr", "epochs": "--epochs"}
_KINDS: dict[int, type[ImgkitError]] = {
    kind.exit_code: kind for kind in (UsageError, DataError, WeightsError, DeviceError, GateError)
}


@dataclass(frozen=True)
class Asked:
    """A study as it was asked for.

    Args:
        study: its file.
        out: folder of its runs.
        data: where the pictures are, over the file's; None: as in the file.
        sets: "key.path=value" over the file's base.
        plugin: Python files that names in it need.
        smoke: every run is a trial of a few steps.
    """

    study: Study
    out: Path
    data: str | None = None
    sets: tuple[str, ...] = ()
    plugin: tuple[str, ...] = ()
    smoke: bool = False

    @property
    def base(self) -> dict[str, Flag]:
        """The values of every run, those of the command over the file's."""
        replaced = {text.partition("=")[0].strip() for text in self.sets}
        base = {key: flag for key, flag in self.study.base.items() if key not in replaced}
        return base if self.data is None else {**base, "data.path": Flag("--data", self.data)}


@dataclass(frozen=True)
class Planned:
    """One run.

    Args:
        variant: its variant.
        seed: its seed.
        loaded: its recipe as the run will have it.
        words: the command that trains it, without its place.
    """

    variant: Variant
    seed: int
    loaded: Loaded
    words: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.variant.name}-seed{self.seed}"

    @property
    def model(self) -> str:
        """Its network, as the recipe names it."""
        name = self.loaded.recipe.model.name
        assert name is not None, "a study without one is refused"
        return name

    def command(self, out: Path) -> list[str]:
        """The words behind `imgkit` that train it into `out`."""
        return [*self.words, "--out", str(out), "--name", self.name]


def plan_runs(asked: Asked) -> list[Planned]:
    """Every run of a study, variant by variant; no data are read and torch is not imported.

    Raises:
        RecipeError: all that is wrong with the variants' recipes, each fault once.
        UsageError: if a network, a plugin or the task is.
    """
    use_plugins(asked.plugin)
    study = asked.study
    loaded = told_together(study.variants, lambda one: [_resolve(asked, one, seed) for seed in study.seeds])
    return [
        Planned(variant, seed, recipe, tuple(_words(asked, variant, seed)))
        for variant, recipes in zip(study.variants, loaded, strict=True)
        for seed, recipe in zip(study.seeds, recipes, strict=True)
    ]


def told_together(variants: Sequence[Variant], make: Callable[[Variant], Made]) -> list[Made]:
    """What `make` gives for each variant; what is wrong with them is raised as one error, with the variants it is in.

    Raises:
        ImgkitError: of the kind of the first.
    """
    made, lines, hints = [], dict[str, list[str]](), dict[str, None]()
    first: ImgkitError | None = None
    for variant in variants:
        try:
            made.append(make(variant))
        except ImgkitError as error:
            if error.exit_code not in _KINDS:  # the disk, or a signal: no fault of the variant
                raise
            first = first or error
            for line in error.message.splitlines():
                lines.setdefault(line, []).append(variant.name)
            hints |= dict.fromkeys([error.hint] if error.hint else [])
    if first is None:
        return made
    text = "\n".join(line + _whose(names, len(variants)) for line, names in lines.items())
    kind = RecipeError if isinstance(first, RecipeError) else _KINDS[first.exit_code]
    raise kind(text, "\n".join(hints))


def _whose(names: Iterable[str], of: int) -> str:
    """` (variant B)`; nothing where it is in all, or one alone was looked at for all."""
    names = list(dict.fromkeys(names))
    if len(names) == of:
        return ""
    return f" (variant{'s' * (len(names) > 1)} {', '.join(names)})"


def _flags(asked: Asked, variant: Variant, seed: int) -> dict[str, Flag]:
    return {**asked.base, **variant.values, "seed": Flag("seeds of the study", seed)}


def _parted(flags: Mapping[str, Flag]) -> tuple[dict[str, Flag], list[str]]:
    """The values, and the keys that "none" takes out of the recipe, since they cannot hold it: tables, say."""
    gone = [key for key, flag in flags.items() if flag.value == "none" and not holds_none(tuple(key.split(".")))]
    return {key: flag for key, flag in flags.items() if key not in gone}, gone


def _resolve(asked: Asked, variant: Variant, seed: int) -> Loaded:
    study, flags = asked.study, _flags(asked, variant, seed)
    if study.verb == "scratch":
        flags["model.weights"] = Flag(study.verb_place, "none")
    flags, gone = _parted(flags)
    loaded = load_recipe(study.recipe, flags=flags, sets=[*asked.sets, *(f"{key}=none" for key in gone)])
    if loaded.recipe.model.name is None:
        raise UsageError(
            "Which network? Neither the file nor its recipe names one.",
            'Write  model = "resnet18"   or, of a sweep, type  --model resnet18',
        )
    loaded, _ = start_of(shrink(loaded) if asked.smoke else loaded, Screen(quiet=True))
    loaded, _ = adapt(loaded)
    resolve_name(str(loaded.recipe.model.name))
    return loaded


def _words(asked: Asked, variant: Variant, seed: int) -> list[str]:
    """The command line of a run; what was checked as values is typed as values."""
    flags, gone = _parted(_flags(asked, variant, seed))
    model = flags.pop("model.name", None)
    words: list[str] = [
        asked.study.verb,
        *([] if model is None else [str(model.value)]),
        "--recipe",
        asked.study.recipe,
    ]
    for key, flag in flags.items():
        if key in _SHORT:
            words += [_SHORT[key], str(flag.value)]
        else:
            words += ["--set", f"{key}={value_text(flag.value)}"]
    words += [word for text in (*asked.sets, *(f"{key}=none" for key in gone)) for word in ("--set", text)]
    words += [word for file in asked.plugin for word in ("--plugin", file)]
    return words + ["--smoke"] * asked.smoke


def typed(command: Sequence[str]) -> str:
    """A command line, quoted for a shell."""
    return shlex.join(["imgkit", *command])
