"""What a wish adds to predictions, from stored validation scores; a network takes part in tests/test_likeness.py."""

import re
from pathlib import Path

import numpy as np
import pytest
from page_runs import make_run

from imgkit.calibration import Calibration
from imgkit.caution import Caution, Validated, Wish, caution_of, refuse_others, validated
from imgkit.conformal import Conformal, fit
from imgkit.errors import DiskError, UsageError
from imgkit.evaluations import read_logits
from imgkit.metrics import wilson
from imgkit.predict import Prediction
from imgkit.probabilities import softmax
from imgkit.run import MODEL_FILES, RunFolder
from imgkit.selective import threshold_for
from imgkit.unlike import Likeness

CLASSES = ("cat", "dog", "eel")
LIKENESS = Likeness(np.eye(2, dtype=np.float32), np.zeros((1, 2), dtype=np.float32), np.arange(9.0))


def answer(*probs: float, unlike: float | None = None) -> Prediction:
    likely = sorted(zip(CLASSES, probs, strict=True), key=lambda pair: -pair[1])
    return Prediction("a.png", *likely[0], tuple(likely[:1]), labels=(likely[0][0],), probs=probs, unlike=unlike)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with 300 validation images, and calibrated."""
    folder = make_run(tmp_path, n=300, test=False)
    for name in MODEL_FILES:
        (folder.path / "model" / name).write_text("{}")
    folder.write_json("model/calibration.json", Calibration(1.5, None, "val", 300).to_dict())
    return folder


def told(folder: RunFolder, wish: Wish) -> tuple[Caution, str]:
    said: list[str] = []
    return caution_of(folder, wish, said.append), " | ".join(said)


def test_what_validation_says_is_computed_from_its_logits_and_the_temperature(folder: RunFolder) -> None:
    found = validated(folder)
    logits = read_logits(folder.path / "evaluations" / "val@40")
    assert logits is not None
    assert np.allclose(found.probs, softmax(logits / 1.5))
    caution, said = told(folder, Wish(reject_at=0.8))
    assert caution.threshold == 0.8
    given = found.prob >= 0.8
    right, n = int((given & found.right).sum()), int(given.sum())
    low, high = wilson(right, n)
    assert said == (
        f"answers from 0.8 on: of 300 validation images {n} are answered, {100 * right / n:.1f} % of them rightly (95 "
        f"% interval {100 * low:.1f} to {100 * high:.1f}); they chose the weights, too"
    )


def test_nothing_answered_has_no_accuracy(folder: RunFolder) -> None:
    assert told(folder, Wish(reject_at=0.999999))[1] == (
        "answers from 0.999999 on: of 300 validation images 0 are answered"
    )


def test_a_target_takes_the_promised_threshold_or_says_the_figure(folder: RunFolder) -> None:
    found = validated(folder)
    caution, said = told(folder, Wish(target_accuracy=0.9))
    assert caution.threshold == threshold_for(found.prob, found.right, 0.9)
    assert said.startswith(
        f"accuracy 90 % is promised, wrongly for 5 of 100 validation sets at most; answers from {caution.threshold:g}"
    )
    with pytest.raises(UsageError) as error:
        told(folder, Wish(target_accuracy=0.995))
    figure = re.fullmatch(
        r"Accuracy 99\.5 % cannot be promised from 300 validation images at any of 16 thresholds: the highest that can "
        r"is (\d\d\.\d) %\.",
        error.value.message,
    )
    assert figure is not None
    highest = float(figure[1]) / 100
    assert threshold_for(found.prob, found.right, highest) is not None
    assert threshold_for(found.prob, found.right, highest + 0.001) is None
    assert f"--target-accuracy {highest:g}" in error.value.hint


def test_sets_are_those_of_the_rule(folder: RunFolder) -> None:
    found = validated(folder)
    caution, said = told(folder, Wish(conformal=0.9))
    assert caution.conformal == fit(found.probs, found.targets, 0.9)
    low, high = caution.conformal.spread
    assert said == (
        f"sets hold the true class of 90 % of images like those of validation ({100 * low:.1f} to {100 * high:.1f} "
        f"for 90 of 100 validation sets of 300 images): classes from {caution.conformal.least:.4g} on"
    )
    with pytest.raises(UsageError, match="need 999 validation images; there are 300"):
        told(folder, Wish(conformal=0.999))


def test_answers_are_left_open_and_counted() -> None:
    caution = Caution(CLASSES, 0.7, Conformal(0.9, 50, 0.3), rejects=True, likeness=LIKENESS, bound=0.9)
    bad, said = Prediction("bad.png", "", 0.0, (), "is cut short"), list[str]()
    given = [
        answer(0.1, 0.8, 0.1, unlike=0.2),
        answer(0.35, 0.4, 0.25, unlike=0.2),
        answer(0.1, 0.8, 0.1, unlike=0.9),
        answer(0.2, 0.25, 0.55, unlike=0.95),
        bad,
    ]
    found = list(caution.watched(given, said.append))
    assert [one.rejected for one in found] == ["", "unsure", "unlike", "unlike", ""]
    assert [one.label for one in found] == ["dog", "", "", "", ""]
    assert [one.labels for one in found] == [("dog",), (), (), (), ()]
    assert [one.in_set for one in found] == [("dog",), ("dog", "cat"), ("dog",), ("eel",), None]
    assert [one.prob for one in found] == [0.8, 0.4, 0.8, 0.55, 0.0]
    assert found[4] == bad
    assert said == [
        "1 of 4 images answered, 3 left open: 1 unsure, 2 unlike",
        "1.25 classes a set on average, 0 empty sets of 4",
    ]


def test_what_is_no_number_is_sure_of_nothing() -> None:
    assert Caution(CLASSES, 0.7, None, rejects=True).apply(answer(float("nan"), 0.1, 0.1)).rejected == "unsure"


def test_without_a_threshold_nothing_is_left_open() -> None:
    said: list[str] = []
    caution = Caution(CLASSES, 0.0, Conformal(0.9, 50, 0.6), rejects=False)
    (found,) = caution.watched([answer(0.35, 0.4, 0.25)], said.append)
    assert (found.label, found.rejected, found.in_set) == ("dog", "", ())
    assert said == ["0.00 classes a set on average, 1 empty set of 1"]


@pytest.mark.parametrize(
    ("wish", "message", "hint"),
    [
        (Wish(reject_at=95), "--reject-at is a share between 0 and 1, not 95.", "Write  --reject-at 0.95"),
        (Wish(conformal=1), "--conformal is a share between 0 and 1, not 1.", "Write  --conformal 0.95"),
        (Wish(unlike=float("nan")), "--unlike is a share between 0 and 1, not nan.", "Write  --unlike 0.95"),
        (
            Wish(reject_at=0.9, target_accuracy=0.9),
            "--reject-at and --target-accuracy both choose the threshold of answers.",
            "Leave one of them out.",
        ),
    ],
)
def test_wishes_that_mean_nothing_are_refused(wish: Wish, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        wish.check()
    assert (error.value.message, error.value.hint) == (message, hint)


def test_columns_are_those_of_what_was_asked() -> None:
    assert Wish().columns == ()
    assert Wish(reject_at=0.9).columns == Wish(target_accuracy=0.9).columns == ("guess", "rejected")
    assert Wish(unlike=0.9).columns == ("guess", "rejected", "unlike")
    assert Wish(conformal=0.9).columns == ("set",)


def test_a_threshold_that_leaves_nothing_open_is_refused(folder: RunFolder) -> None:
    message = "--reject-at 0.33 leaves nothing open: of 3 classes the likeliest always has 0.333."
    with pytest.raises(UsageError, match=re.escape(message)):
        told(folder, Wish(reject_at=0.33))


def test_runs_that_cannot_be_asked_are_told(tmp_path: Path, folder: RunFolder) -> None:
    several = make_run(tmp_path, "many", sets=True)
    with pytest.raises(UsageError, match=r"--unlike is for one label an image; many answers any number of labels\."):
        refuse_others(several, Wish(unlike=0.9), 0)
    with pytest.raises(UsageError, match=r"--conformal holds what the validation of one run says, and several vote"):
        refuse_others(folder, Wish(conformal=0.9), 1)
    refuse_others(folder, Wish(conformal=0.9), 0)


def test_scores_that_are_missing_or_damaged_are_told(tmp_path: Path, folder: RunFolder) -> None:
    bare = make_run(tmp_path, "bare")
    with pytest.raises(UsageError, match=r"bare has no finished model yet\."):
        validated(bare)
    (folder.path / "evaluations" / "val@40" / "scores.safetensors").unlink()
    with pytest.raises(DiskError, match=r"cannot be read: scores\.safetensors does not fit predictions\.csv"):
        validated(folder)
    for file in (folder.path / "evaluations" / "val@40").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match=r"one has no scores of its validation images\.") as error:
        validated(folder)
    assert error.value.hint.endswith("one --split val")


def test_right_answers_are_the_likeliest_class() -> None:
    found = Validated(np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([0, 0]))
    assert found.prob.tolist() == [0.6, 0.7]
    assert found.right.tolist() == [True, False]
