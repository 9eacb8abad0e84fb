"""A run that starts from a checkpoint of another one: `--from NAME@20`, which is `model.weights = "run:NAME@20"`.

The new run takes over weights, head, averages and the optimizer's moments, and nothing else: its steps and epochs begin
at 0, under a recipe of its own. It keeps a copy as its checkpoint of step 0, so that it needs its parent no more.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.bounds import read_json
from imgkit.data.index import Index
from imgkit.errors import DataError, DiskError, UsageError, printable
from imgkit.model_names import resolve_name
from imgkit.progress import Progress
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.phases import FROM_RUN
from imgkit.recipe.plan import PhasePlan, Plan, make_plan
from imgkit.run import DAMAGED, RunFolder
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.models.weights import WeightSource

_PLACE = re.compile(r"(?P<epoch>\d+)|step-(?P<step>\d+)|best|last")
_LISTED = 6  # checkpoints that a message names, the newest
_OF_NETWORK = ("head", "in_chans", "image_size", "fit", "crop_pct", "mean", "std")
"""Keys of `[model]` that are the parent's where the new recipe leaves them open."""


@dataclass(frozen=True)
class Start:
    """A checkpoint of another run.

    Attributes:
        parent: that run.
        about: its run.json.
        step: updates that it had done.
        epoch: that had just ended; None within one, and after a solved head.
        phase: of the parent, that made the last of these updates; None where it is not known.
        sha256: of the checkpoint's model.safetensors, in hex.
    """

    parent: RunFolder
    about: Mapping[str, Any]
    step: int
    epoch: int | None
    phase: PhasePlan | None
    sha256: str

    @property
    def words(self) -> str:
        """`NAME, epoch 20 (step 2,400)`, for people."""
        when = f"step {self.step:,}" if self.epoch is None else f"epoch {self.epoch} (step {self.step:,})"
        return f"{self.parent.name}, {when}"

    @property
    def spec(self) -> str:
        """What `model.weights` says of it, whichever way it was named."""
        place = f"step-{self.step}" if self.epoch is None else str(self.epoch)
        return f"{FROM_RUN}{self.parent.address}@{place}"

    @property
    def source(self) -> "WeightSource":
        """The same as a source of weights, under the licence of those that the parent started from."""
        from imgkit.models.weights import WeightSource

        file = _checkpoints(self.parent) / f"step-{self.step:08d}" / "model.safetensors"
        return WeightSource("run", f"run {self.words}", self.about["weights"]["licence"], file)

    def told(self) -> dict[str, Any]:
        """What run.json keeps of it."""
        return {"run": self.parent.name, "step": self.step, "epoch": self.epoch, "sha256": self.sha256}

    def check(self, index: Index, screen: Screen) -> None:
        """See that data have the parent's classes, and warn where they score what the parent was trained on.

        Raises:
            DataError: if the classes or the task are others; the message names the classes.
        """
        task, classes = self.about["task"], list(self.about["classes"])
        if (index.task, list(index.classes)) != (task, classes):
            raise _other_classes(self, index, task, classes)
        seen = _trained_on(self)
        for split in ("val", "test"):
            rows = index.rows(split)
            known = sum(index.hashes[row].tobytes() in seen for row in rows)
            if known:
                screen.warn(
                    f"{known:,} of {len(rows):,} images of {split} were trained on by {self.parent.name}, so their "
                    f"score flatters. Take its data and its split, which --recipe "
                    f"{shlex.quote(str(self.parent.path / 'recipe.toml'))} has"
                )

    def say(self, plan: Plan, screen: Screen) -> None:
        """What of it does not go on in the phases of the new run."""
        if plan.phases[0].lr is None:
            screen.note(f"phase {plan.phases[0].name!r} solves a new head: that of {self.parent.name} is replaced")
        first = next((phase for phase in plan.phases if phase.lr is not None), None)
        had = _state(self)["optimizer"]["optimizer"]
        if first is None or self.phase is None:
            return
        if had and had != first.settings.optimizer:
            screen.note(
                f"the optimizer's state starts anew: {self.parent.name} has that of {had}, and phase {first.name!r} "
                f"takes {first.settings.optimizer}"
            )
        if self.phase.settings.ema > 0.0 == first.settings.ema:
            screen.note(
                f"{self.parent.name} averaged its weights, and phase {first.name!r} does not: it goes on from the last "
                "weights themselves, not from the averages that were scored"
            )

    def copy_to(self, checkpoints: Path, fingerprint: str) -> None:
        """Write it as the checkpoint of step 0 of a run on data of that fingerprint; every byte is checked before.

        Raises:
            DiskError: if it is damaged or gone, or cannot be written.
        """
        from imgkit.checkpoint import Checkpoint, read, save

        found = read(_checkpoints(self.parent), self.step)
        if self.source.digest() != self.sha256:
            raise DiskError(f"The checkpoint of {self.words} changed while it was read.", "Try again.")
        state = {"progress": asdict(Progress()), "optimizer": found.state["optimizer"], "fingerprint": fingerprint}
        save(checkpoints, Checkpoint(0, found.model, found.train, state), keep="all", best=None)


