"""Reads run folders: text only, one summary each; a broken folder becomes a row with a reason."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from imgkit.duration import format_seconds
from imgkit.errors import DiskError, printable
from imgkit.evaluations import weights_label
from imgkit.recipe.fields import Task
from imgkit.run import DAMAGED, SCHEMA, RunFolder, goes_on

_SILENT_S = 600.0  # a running run that has not written for so long is said to be silent
_OF_EPOCH = ("train_loss", "val/loss", "val/top1", "val/map", "val/f1_macro", "images_per_second", "seconds")
PLACES = ("path", "more", "train", "val_path", "root")  # keys of [data] that say where the pictures lie
_OWN_SPLIT = re.compile(r"^(test|val)@((\d+)(?:-mean\d+)?)$")  # an evaluation on the run's own data, not on other data


SHOWN: Mapping[Task, Mapping[str, str]] = {
    "single": {"f1_macro": "macro F1", "top1": "top-1"},
    "multilabel": {"f1_macro": "macro F1", "map": "mAP", "subset_accuracy": "exact sets"},
}
"""Scores of a run that tables show, by task, with their titles; runs are ranked by the first one."""


class Measured(NamedTuple):
    """A fraction in [0, 1] and the ends of its 95 % interval; None where there are too few images or mistakes."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """A run's score on one of its own splits.

    Args:
        split: "test", or "val", which chose the weights.
        n: images scored.
        measured: the scores of `SHOWN` by name.
    """

    split: str
    n: int
    measured: Mapping[str, Measured]

    @property
    def merit(self) -> float:
        """What runs are ranked by: macro F1."""
        return self.measured["f1_macro"].value


@dataclass(frozen=True)
class RunSummary:
    """One run as a row of a table.

    Args:
        name: the run folder's name.
        status: "finished", "running", "stopped", "killed", "failed" or "broken", with a reason where there is one.
        model: the network; "" where unknown, as all that follows.
        recipe: the recipe's name.
        data: what it was trained on.
        fingerprint: of the data, their split and the task; runs are compared only where it is the same.
        task: one label an image, or any number.
        created: ISO date and time.
        parameters: number of parameters.
        seconds: of training.
        score: on test if the run has that, else on val; None where it was not scored yet.
        smoke: a trial of a few steps, whose score means nothing.
        seeds: its seed; of a mean over runs, theirs.
        likeness: the same for runs whose model, weights and recipe differ in the seed at most; "" where unknown.
    """

    name: str
    status: str
    model: str = ""
    recipe: str = ""
    data: str = ""
    fingerprint: str = ""
    task: Task = "single"
    created: str = ""
    parameters: int | None = None
    seconds: float | None = None
    score: Score | None = None
    smoke: bool = False
    seeds: tuple[int, ...] = ()
    likeness: str = ""

    @property
    def is_mean(self) -> bool:
        """Whether it is no run, but the mean of several; see `seeds.with_means`."""
        return len(self.seeds) > 1

    @property
    def ranked(self) -> bool:
        """Whether the run takes part in the comparison."""
        return self.score is not None and not self.smoke and not self.is_mean


@dataclass(frozen=True)
class RunDetails:
    """What the page of one run shows besides its summary, checked.

    Args:
        classes: how many there are.
        images: of each split.
        seed: of the run.
        monitor: the score that chose the best weights ("val/f1_macro").
        history: rows of history.jsonl.
        evaluations: metrics by name ("val@1200").
        parent: where it started, if that is another run: its name, step, epoch and SHA-256.
    """

    classes: int
    images: Mapping[str, int]
    seed: int
    monitor: str
    history: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Mapping[str, Any]]
    parent: Mapping[str, Any] | None


def collect(out: Path) -> list[RunSummary]:
    """A summary of each run folder under `out`, by name; those of another format are left out (`other_formats`).

    Raises:
        DiskError: if `out` cannot be listed.
    """
    return [summarise_run(folder) for folder in _folders(out) if _other_schema(folder) is None]


def other_formats(out: Path) -> list[str]:
    """The names of the runs under `out` whose run.json another imgkit wrote in another form.

    Raises:
        DiskError: if `out` cannot be listed.
    """
    return [folder.name for folder in _folders(out) if _other_schema(folder) is not None]


def _folders(out: Path) -> list[RunFolder]:
    try:
        return [RunFolder(entry) for entry in sorted(out.iterdir()) if entry.is_dir() and _looks_like_run(entry)]
    except OSError as error:
        raise DiskError(f"{out} cannot be listed: {error.strerror}.", "Check the folder's permissions.") from error


def _other_schema(folder: RunFolder) -> str | None:
    """The schema of a run.json that is not of this format; None where it is, or cannot be read."""
    try:
        schema = folder.read_json("run.json").get("schema", SCHEMA)
    except DiskError:
        return None
    return None if schema == SCHEMA else json.dumps(schema)


def summarise_run(folder: RunFolder) -> RunSummary:
    """The summary of one run; never fails for what the folder holds."""
    try:
        return read_run(folder)
    except DiskError as error:
        return RunSummary(folder.name, f"broken: {error.message}")


def read_run(folder: RunFolder) -> RunSummary:
    """The summary of one run.

    Raises:
        DiskError: if a file of it is missing or damaged, or it is of another format.
    """
    schema = _other_schema(folder)
    if schema is not None:
        raise DiskError(
            f"{folder.path} is a run of another format: its run.json has schema {printable(schema)}, and this imgkit "
            f"reads {SCHEMA}.",
            "Look at it with the imgkit that made it; run.json says which.",
        )
    with damage_told(folder):
        return _summary(folder)


def read_details(folder: RunFolder) -> RunDetails:
    """What the page of one run shows besides its summary.

    Raises:
        DiskError: if a file of it is missing or damaged.
    """
    with damage_told(folder):
        about = folder.read_json("run.json")
        monitor = str((folder.read_json("status.json").get("best") or {}).get("metric", "val/f1_macro"))
        evaluations = folder.evaluations()
        for metrics in evaluations.values():
            score_of(metrics, "")
        return RunDetails(
            classes=len(list(about["classes"])),
            images={str(split): int(n) for split, n in about["data"]["n"].items()},
            seed=int(about["seed"]),
            monitor=monitor,
            history=[_epoch(row, monitor) for row in folder.history()],
            evaluations=evaluations,
            parent=None if about.get("parent") is None else dict(about["parent"]),
        )


@contextmanager
def damage_told(folder: RunFolder) -> Iterator[None]:
    """What goes wrong for the content of a run's files becomes a DiskError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError, RecursionError) as error:
        message = f"{folder.path} has unexpected content ({type(error).__name__}: {error})."
        raise DiskError(message, DAMAGED) from error


