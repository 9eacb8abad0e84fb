from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_runs import make_run
from sklearn.metrics import average_precision_score, f1_score

from imgkit.report.collect import Measured
from imgkit.report.headline import Headline, Tried, headline_of, tried_of
from imgkit.report.leaks import Leak
from imgkit.report.stored import Stored, stored_of
from imgkit.run import RunFolder
from imgkit.terminal import percent

ALONE = Tried(1, 1)


def told(folder: RunFolder, tried: Tried = ALONE, leak: Leak | None = None, stop: int | None = None) -> Headline:
    return headline_of(stored_of(folder), folder.read_json("run.json"), "val/f1_macro", stop, tried, leak)


def with_metrics(folder: RunFolder, **more: Any) -> Headline:  # noqa: ANN401
    stored = stored_of(folder)
    assert stored is not None
    other = Stored(stored.name, stored.folder, {**stored.metrics, **more}, stored.classes, stored.task)
    return headline_of(other, folder.read_json("run.json"), "val/f1_macro", None, ALONE, None)


def test_a_good_score_on_test_has_no_warning(tmp_path: Path) -> None:
    found = told(make_run(tmp_path, n=900), stop=3)
    assert (found.evaluation, found.split, found.n, found.warnings) == ("test@40", "test", 900, ())
    assert [figure.title for figure in found.figures] == ["macro F1", "top-1"]
    assert all(figure.interval.startswith("95 % interval ") for figure in found.figures)
    assert found.guessing == "Always answering 'cat' gives top-1 33.3 % · macro F1 16.7 %."
    assert found.notes[0] == (
        "Validation chose the weights by val/f1_macro and would have ended training after 3 epochs without a gain; the "
        "test images chose nothing."
    )
    assert found.notes[1] == (
        "Intervals are 95 %, Wilson's; for macro F1 with the deviation of a bootstrap within each class, 2,000 draws "
        "with seed 3."
    )


def test_without_a_test_split_the_score_flatters(tmp_path: Path) -> None:
    found = told(make_run(tmp_path, n=900, test=False), stop=3)
    (warning,) = found.warnings
    assert found.split == "val"
    assert warning.startswith(
        "There is no test score. These are the validation images, which chose the weights, and when to stop, by "
        "val/f1_macro"
    )
    assert "--set data.test=0.2" in warning


def test_few_images_make_the_interval_wide_or_leave_none(tmp_path: Path) -> None:
    (wide,) = told(make_run(tmp_path, "wide", n=120, sure=2)).warnings
    assert wide.startswith("The interval is wide: by 120 images macro F1 is known to ±")
    assert told(make_run(tmp_path, "none", n=24, sure=9)).warnings == (
        "There are too few images or mistakes for an interval of macro F1: how far it can be trusted is not known.",
    )


@pytest.mark.parametrize(
    ("calibration", "fitted"),
    [
        (None, ""),
        ({"temperature": 1.0, "thresholds": None}, ""),
        ({"temperature": 1.3, "thresholds": None}, ", and on which the temperature was fitted"),
        ({"temperature": 1.0, "thresholds": {"a": 0.5, "b": 0.4}}, ", and on which the thresholds were fitted"),
        (
            {"temperature": 1.3, "thresholds": {"a": 0.4}},
            ", and on which the temperature and the thresholds were fitted",
        ),
        ({"temperature": 1.0, "thresholds": {"a": 0.5}}, ""),
    ],
)
def test_what_was_fitted_on_validation_is_told_and_nothing_else(
    tmp_path: Path, calibration: dict[str, object] | None, fitted: str
) -> None:
    (warning,) = with_metrics(make_run(tmp_path, n=900, test=False), calibration=calibration).warnings
    assert f"which chose the weights by val/f1_macro{fitted}: the score flatters. Hold out" in warning