def parent_of(spec: str, say: Callable[[str], None] | None = None) -> tuple[RunFolder, str]:
    """The run that `NAME@PLACE` names, and the place: "20" (an epoch), "step-2400", "best", or "last", the default.

    Raises:
        UsageError: if there is no such run.
    """
    name, at, place = spec.removeprefix(FROM_RUN).rpartition("@")
    if not at or not _PLACE.fullmatch(place):
        if at and any((folder / name / "run.json").is_file() for folder in (Path("runs"), Path())):
            raise UsageError(
                f"{printable(place)!r} is no place in {printable(name)}.",
                "Write an epoch, as NAME@20, or NAME@step-2400, NAME@best or NAME@last.",
            )
        name, place = spec.removeprefix(FROM_RUN), "last"
    return RunFolder.open(name, Path("runs"), say), place


def start_of(loaded: Loaded, screen: Screen) -> tuple[Loaded, Start | None]:
    """The checkpoint that a recipe starts from, and the recipe with what it leaves open as the parent has it.

    Its `model.weights` then names that checkpoint for good, whatever "latest" or "best" may mean later.

    Raises:
        UsageError: if there is no such run or checkpoint, or it is of another network.
        DiskError: if a file of that run is damaged.
    """
    model = loaded.recipe.model
    if not model.weights.startswith(FROM_RUN):
        return loaded, None
    parent, place = parent_of(model.weights, screen.note)
    about, before = parent.read_json("run.json"), load_recipe(parent.path / "recipe.toml")
    if model.name is not None and resolve_name(model.name).split(".")[0] != about["model"].split(".")[0]:
        raise UsageError(
            f"{parent.name} is a {about['model']}, and {printable(model.name)} was asked for.",
            f"Leave MODEL out, or start without that run:  imgkit finetune {shlex.quote(model.name)}",
        )
    start = _find(parent, about, before, place)
    inherited = {key: getattr(before.recipe.model, key) for key in _OF_NETWORK if _open(loaded, f"model.{key}")}
    inherited |= {} if model.options else {"options": before.recipe.model.options}
    changed = {**inherited, "name": about["model"], "weights": start.spec}
    named = {f"model.{key}": f"run {parent.name}" for key in inherited if getattr(model, key) != inherited[key]}
    named |= {f"model.options.{key}": f"run {parent.name}" for key in inherited.get("options", {})}
    recipe = loaded.recipe.model_copy(update={"model": model.model_copy(update=changed)})
    return replace(
        loaded, recipe=recipe, origins={**loaded.origins, **named, "model.name": f"run {parent.name}"}
    ), start


def _open(loaded: Loaded, key: str) -> bool:
    return loaded.origins[key] == "default"


def _checkpoints(folder: RunFolder) -> Path:
    return folder.path / "checkpoints"