def groups(runs: Iterable[RunSummary]) -> list[list[RunSummary]]:
    """Runs on the same data, split and task together, best macro F1 first; the group with the newest run comes first.

    Means, then runs without a score or from a smoke trial, follow at the end of their group; broken folders make the
    last group.
    """
    together: dict[tuple[str, Task], list[RunSummary]] = {}
    for run in runs:
        together.setdefault((run.fingerprint, run.task), []).append(run)
    for group in together.values():
        group.sort(key=_merit)
    broken = together.pop(("", "single"), [])
    ordered = sorted(together.values(), key=lambda group: max(run.created for run in group), reverse=True)
    return [*ordered, *([broken] if broken else [])]


def _merit(run: RunSummary) -> tuple[bool, bool, bool, float, str]:
    score = run.score
    return (
        not run.ranked,
        not run.is_mean,
        score is not None and score.split != "test",
        -score.merit if score else 0.0,
        run.name,
    )


def _looks_like_run(folder: Path) -> bool:
    """Also one that may not be looked into: it is told among those that cannot be read."""
    try:
        return not folder.name.startswith(".") and any((folder / name).exists() for name in ("run.json", "status.json"))
    except PermissionError:
        return True


def _summary(folder: RunFolder) -> RunSummary:
    about, status = folder.read_json("run.json"), folder.read_json("status.json")
    data, history = about["data"], folder.history()
    parameters = about["parameters"]
    return RunSummary(
        name=folder.name,
        status=_status(status),
        model=str(about["model"]),
        recipe=str(about["recipe"]),
        data=str(data["where"]),
        fingerprint=str(data["fingerprint"]),
        task="multilabel" if about["task"] == "multilabel" else "single",
        created=str(about["created"]),
        parameters=None if parameters is None else int(parameters),
        seconds=float(history[-1]["seconds"]) if history else None,
        score=_score(folder.evaluations(), weights_label(status["best"]) if status.get("best") else None),
        smoke=bool(about.get("smoke")),
        seeds=(int(about["seed"]),),
        likeness=_likeness(folder, about),
    )


