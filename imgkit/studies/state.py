"""What a study's folder holds: which runs are done, begun or others by now, and what study.json remembers."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from imgkit.errors import DiskError, UsageError, disk_told, printable
from imgkit.evaluations import weights_label
from imgkit.recipe.load import load_recipe
from imgkit.recipe.schema import Recipe
from imgkit.recipe.toml import read_toml, value_text
from imgkit.recipe.write import render
from imgkit.run import RunFolder, replace_text
from imgkit.studies.plan import Asked, Planned

State = Literal["new", "begun", "done"]
MEMORY = "study.json"
SCHEMA = 1
_SHOWN = 3  # values of a run that are named
_MACHINE = "run."  # keys that change nothing that is learned


@dataclass
class Memory:
    """study.json: what was measured of a run, and why one failed, by its name.

    A measurement is of one model: of the run that was `created` then, of the weights of that `label`.
    """

    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path) -> "Memory":
        """What is there; nothing, of a new study.

        Raises:
            DiskError: if it is damaged.
        """
        if not (out / MEMORY).is_file():
            return cls()
        content = RunFolder(out).read_json(MEMORY)
        measured, failed = content.get("measured"), content.get("failed")
        if content.get("schema") != SCHEMA or not isinstance(measured, dict) or not isinstance(failed, dict):
            raise DiskError(f"{out / MEMORY} is not as a study writes it.", "Remove it: what it held is measured anew.")
        return cls(measured, failed)

    def only(self, names: Collection[str]) -> "Memory":
        """What it holds of these runs: others are none of the study's by now."""
        kept = ({name: one for name, one in part.items() if name in names} for part in (self.measured, self.failed))
        return Memory(*kept)

    def write(self, out: Path) -> None:
        """Put it into the study's folder.

        Raises:
            DiskError: if it cannot be written.
        """
        RunFolder(out).write_json(MEMORY, {"schema": SCHEMA, "measured": self.measured, "failed": self.failed})

    def knows(self, folder: RunFolder, train_images: int | None, inference: Mapping[str, int]) -> bool:
        """Whether the model of a finished run has been measured in the way that is asked for."""
        entry = self.measured.get(folder.name)
        wanted = identity(folder) | {"train_images": train_images}
        if entry is None or any(entry.get(key) != value for key, value in wanted.items()):
            return False
        asked = all(entry["inference"].get(key) == value for key, value in inference.items())
        return asked and (folder.path / "evaluations" / entry["train"] / "metrics.json").is_file()


def identity(folder: RunFolder) -> dict[str, str]:
    """What names the model of a finished run: when the run was made, and the label of the weights."""
    status = folder.read_json("status.json")
    return {"created": folder.read_json("run.json")["created"], "label": weights_label(status["best"])}


def state_of(out: Path, run: Planned) -> State:
    """How far a run has come."""
    folder = RunFolder(out / run.name)
    if not (folder.path / "run.json").is_file():
        return "new"
    finished = folder.read_json("status.json")["state"] == "finished" and folder.has_model
    return "done" if finished else "begun"


def states(asked: Asked, runs: Sequence[Planned]) -> dict[str, State]:
    """How far each run has come, by name.

    Raises:
        UsageError: if a folder holds a run with other values, naming all of them.
        DiskError: if a run's files are damaged.
    """
    found = {run.name: state_of(asked.out, run) for run in runs}
    others = [
        (run.name, differences)
        for run in runs
        if found[run.name] != "new" and (differences := _differences(asked, run))
    ]
    if others:
        lines = [f"{asked.out / name} was trained with other values: {_listed(told)}" for name, told in others]
        raise UsageError(
            "\n".join(lines),
            "Give a changed variant another name, remove these folders, or choose another --out.",
        )
    return found


def _differences(asked: Asked, run: Planned) -> list[str]:
    """Where the run in the folder is another one than planned: "train.ema 0.9 there, 0.99 here"."""
    folder = RunFolder(asked.out / run.name)
    about = folder.read_json("run.json")
    there = load_recipe(str(folder.path / "recipe.toml")).recipe
    pairs: dict[str, tuple[object, object]] = {"verb": (about["verb"], asked.study.verb)}
    measured = {"data.prepared"} | ({"train.precision"} if about.get("format", {}).get("measured") else set())
    pairs["smoke"] = (bool(about["smoke"]), asked.smoke)
    before, now = _values(there), _values(_as_written(run))
    pairs |= {key: (before.get(key), now.get(key)) for key in dict.fromkeys([*now, *before])}
    return [
        f"{key} {value_text(was)} there, {value_text(is_)} here"
        for key, (was, is_) in pairs.items()
        if was != is_ and not key.startswith(_MACHINE) and not (key in measured and is_ == "auto")
    ]


def _as_written(run: Planned) -> Recipe:
    """The recipe of a run as it is read back from its folder: what no phase reads has no line there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        file.write_text(render(run.loaded), encoding="utf-8", errors="surrogateescape")
        return load_recipe(str(file)).recipe


def _values(recipe: Recipe) -> dict[str, object]:
    """The values of a recipe by key with dots, phases by name."""
    found = recipe.model_dump()
    phases = {phase.name: phase.model_dump() for phase in recipe.phases}
    return {key.replace(".overrides.", "."): value for key, value in _leaves("", {**found, "phases": phases})}


def _leaves(prefix: str, table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _listed(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN
    return "; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def check_folder(asked: Asked) -> bool:
    """See that the folder is this study's, or free; whether its file is another by now.

    Raises:
        UsageError: if it is a run, or another study's.
    """
    out = asked.out
    if (out / "run.json").is_file():
        raise UsageError(f"{printable(str(out))} is a run, and a study is a folder of runs.", "Choose another --out.")
    copy = out / "study.toml"
    if not copy.is_file():
        return False
    name = read_toml(copy).values.get("name")
    if name != asked.study.name:
        raise UsageError(
            f"{printable(str(out))} holds the study {printable(str(name))!r}, not {asked.study.name!r}.",
            "Choose another --out.",
        )
    return copy.read_text(encoding="utf-8-sig") != asked.study.text


def keep_file(asked: Asked) -> None:
    """Make the study's folder with a copy of its file.

    Raises:
        DiskError: if it cannot be written.
    """
    with disk_told(asked.out):
        asked.out.mkdir(parents=True, exist_ok=True)
    replace_text(asked.out / "study.toml", asked.study.text)


@contextmanager
def study_lock(out: Path) -> Iterator[None]:
    """Hold the study for this process; `out` exists.

    Raises:
        UsageError: if another process holds it.
    """
    lock = FileLock(out / ".study.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        text = f"Another process works on the study in {printable(str(out))}."
        raise UsageError(text, "Wait for it, or stop that process first.") from None
    try:
        yield
    finally:
        lock.release()


def is_held(folder: RunFolder) -> bool:
    """Whether a process works on the run: one that a killed study left, say."""
    lock = FileLock(folder.path / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def left_over(out: Path, runs: Sequence[Planned]) -> list[str]:
    """Names of the runs in the folder that the study does not have."""
    names = {run.name for run in runs}
    entries = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
    return [name for name in entries if name not in names and (out / name / "run.json").is_file()]