def _find(parent: RunFolder, about: Mapping[str, Any], before: Loaded, place: str) -> Start:
    """The checkpoint at `place` of a run."""
    from imgkit.checkpoint import steps

    epochs = {row["epoch"]: row["step"] for row in parent.history() if not row["solved"]}
    there = steps(_checkpoints(parent))
    if not there:
        raise UsageError(
            f"{parent.name} has no checkpoint.", f"Train it first:  imgkit resume {shlex.quote(parent.address)}"
        )
    step = _step(parent, place, epochs, there)
    if step not in there:
        raise _missing(parent, place, epochs, there)
    ended = {step: epoch for epoch, step in epochs.items()}
    phase = None
    if step > 0 and not about["smoke"]:
        plan = make_plan(before, about["data"]["n"]["train"])
        phase = plan.phase_at(step - 1)
        phase = phase if phase.lr is not None else plan.trained_before(phase)
    start = Start(parent, about, step, ended.get(step), phase, "")
    return replace(start, sha256=start.source.digest() or "")


def _step(parent: RunFolder, place: str, epochs: Mapping[int, int], there: list[int]) -> int:
    """The step that a place means, whether its checkpoint is there or not."""
    match = _PLACE.fullmatch(place)
    assert match is not None, "parent_of has looked"
    if place == "last":
        return there[-1]
    if place == "best":
        return int(parent.read_json("checkpoints/best.json")["step"])
    if match["step"]:
        return int(match["step"])
    epoch = int(match["epoch"])
    if epoch not in epochs:
        done = f"its epochs are 1 to {max(epochs)}" if epochs else "no epoch of it is done"
        raise UsageError(
            f"{parent.name} has no epoch {epoch}: {done}.", f"What it has:  imgkit report {shlex.quote(parent.address)}"
        )
    return epochs[epoch]


def _missing(parent: RunFolder, place: str, epochs: Mapping[int, int], there: list[int]) -> UsageError:
    """The error for a checkpoint that was removed, or never was, with those that are there."""
    ended = {step: epoch for epoch, step in epochs.items()}
    names = [f"@{ended[step]}" if step in ended else f"@step-{step}" for step in there]
    shown = [f"{name} (step {step:,})" if name[1:].isdigit() else name for name, step in zip(names, there, strict=True)]
    more = f"{len(shown) - _LISTED} earlier ones and " if len(shown) > _LISTED else ""
    wanted = f"epoch {int(place)}" if place.isdigit() else place
    return UsageError(
        f"{parent.name} has no checkpoint of {wanted}: a run keeps the newest ones and the best. "
        f"There are: {more}{', '.join(shown[-_LISTED:])}.",
        f"Take one of them:  --from {shlex.quote(parent.address + names[-1])}\n"
        "To keep all of a new run:  --set save.keep=all",
    )


def _state(start: Start) -> Mapping[str, Any]:
    """state.json of the checkpoint."""
    file = start.source.file
    assert file is not None
    try:
        return read_json(file.parent / "state.json")
    except (OSError, ValueError) as error:
        raise DiskError(f"{file.parent / 'state.json'} cannot be read: {error}.", DAMAGED) from error


def _trained_on(start: Start) -> set[bytes]:
    """The contents of the images that the parent was trained on, by SHA-256; none where its table is damaged."""
    about, file = start.about, start.parent.path / "data" / "index.csv"
    try:
        own = Index.read_csv(file, Path(about["data"]["root"]), tuple(about["classes"]), about["task"])
    except DataError:
        return set()
    return {own.hashes[row].tobytes() for row in own.rows("train")}


def _other_classes(start: Start, index: Index, task: str, classes: list[str]) -> DataError:
    if index.task != task:
        words = {"single": "one label an image", "multilabel": "any number of labels an image"}
        return DataError(
            f"{start.parent.name} was trained on {words[task]}, and these data have {words[index.task]}.",
            "Train a new network on them, without --from.",
        )
    missing = [name for name in classes if name not in index.classes]
    surplus = [name for name in index.classes if name not in classes]
    sides = [f"lack {_names(missing)}"] * bool(missing) + [f"have {_names(surplus)} besides"] * bool(surplus)
    return DataError(
        f"The classes of {start.parent.name} go on by name, and these data {' and '.join(sides)}.",
        "Give data of the same classes. For others take its weights alone, under a new head:  "
        f"--weights {shlex.quote(str(start.source.file))}",
    )


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
