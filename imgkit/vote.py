"""Several runs asked about the same files: the mean of their probabilities, or what most of them answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imgkit.data.rows import listed
from imgkit.errors import UsageError, suggestion
from imgkit.evaluate import load_run_model
from imgkit.predict import Prediction, Trained, answer_of, expand_inputs, predict_files
from imgkit.recipe.load import load_recipe
from imgkit.run import RunFolder

if TYPE_CHECKING:
    import torch

    from imgkit.inference import Precision
    from imgkit.models.folder import LoadedModel
    from imgkit.unlike import Likeness

Rule = Literal["mean", "majority"]
RULES: tuple[Rule, ...] = ("mean", "majority")


@dataclass(frozen=True)
class Member:
    """A run with a vote.

    Args:
        name: of the run.
        loaded: its best weights, with its own preprocessing.
        max_pixels: the largest image it opens.
    """

    name: str
    loaded: "LoadedModel"
    max_pixels: int

    @classmethod
    def of(cls, folder: RunFolder, max_pixels: int | None = None) -> "Member":
        """The member that a run's folder holds; without `max_pixels` with that of its training.

        Raises:
            UsageError: if the run has no model yet.
        """
        settings = load_recipe(folder.path / "recipe.toml").recipe.data
        return cls(folder.name, load_run_model(folder), max_pixels or settings.max_pixels)


def ask(
    folders: Sequence[RunFolder],
    inputs: str | Path | Iterable[str | Path],
    *,
    top_k: int,
    image_col: str | None,
    root: str | Path | None,
    max_pixels: int | None,
    device: str,
    rule: Rule,
    precision: "Precision" = "auto",
    told: Callable[[str], object] | None = None,
    likeness: "Likeness | None" = None,
) -> Iterator[Prediction]:
    """Label what `inputs` mean by the runs of `folders`, which read tables as the first of them: see `Run.predict`.

    A `likeness` is that of a run which decides alone.
    """
    places = [folder.path.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise UsageError("A run that votes twice would count twice.", "Name each run once.")
    if rule not in RULES:
        raise UsageError(
            f"vote is one of {', '.join(RULES)}, not {rule!r}{suggestion(str(rule), RULES)}.",
            f"Give  vote={RULES[0]!r}",
        )
    if rule != "mean" and len(folders) == 1:
        raise UsageError("vote is not used: one run decides alone.", "Name the others:  together_with=[run, …]")
    from imgkit.device import choose_device
    from imgkit.predict_ranks import share_files
    from imgkit.world import current

    first = folders[0]
    own = load_recipe(first.path / "recipe.toml").recipe.data
    about = first.read_json("run.json")["data"]
    path = Path(about["path"]) if "path" in about else None
    trained = Trained(path, Path(about["root"]), own.image_col, places[0])
    inputs = [inputs] if isinstance(inputs, str | Path) else inputs
    wanted, named = tee(expand_inputs(inputs, image_col=image_col, root=root, trained=trained))
    members = [Member.of(folder, max_pixels) for folder in folders]
    files = (one.file for one in wanted)
    how: dict[str, Any] = {"top_k": top_k, "precision": precision, "told": told}
    world = current()
    if world is not None and len(members) == 1 and likeness is None:
        answers = share_files(
            world, first, members[0].loaded, files, device=device, max_pixels=members[0].max_pixels, **how
        )
    else:
        answers = vote_on_files(members, files, device=choose_device(device), rule=rule, likeness=likeness, **how)
    yield from (replace(answer, path=one.given, file=one.file) for answer, one in zip(answers, named, strict=True))


def vote_on_files(
    members: Sequence[Member],
    paths: Iterable[str],
    *,
    top_k: int = 1,
    device: "torch.device | str" = "cpu",
    rule: Rule = "mean",
    precision: "Precision" = "auto",
    told: Callable[[str], object] | None = None,
    likeness: "Likeness | None" = None,
) -> Iterator[Prediction]:
    """Label files as they come, by the votes of all members; one member decides alone.

    Args:
        members: at least one. Their classes are the same by name, in any order.
        paths: files; read a batch ahead, and no more of them is held in memory.
        top_k: classes to tell for each file; more than there are means all.
        device: where the networks run, one after the other on each batch.
        rule: "mean" of the members' probabilities, or "majority": each member votes for its answer, and the shares of
            the votes stand where probabilities do.
        precision: of all networks; "auto": each finds its own, see `inference.Network`.
        told: told once a member which format was found.
        likeness: see `predict_files`; of one member that decides alone.

    Yields:
        A prediction for each path, in order; `error` where a member cannot read the file. By the mean, a label of a
        multi-label task is answered where its mean probability is at least the mean of the members' thresholds. By
        majority, one is answered that more than half of the members answer. Equal votes, and one half of them, are
        decided by the mean; equal means keep the order of the first member's classes.

    Raises:
        UsageError: if the classes or the tasks differ.
        DeviceError: if memory runs out.
    """
    format_of: dict[str, Any] = {"device": device, "precision": precision, "told": told}
    if len(members) == 1:
        (one,) = members
        format_of["likeness"] = likeness
        yield from predict_files(one.loaded, paths, top_k=top_k, max_pixels=one.max_pixels, **format_of)
        return
    for other in members[1:]:
        _refuse_others(members[0], other)
    thresholds = _mean_thresholds(members)
    answers = [
        predict_files(one.loaded, own, top_k=1, max_pixels=one.max_pixels, **format_of)
        for one, own in zip(members, tee(paths, len(members)), strict=True)
    ]
    for votes in zip(*answers, strict=True):
        unread = next((vote for vote in votes if vote.error), None)
        if unread is not None:
            yield unread
            continue
        mean = _mean(votes, members, thresholds, top_k)
        yield mean if rule == "mean" else _majority(votes, mean, members[0].loaded.classes, thresholds, top_k)


def _mean(
    votes: Sequence[Prediction], members: Sequence[Member], thresholds: Mapping[str, float] | None, top_k: int
) -> Prediction:
    """One prediction of several about one file."""
    classes = members[0].loaded.classes
    told = [dict(zip(one.loaded.classes, vote.probs, strict=True)) for one, vote in zip(members, votes, strict=True)]
    means = np.array([sum(probs[name] for probs in told) / len(told) for name in classes])
    return answer_of(votes[0].path, means, classes, thresholds, top_k)


def _majority(
    votes: Sequence[Prediction],
    mean: Prediction,
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None,
    top_k: int,
) -> Prediction:
    """What most of several say about one file; `mean` is that of `_mean`, for equal votes."""
    counts = np.array([sum(name in vote.labels for vote in votes) for name in classes])
    order = np.lexsort((-np.array(mean.probs), -counts)).tolist()  # stable: by votes, then by the mean
    shares = (counts / len(votes)).tolist()
    ranked = [(classes[code], shares[code]) for code in order]
    labels = tuple(name for name, _ in ranked[:1])
    if thresholds is not None:
        labels = tuple(name for name, share in ranked if share > 1 / 2 or (share == 1 / 2 and name in mean.labels))
    return Prediction(mean.path, *ranked[0], tuple(ranked[:top_k]), labels=labels, probs=tuple(shares))


def _mean_thresholds(members: Sequence[Member]) -> dict[str, float] | None:
    """The mean of the members' thresholds of each label; None in a single-label task.

    Raises:
        UsageError: if some members answer one class and others any number of labels.
    """
    found = [(one, one.loaded.calibration.thresholds) for one in members]
    single = [one.name for one, thresholds in found if thresholds is None]
    several = [(one.name, thresholds) for one, thresholds in found if thresholds is not None]
    if not several:
        return None
    if single:
        raise UsageError(
            f"{single[0]} answers one class for each image, {several[0][0]} any number of labels.",
            "Let runs of one task vote.",
        )
    return {name: sum(own[name] for _, own in several) / len(several) for name in members[0].loaded.classes}


def _refuse_others(first: Member, other: Member) -> None:
    mine, theirs = set(first.loaded.classes), set(other.loaded.classes)
    if mine == theirs:
        return
    differences = [
        f"only {name} knows {listed(sorted(extra))}"
        for name, extra in ((first.name, mine - theirs), (other.name, theirs - mine))
        if extra
    ]
    raise UsageError(
        f"{first.name} and {other.name} do not know the same classes: {'; '.join(differences)}.",
        "Runs vote together where their classes have the same names.",
    )
