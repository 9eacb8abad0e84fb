"""The runs of a sweep: those of a study of which each variant is a trial, so all that studies do with runs holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgkit.errors import UsageError
from imgkit.recipe.fields import Task
from imgkit.recipe.given import Flag
from imgkit.recipe.load import Loaded
from imgkit.recipe.monitors import Way, way
from imgkit.recipe.task import task_of
from imgkit.recipe.toml import value_text
from imgkit.studies import plan as studies
from imgkit.studies.plan import Planned, plan_runs
from imgkit.studies.schema import Inference, Study, Variant
from imgkit.sweeps.file import read_sweep, storage_fault
from imgkit.sweeps.schema import Sweep
from imgkit.sweeps.space import corners

_LOOKED_AT = 16  # networks; each takes seconds


@dataclass(frozen=True)
class Asked:
    """A sweep as it was asked for.

    Args:
        sweep: its file.
        out: folder of its runs.
        data: where the pictures are, over the file's; None: as in the file.
        model: a network, over the file's; None: as in the file.
        sets: "key.path=value" over the file's base.
        plugin: Python files that names in it need.
        smoke: every trial is one of a few steps.
        storage: a URL of PostgreSQL, over the file's; it may have a password, and is written nowhere.
    """

    sweep: Sweep
    out: Path
    data: str | None = None
    model: str | None = None
    sets: tuple[str, ...] = ()
    plugin: tuple[str, ...] = ()
    smoke: bool = False
    storage: str | None = None

    @property
    def url(self) -> str | None:
        """Of the storage; None: a journal in the folder."""
        return self.storage or self.sweep.storage

    def as_study(self, variants: Sequence[Variant]) -> studies.Asked:
        """A study of these trials."""
        sweep, base = self.sweep, dict(self.sweep.base)
        if self.model is not None:
            base["model.name"] = Flag("--model", self.model)
        base["score_test"] = Flag("a sweep", False)  # it scores test of the chosen trial alone
        study = Study(
            source=sweep.source,
            name=sweep.name,
            verb=sweep.verb,
            recipe=sweep.recipe,
            seeds=(sweep.seed,),
            base=base,
            variants=tuple(variants),
            axes={},
            baseline=variants[0].name,
            compare="baseline",
            train_images=None,
            inference=Inference(),
            verb_place=sweep.verb_place,
            text=sweep.text,
        )
        return studies.Asked(study, self.out, self.data, self.sets, self.plugin, self.smoke)


@dataclass(frozen=True)
class Aim:
    """What trials are compared by: the recipe's monitor, and which way is better."""

    monitor: str
    task: Task

    @property
    def way(self) -> Way:
        """Whether a greater or a smaller value is better."""
        return way(self.monitor, self.task)


def ask(
    source: str | Path,
    *,
    out: Path | None = None,
    data: str | None = None,
    model: str | None = None,
    sets: Sequence[str] = (),
    plugin: Sequence[str] = (),
    smoke: bool = False,
    storage: str | None = None,
    trials: int | None = None,
) -> Asked:
    """Read a sweep's file, with what the command lays over it.

    Raises:
        RecipeError: all that is wrong with the file.
        UsageError: if there is no such file, the command sets what is searched, or its storage cannot be one.
    """
    sweep = read_sweep(source)
    if trials is not None:
        sweep = replace(sweep, trials=trials)
    for text in sets:
        key = text.partition("=")[0].strip()
        if key in sweep.space:
            raise UsageError(f"--set {text}: {key} is searched by {sweep.places[key]}.", "Leave one of them out.")
    if model is not None and "model.name" in sweep.space:
        raise UsageError(f"--model {model}: networks are searched by {sweep.places['model.name']}.", "Leave it out.")
    if storage is not None and (fault := storage_fault(storage)):
        raise UsageError(f"--storage {fault}.", "A password may stand in it, or in ~/.pgpass, or in PGPASSWORD.")
    place = Path("runs") / sweep.name if out is None else out
    return Asked(sweep, place, data, model, tuple(sets), tuple(plugin), smoke, storage)


def about_sweep(asked: Asked) -> dict[str, Any]:
    """What a child needs to read the sweep again."""
    return {
        "source": asked.sweep.source,
        "out": str(asked.out),
        "data": asked.data,
        "model": asked.model,
        "sets": list(asked.sets),
        "plugin": list(asked.plugin),
        "smoke": asked.smoke,
    }


def asked_again(about: Mapping[str, Any]) -> Asked:
    """What another process asked for, as `about_sweep` tells it."""
    return ask(**{**about, "out": Path(about["out"])})


def run_name(asked: Asked, number: int) -> str:
    """The name of a trial's run."""
    return f"{_variant_name(number)}-seed{asked.sweep.seed}"


def plan_trial(asked: Asked, number: int, values: Mapping[str, object]) -> tuple[studies.Asked, Planned]:
    """A trial as the only run of a study.

    Raises:
        ImgkitError: what its recipe says of these values together.
    """
    study = asked.as_study([_variant(asked, _variant_name(number), values)])
    (run,) = plan_runs(study)
    return study, run


def plan_corners(asked: Asked) -> tuple[studies.Asked, list[Planned]]:
    """Runs at points of the space that show what a recipe does not take; none of them is trained.

    Raises:
        ImgkitError: all that is wrong.
    """
    points = corners(asked.sweep.space)
    shown = [{key: value for key, value in point.items() if value != points[0][key]} or point for point in points]
    variants = [
        _variant(asked, ", ".join(f"{key} = {value_text(value)}" for key, value in told.items()), point)
        for told, point in zip(shown, points, strict=True)
    ]
    study = asked.as_study(variants)
    return study, plan_runs(study)


def looked_at(runs: Sequence[Planned]) -> list[Planned]:
    """Of the corners, those whose data, network and plan are looked at before the first trial: one a network."""
    found: dict[str, Planned] = {}
    for run in runs:
        network = {key: flag.value for key, flag in run.variant.values.items() if key.startswith("model.")}
        found.setdefault(repr(sorted(network.items())) if network else "", run)
    return [*found.values()][:_LOOKED_AT]


def aim_of(runs: Sequence[Planned]) -> Aim:
    """What the trials are compared by; it is the same at every corner."""
    loaded: Loaded = runs[0].loaded
    return Aim(loaded.recipe.monitor, task_of(loaded.recipe.data))


def _variant_name(number: int) -> str:
    return f"trial{number:04d}"


def _variant(asked: Asked, name: str, values: Mapping[str, object]) -> Variant:
    places = asked.sweep.places
    return Variant(name, {key: Flag(places[key], _plain(value)) for key, value in values.items()})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