def _likeness(folder: RunFolder, about: Mapping[str, Any]) -> str:
    """Model, weights and the values of the recipe, without the seed and without what the fingerprint stands for.

    Without the size of prepared pictures where a measurement chose it, and with the number format that was used.
    """
    file = folder.path / "recipe.toml"
    if not file.exists():
        return ""
    recipe = tomllib.loads(file.read_text(encoding="utf-8"))
    data = _without(recipe.get("data", {}), *PLACES, *(["prepared"] if "prepared" in about else []))
    train = recipe.get("train", {}) | {"precision": (about.get("format") or {}).get("precision")}
    kept = {key: value for key, value in recipe.items() if key not in ("seed", "run")} | {"data": data, "train": train}
    return json.dumps([about["model"], about["weights"]["sha256"], kept], sort_keys=True)


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def scored_splits(evaluations: Iterable[str], best: str | None) -> dict[str, str]:
    """The evaluation of the best weights on "test" and "val", by split; the newest where the best are not known."""
    found = [(match[1], match[2], int(match[3]), name) for name in evaluations if (match := _OWN_SPLIT.match(name))]
    if best is not None:
        found = [entry for entry in found if entry[1] == best]
    newest = {split: max(entry[2] for entry in found if entry[0] == split) for split, *_ in found}
    return {split: name for split, _, step, name in reversed(found) if step == newest[split]}


def _score(evaluations: Mapping[str, Mapping[str, Any]], best: str | None) -> Score | None:
    """The score of the best weights on test, else on val."""
    names = scored_splits(evaluations, best)
    split = "test" if "test" in names else "val"
    return score_of(evaluations[names[split]], split) if names else None


def score_of(metrics: Mapping[str, Any], split: str) -> Score:
    """The scores of `SHOWN` from metrics.json."""
    names, ends = SHOWN[metrics["task"]], metrics["intervals"]
    return Score(
        split=split,
        n=int(metrics["n"]),
        measured={
            name: Measured(float(metrics[name]), None if ends[name] is None else _pair(ends[name])) for name in names
        },
    )


def _epoch(row: Mapping[str, Any], monitor: str) -> dict[str, Any]:
    """A row of history.jsonl whose numbers are numbers, or None."""
    numbers = {key: None if row.get(key) is None else float(row[key]) for key in (*_OF_EPOCH, monitor)}
    return {**row, "step": int(row["step"]), **numbers}


def _pair(ends: Iterable[float]) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


def _status(status: Mapping[str, Any]) -> str:
    state, reason = str(status["state"]), str(status.get("reason") or "")
    if state == "running":
        if not goes_on(status):
            return "killed"
        silent_s = (datetime.now(UTC) - datetime.fromisoformat(status["heartbeat"])).total_seconds()
        return f"running, silent for {format_seconds(silent_s)}" if silent_s > _SILENT_S else "running"
    return f"{state}: {reason}" if reason and state == "failed" else state