@pytest.mark.parametrize("k", [3, 7])
def test_what_guessing_gives_is_told_of_each_score(tmp_path: Path, k: int) -> None:
    labels = make_run(tmp_path, "labels", classes=[f"c{n}" for n in range(k)], n=50)
    sets = make_run(tmp_path, "sets", classes=[f"c{n}" for n in range(k)], n=50, sets=True, sure=0.5)
    stored, several = stored_of(labels), stored_of(sets)
    assert stored is not None
    assert several is not None
    targets, hot = stored.answers.targets, several.answers.targets
    largest = np.bincount(targets).argmax()
    f1 = f1_score(targets, np.full(50, largest), average="macro", labels=np.unique(targets), zero_division=0)
    told_of = f"top-1 {percent((targets == largest).mean())} · macro F1 {percent(f1)}."
    assert told(labels).guessing == f"Always answering 'c{largest}' gives {told_of}"
    every, most = np.unique(hot, axis=0, return_counts=True)
    named = " + ".join(f"'c{code}'" for code in np.flatnonzero(every[most.argmax()])) or "no label"
    f1 = f1_score(hot, np.ones_like(hot), average="macro")
    ap = average_precision_score(hot, np.zeros(hot.shape), average="macro")
    assert told(sets).guessing == (
        f"Always answering {named} gives exact sets {percent(most.max() / 50)}, every label macro F1 {percent(f1)}, "
        f"and scores that are all the same mAP {percent(ap)}."
    )


def test_a_long_set_of_labels_is_not_named(tmp_path: Path) -> None:
    chance = {"set": [f"c{n}" for n in range(40)], "subset_accuracy": 0.1, "hamming": 0.2, "map": 0.3, "f1_macro": 0.4}
    found = with_metrics(make_run(tmp_path, sets=True), chance=chance).guessing
    assert found.startswith(
        "Always answering the most frequent set (40 labels) gives exact sets 10.0 %, every label macro F1"
    )


@pytest.mark.parametrize(("sets", "guess"), [(False, "always giving one answer"), (True, "how frequent labels are")])
def test_what_guessing_may_give_is_told(tmp_path: Path, sets: bool, guess: str) -> None:
    warnings = told(make_run(tmp_path, n=60, sure=0.0, sets=sets)).warnings
    found = next(text for text in warnings if "cannot be told from" in text and guess in text)
    assert "Score on more than 60 images." in found


@pytest.mark.parametrize(
    ("missing", "start"),
    [
        (["dog"], "1 class has no image here, so nothing is known of it, and the averages leave it out: dog."),
        (
            ["a"] * 10,
            "10 classes have no image here, so nothing is known of them, and the averages leave them out: a, a",
        ),
    ],
)
def test_classes_without_images_are_named(tmp_path: Path, missing: list[str], start: str) -> None:
    folder = make_run(tmp_path, n=900)
    (warning,) = with_metrics(folder, classes_without_support=missing).warnings
    assert warning.startswith(start)
    assert "and 2 more" in warning or len(missing) == 1


def test_a_leak_is_told_with_the_scores_without_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=900)
    without = {"f1_macro": Measured(0.805, (0.75, 0.85)), "top1": Measured(0.9, (0.8, 0.95))}
    (warning,) = told(folder, leak=Leak(7, 900, {"train": 5, "val": 3}, without)).warnings
    assert warning == (
        "7 of these 900 images also lie elsewhere in the data, byte for byte: 5 among the training images and 3 among "
        "the validation images. Without them: macro F1 80.5 % (75.0 to 85.0) · top-1 90.0 % (80.0 to 95.0)."
    )
    (warning,) = told(folder, leak=Leak(900, 900, {"train": 900}, {})).warnings
    assert warning.endswith("None is left to be scored without them.")


def test_runs_that_saw_the_same_images_are_counted(tmp_path: Path) -> None:
    first = make_run(tmp_path, "first", n=900)
    make_run(tmp_path, "second", n=900, seed=1)
    make_run(tmp_path, "shorter", n=600)
    make_run(tmp_path, "val-alone", n=900, test=False)
    make_run(tmp_path, ".draft", n=900, seed=2)
    (tmp_path / "broken" / "evaluations" / "val@1").mkdir(parents=True)
    for name in ("broken/run.json", "broken/evaluations/val@1/metrics.json"):
        (tmp_path / name).write_text("{")
    assert tried_of(first) == Tried(2, 2)
    notes = told(first, tried=Tried(12, 3)).notes
    assert notes[0].startswith("12 runs of this folder chose their weights on the same validation images.")
    assert notes[1].startswith("3 runs of this folder were scored on these test images.")
    assert not any("runs of this folder" in note for note in told(first).notes)


def test_a_smoke_run_and_one_without_a_score_say_so(tmp_path: Path) -> None:
    smoke = told(make_run(tmp_path, "smoke", smoke=True, n=900))
    assert smoke.warnings == (
        "This was a smoke run: a few steps to see that everything works. Its scores mean nothing.",
    )
    found = headline_of(None, {}, "val/f1_macro", None, ALONE, None)
    assert (found.figures, found.warnings) == ((), ("Nothing has been scored yet.",))
