"""Runs as the page of many runs shows them: ladders of those that may be ranked, and what they were tried against."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from imgkit.data.rows import count
from imgkit.errors import DiskError, UsageError, printable, suggestion
from imgkit.evaluations import weights_label
from imgkit.recipe.fields import Task
from imgkit.report.collect import RunSummary, Score, damage_told, groups, score_of, scored_splits
from imgkit.report.words import guessing
from imgkit.run import RunFolder

Split = Literal["test", "val"]


@dataclass(frozen=True)
class Trial:
    """A run that was scored.

    Args:
        run: its row in the tables.
        folder: where it is.
        evaluation: the name of the evaluation that it is ranked by ("test@1200").
        val: the score of the same weights on validation, which chose them; None where it was removed.
        scored: fingerprint of the images of `evaluation`; "" where it is not known.
        watched: fingerprint of the validation images; "" where it is not known.
        epochs: how many evaluations on validation chose among its checkpoints.
        guessing: what guessing gives on the images of `evaluation`, in words.
        train_images: that it was trained on.
        size_bytes: of the weights in model/; None where there are none.
    """

    run: RunSummary
    folder: RunFolder
    evaluation: str
    val: Score | None
    scored: str
    watched: str
    epochs: int
    guessing: str
    train_images: int
    size_bytes: int | None

    @property
    def score(self) -> Score:
        """What it is ranked by."""
        assert self.run.score is not None
        return self.run.score


@dataclass(frozen=True)
class Ladder:
    """Runs that may be ranked, best first: the same data, task, split and scored images.

    Args:
        split: that they are scored on.
        trials: at least one.
    """

    split: Split
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The first one."""
        return self.trials[0]

    @property
    def ranks(self) -> list[int]:
        """Of its trials: one more than those that are better, so equal scores share one."""
        merits = [trial.score.merit for trial in self.trials]
        return [1 + sum(one > merit for one in merits) for merit in merits]


@dataclass(frozen=True)
class Group:
    """Runs on the same data.

    Args:
        number: from 1, as the page calls it.
        runs: all of them, as `collect.groups` orders them.
        ladders: those on test first.
        problems: why runs that have a score are on no ladder, by name.
    """

    number: int
    runs: tuple[RunSummary, ...]
    ladders: tuple[Ladder, ...]
    problems: Mapping[str, str]

    @property
    def task(self) -> Task:
        """Of all its runs."""
        return self.runs[0].task

    @property
    def fingerprint(self) -> str:
        """Of its data."""
        return self.runs[0].fingerprint


@dataclass(frozen=True)
class Tried:
    """What was tried against one validation set.

    Args:
        runs: that were scored on it.
        configurations: of these, those that differ in more than the seed.
        epochs: evaluations that chose among checkpoints.
    """

    runs: int
    configurations: int
    epochs: int


def arrange(out: Path, runs: Iterable[RunSummary]) -> list[Group]:
    """The groups of the runs under `out`; broken folders are in none."""
    found = []
    for number, members in enumerate((group for group in groups(runs) if group[0].fingerprint), start=1):
        trials: list[Trial] = []
        problems = {}
        for run in members:
            if run.ranked:
                try:
                    trials.append(_trial(out, run))
                except DiskError as error:
                    problems[run.name] = error.message
        found.append(Group(number, tuple(members), tuple(_ladders(trials)), problems))
    return found


def tried(groups: Sequence[Group], watched: str) -> Tried:
    """What all runs together tried against the validation images with the fingerprint `watched`; "": nothing known."""
    all_trials = [trial for group in groups for ladder in group.ladders for trial in ladder.trials]
    trials = [trial for trial in all_trials if trial.watched == watched != ""]
    alike = {trial.run.likeness or trial.run.name for trial in trials}
    return Tried(len(trials), len(alike), sum(trial.epochs for trial in trials))


def find_baseline(groups: Sequence[Group], name: str, out: Path) -> Trial:
    """The run called `name` (or "latest", or by its path) that others are to be compared with.

    Raises:
        UsageError: if there is no such run under `out`, or it cannot be compared with any other; the message says why.
    """
    called = _name_under(out, name)
    known = {run.name: group for group in groups for run in group.runs}
    if called not in known:
        shown = f"{printable(str(out))}{suggestion(called, known)}"
        raise UsageError(
            f"There is no run called {printable(name)!r} in {shown}.", f"All of them:  imgkit report {out}"
        )
    group = known[called]
    trials = {trial.run.name: trial for ladder in group.ladders for trial in ladder.trials}
    if called not in trials:
        reason = _why_unranked(next(run for run in group.runs if run.name == called), group)
        raise UsageError(f"{printable(name)} cannot be a baseline: {reason}.", "Name a run that has a rank.")
    others = [other for other in groups if other is not group and other.ladders]
    if len(trials) == 1 and others:
        elsewhere = "; ".join(
            f"{count(sum(len(ladder.trials) for ladder in other.ladders), 'run')} of data {other.fingerprint[:8]}"
            for other in others
        )
        raise UsageError(
            f"{printable(name)} cannot be the baseline of another run: it was scored on data {group.fingerprint[:8]}, "
            f"and the others on other images ({elsewhere}).",
            "Name a run of the same data as those that it is to be compared with.",
        )
    return trials[called]


def _name_under(out: Path, name: str) -> str:
    """What `name` is called among the runs under `out`; the word itself where it means none of them."""
    try:
        folder = RunFolder.open(name, out)
    except UsageError:
        return name
    return folder.path.name if folder.path.parent.resolve() == out.resolve() else name


def _why_unranked(run: RunSummary, group: Group) -> str:
    if run.name in group.problems:
        return group.problems[run.name].rstrip(".")
    if run.smoke:
        return "it is a smoke run, whose score means nothing"
    return f"it has no score yet ({printable(run.status)})"


def _ladders(trials: Sequence[Trial]) -> list[Ladder]:
    together: dict[tuple[Split, str], list[Trial]] = {}
    for trial in trials:
        split: Split = "test" if trial.score.split == "test" else "val"
        together.setdefault((split, trial.scored), []).append(trial)
    ordered = sorted(together.items(), key=lambda item: (item[0][0] != "test", -len(item[1]), item[0][1]))
    return [Ladder(split, tuple(members)) for (split, _), members in ordered]


def _trial(out: Path, run: RunSummary) -> Trial:
    folder = RunFolder(out / run.name)
    with damage_told(folder):
        about, status = folder.read_json("run.json"), folder.read_json("status.json")
        best = weights_label(status["best"]) if status.get("best") else None
        present = [file.parent.name for file in sorted((folder.path / "evaluations").glob("*/metrics.json"))]
        names = scored_splits(present, best)
        metrics = {split: folder.read_json(f"evaluations/{name}/metrics.json") for split, name in names.items()}
        assert run.score is not None
        weights = folder.path / "model" / "model.safetensors"
        return Trial(
            run=run,
            folder=folder,
            evaluation=names[run.score.split],
            val=score_of(metrics["val"], "val") if "val" in metrics else None,
            scored=_data(metrics[run.score.split]),
            watched=_data(metrics.get("val", {})),
            epochs=sum("val/loss" in row for row in folder.history()),
            guessing=guessing(metrics[run.score.split]),
            train_images=int(about["data"]["n"]["train"]),
            size_bytes=weights.stat().st_size if weights.is_file() else None,
        )


def _data(metrics: Mapping[str, Any]) -> str:
    return str(metrics.get("data", ""))
