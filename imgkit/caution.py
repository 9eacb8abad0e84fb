"""When `predict` leaves an image open or gives a set of classes, by what validation says; of single-label runs.

A threshold is one of the calibrated probability of an answer, given by the user or chosen for a wanted accuracy; an
image may be too unlike the training images as well; a set holds the true class as often as was promised.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imgkit.calibration import Calibration
from imgkit.conformal import Conformal, fit
from imgkit.data.rows import count
from imgkit.errors import DiskError, UsageError
from imgkit.evaluations import read_logits
from imgkit.metrics import Ints
from imgkit.predict import Prediction
from imgkit.probabilities import Floats
from imgkit.report.stored import Answers, stored_of
from imgkit.run import DAMAGED, RunFolder
from imgkit.screen import Screen
from imgkit.selective import DOUBT, GRID, Bools, answered, threshold_for
from imgkit.terminal import percent
from imgkit.unlike import bound

if TYPE_CHECKING:
    from imgkit.unlike import Likeness

Tell = Callable[[str], object]
_STEPS = 1000  # of the accuracies that are tried, where the one wanted cannot be promised


class Wish(NamedTuple):
    """What is asked of a prediction besides its answer; None: nothing.

    Args:
        reject_at: answers of a smaller calibrated probability are left open.
        target_accuracy: that of the answers given: the threshold that can be promised to reach it.
        unlike: images are left open whose distance to the training images is above that of this share of held-out ones.
        conformal: share of images whose set of classes holds the true one.
    """

    reject_at: float | None = None
    target_accuracy: float | None = None
    unlike: float | None = None
    conformal: float | None = None

    @property
    def flags(self) -> dict[str, float | None]:
        """Each value by the option's name."""
        return {f"--{name.replace('_', '-')}": value for name, value in self._asdict().items()}

    @property
    def given(self) -> dict[str, float]:
        """Those that were asked for."""
        return {flag: value for flag, value in self.flags.items() if value is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that hold it."""
        rejects = any(value is not None for value in self[:3])
        asked = {"guess": rejects, "rejected": rejects, "unlike": self.unlike, "set": self.conformal}
        return tuple(name for name, value in asked.items() if value not in (None, False))

    def check(self) -> None:
        """See that each value is a share, and that they do not contradict each other.

        Raises:
            UsageError: if one is not between 0 and 1, or two choose one threshold.
        """
        for flag, value in self.given.items():
            if not 0 < value < 1:
                usual = value / 100 if 1 < value < 100 else 0.95
                raise UsageError(f"{flag} is a share between 0 and 1, not {value:g}.", f"Write  {flag} {usual:g}")
        if self.reject_at is not None and self.target_accuracy is not None:
            raise UsageError(
                "--reject-at and --target-accuracy both choose the threshold of answers.", "Leave one of them out."
            )


@dataclass(frozen=True)
class Validated:
    """What a run answered to its validation images.

    Args:
        probs: calibrated, (N, K).
        targets: true classes, (N,).
    """

    probs: Floats
    targets: Ints

    @property
    def prob(self) -> Floats:
        """Of the answers, (N,)."""
        found: Floats = self.probs.max(axis=1)
        return found

    @property
    def right(self) -> Bools:
        """Whether each answer is right, (N,)."""
        found: Bools = self.probs.argmax(axis=1) == self.targets
        return found


@dataclass(frozen=True)
class Caution:
    """What is done to predictions.

    Args:
        classes: of the model, in the order of its probabilities.
        threshold: the least probability of an answer; 0 leaves none open.
        conformal: the rule of sets; None: none.
        rejects: whether images can be left open.
        likeness: how unlike an image is; None: not asked for.
        bound: the share of its held-out images from which an image is left open as unlike.
    """

    classes: Sequence[str]
    threshold: float
    conformal: Conformal | None
    rejects: bool
    likeness: "Likeness | None" = None
    bound: float = math.inf

    def apply(self, given: Prediction) -> Prediction:
        """The prediction with its set, and without an answer where that is left open; one with an error as it is."""
        if given.error:
            return given
        if self.conformal is not None:
            among = self.conformal.sets(np.array(given.probs))
            likely = sorted(np.flatnonzero(among).tolist(), key=lambda code: -given.probs[code])
            given = replace(given, in_set=tuple(self.classes[code] for code in likely))
        if given.unlike is not None and given.unlike >= self.bound:
            return replace(given, label="", labels=(), rejected="unlike")
        if not given.prob >= self.threshold:  # NaN is sure of nothing
            return replace(given, label="", labels=(), rejected="unsure")
        return given

    def watched(self, answers: Iterable[Prediction], tell: Tell) -> Iterator[Prediction]:
        """`apply` to each, and at the end the counts in words."""
        total = open_ = unlike = members = empty = 0
        for given in map(self.apply, answers):
            if not given.error:
                total += 1
                open_ += bool(given.rejected)
                unlike += given.rejected == "unlike"
                members += len(given.in_set or ())
                empty += given.in_set == ()
            yield given
        if self.rejects:
            why = f": {open_ - unlike:,} unsure, {unlike:,} unlike" if self.likeness is not None else ""
            tell(f"{total - open_:,} of {count(total, 'image')} answered, {open_:,} left open{why}")
        if self.conformal is not None and total:
            tell(f"{members / total:.2f} classes a set on average, {count(empty, 'empty set')} of {total:,}")


def ask_cautiously(
    folders: Sequence[RunFolder],
    inputs: str | Path | Iterable[str | Path],
    wish: Wish,
    screen: Screen | None,
    **asked: Any,  # noqa: ANN401
) -> Iterator[Prediction]:
    """`vote.ask` with what a wish adds; the thresholds hold for the network as it was scored, so it stays in float32.

    Args:
        folders: runs; with a wish, one.
        inputs: files, folders, tables.
        wish: what is asked besides.
        screen: where to say what validation says; None: nowhere.
        **asked: as `vote.ask` takes it.

    Raises:
        UsageError: if the wish cannot be granted.
    """
    from imgkit.vote import ask

    screen = screen or Screen(quiet=True)
    if not wish.given:
        yield from ask(folders, inputs, told=screen.note, **asked)
        return
    wish.check()
    refuse_others(folders[0], wish, len(folders) - 1)
    if asked["precision"] == "auto":
        asked["precision"] = "float32"
    if wish.unlike is not None and asked["precision"] != "float32":
        raise UsageError(
            f"--unlike compares features in float32, and --precision {asked['precision']} has others.",
            "Leave one of them out.",
        )
    caution = caution_of(folders[0], wish, screen.note)
    if wish.unlike is not None:
        from imgkit.likeness import likeness_of

        likeness = likeness_of(folders[0], device=asked["device"], screen=screen)
        caution = replace(caution, likeness=likeness, bound=bound(len(likeness.held), wish.unlike))
    answers = ask(folders, inputs, told=screen.note, likeness=caution.likeness, **asked)
    yield from caution.watched(answers, screen.note)


def caution_of(folder: RunFolder, wish: Wish, tell: Tell) -> Caution:
    """What a wish means for a run, but for `unlike`, and what validation says of it.

    Args:
        folder: of the run.
        wish: checked.
        tell: told what validation says.

    Raises:
        UsageError: if the run answers sets of labels, its validation was not stored, or it cannot keep a promise.
        DiskError: if files of the run are damaged.
    """
    classes = tuple(map(str, folder.read_json("run.json")["classes"]))
    threshold, rule = wish.reject_at or 0.0, None
    if wish.reject_at is not None and threshold <= 1 / len(classes):
        raise UsageError(
            f"--reject-at {threshold:g} leaves nothing open: of {len(classes):,} classes the likeliest always has "
            f"{1 / len(classes):.3g}.",
            "Give a greater one, such as  --reject-at 0.95",
        )
    if wish.reject_at is None and wish.target_accuracy is None and wish.conformal is None:
        return Caution(classes, threshold, rule, rejects=True)
    found = validated(folder)
    if wish.reject_at is not None:
        tell(_answered_words(found, threshold))
    if wish.target_accuracy is not None:
        threshold = _promised(found, wish.target_accuracy)
        tell(
            f"accuracy {100 * wish.target_accuracy:g} % is promised, wrongly for {100 * DOUBT:g} of 100 validation "
            f"sets at most; {_answered_words(found, threshold)}"
        )
    if wish.conformal is not None:
        rule = fit(found.probs, found.targets, wish.conformal)
        low, high = rule.spread
        tell(
            f"sets hold the true class of {100 * wish.conformal:g} % of images like those of validation "
            f"({100 * low:.1f} to {100 * high:.1f} for 90 of 100 validation sets of {count(rule.n, 'image')}): classes "
            f"from {rule.least:.4g} on"
        )
    return Caution(classes, threshold, rule, rejects="rejected" in wish.columns)


def refuse_others(folder: RunFolder, wish: Wish, voters: int) -> None:
    """See that a run can be asked for it.

    Raises:
        UsageError: if it answers sets of labels, or does not answer alone.
    """
    flag = next(iter(wish.given))
    if folder.read_json("run.json")["task"] == "multilabel":
        raise UsageError(
            f"{flag} is for one label an image; {folder.name} answers any number of labels.",
            "Its thresholds decide label by label: model/calibration.json",
        )
    if voters:
        raise UsageError(
            f"{flag} holds what the validation of one run says, and several vote here.", "Ask one run, without --with."
        )


def validated(folder: RunFolder) -> Validated:
    """What the best weights of a run answered to its validation images.

    Raises:
        UsageError: if that is not stored.
        DiskError: if it is damaged.
    """
    if not folder.has_model:
        raise folder.without_model()
    stored = stored_of(folder, "val")
    if stored is None:
        raise UsageError(
            f"{folder.name} has no scores of its validation images.",
            f"Score them:  imgkit evaluate {folder.address} --split val",
        )
    try:
        answers, logits = stored.answers, read_logits(stored.folder)
        calibration = Calibration.from_dict(folder.read_json("model/calibration.json"))
        if not isinstance(answers, Answers) or logits is None or len(logits) != len(answers.targets):
            raise ValueError("scores.safetensors does not fit predictions.csv")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DiskError(f"The validation scores {stored.folder} cannot be read: {error}.", DAMAGED) from error
    return Validated(calibration.probabilities(logits), answers.targets)


def _promised(found: Validated, accuracy: float) -> float:
    """The threshold of `threshold_for`.

    Raises:
        UsageError: if none can be promised; the message has the highest accuracy that can.
    """
    threshold = threshold_for(found.prob, found.right, accuracy)
    if threshold is not None:
        return threshold
    low, high = 0, round(accuracy * _STEPS)  # what can be promised falls with the accuracy
    while high - low > 1:
        middle = (low + high) // 2
        known = threshold_for(found.prob, found.right, middle / _STEPS) is not None
        low, high = (middle, high) if known else (low, middle)
    n = len(found.targets)
    raise UsageError(
        f"Accuracy {100 * accuracy:g} % cannot be promised from {count(n, 'validation image')} at any of {len(GRID)} "
        f"thresholds: the highest that can is {percent(low / _STEPS)}.",
        f"Ask for it:  --target-accuracy {low / _STEPS:g}   or train with more validation images."
        if low
        else "Train with more validation images.",
    )


def _answered_words(found: Validated, threshold: float) -> str:
    """`answers from 0.95 on: of 450 validation images 391 are answered, 97.9 % of them rightly (…)`."""
    got = answered(found.prob >= threshold, found.right)
    words = f"answers from {threshold:g} on: of {count(got.n, 'validation image')} {got.answered:,} are answered"
    if got.interval is None:
        return words
    low, high = got.interval
    return (
        f"{words}, {percent(got.accuracy)} of them rightly (95 % interval {100 * low:.1f} to {100 * high:.1f}); "
        "they chose the weights, too"
    )
