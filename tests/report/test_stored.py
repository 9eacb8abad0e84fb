from pathlib import Path

import numpy as np
import pytest
from page_runs import make_run, scores_of

from imgkit.errors import DiskError
from imgkit.report.stored import Answers, AnswersOfSets, stored_of

ODD = ("=cmd|'/c calc'!A1", "'quoted", "a|b\\c", 'line\nbreak "x"', "\u202eevil\x1b", "b\udcff")


def test_answers_of_labels_read_back(tmp_path: Path) -> None:
    paths = [f"{ODD[row % len(ODD)]}{row}.png" for row in range(60)]
    stored = stored_of(make_run(tmp_path, classes=ODD, n=60, paths=paths))
    assert stored is not None
    assert stored.name == "test@40"
    assert stored.classes[-1] == "b\\udcff"
    answers = stored.answers
    assert isinstance(answers, Answers)
    targets, logits = scores_of(60, 6)
    assert answers.targets.tolist() == targets.tolist()
    assert answers.predicted.tolist() == logits.argmax(axis=1).tolist()
    assert answers.paths == [path.replace("\udcff", "\\udcff") for path in paths]
    assert answers.right.mean() == pytest.approx(stored.metrics["top1"])
    assert np.bincount(answers.targets).tolist() == answers.confusion(6).sum(axis=1).tolist()
    loss = -np.log(answers.label_prob).mean()
    assert loss == pytest.approx(stored.metrics["loss"])


@pytest.mark.parametrize("k", [3, 101])
def test_answers_of_sets_read_back(tmp_path: Path, k: int) -> None:
    classes = [*ODD, *(f"label {number}" for number in range(k))][-k:] if k > 3 else list(ODD[:3])
    stored = stored_of(make_run(tmp_path, classes=classes, n=40, sets=True))
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, AnswersOfSets)
    targets, _ = scores_of(40, k, sets=True)
    assert np.array_equal(answers.targets, targets > 0)
    assert answers.right.mean() == pytest.approx(stored.metrics["subset_accuracy"])
    assert (answers.probs is None) == (k > 100)
    if answers.probs is not None:
        least = np.array([stored.metrics["thresholds"][name] for name in stored.classes])
        assert np.array_equal(answers.predicted, answers.probs >= least)


def test_the_best_weights_on_test_are_shown_else_validation(tmp_path: Path) -> None:
    both, alone = make_run(tmp_path, "both"), make_run(tmp_path, "alone", test=False)
    for folder in (both, alone):
        (folder.path / "evaluations" / "val@40").rename(folder.path / "evaluations" / "val@50")
        for name in ("val@40", "other-1234-all@40", "train@40"):
            (folder.path / "evaluations" / name).mkdir()
            metrics = (folder.path / "evaluations" / "val@50" / "metrics.json").read_text()
            (folder.path / "evaluations" / name / "metrics.json").write_text(metrics)
    names = [stored_of(folder, split) for folder in (both, alone) for split in (None, "val", "test")]
    assert [one and one.name for one in names] == ["test@40", "val@40", "test@40", "val@40", "val@40", None]
    status = alone.read_json("status.json")
    alone.write_json("status.json", {**status, "best": None})
    found = stored_of(alone)
    assert found is not None
    assert found.name == "val@50", "the newest one where the best weights are not known yet"


def test_a_damaged_evaluation_is_an_error_by_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "evaluations" / "test@40" / "metrics.json").write_text("{")
    with pytest.raises(DiskError, match=r"test@40/metrics\.json cannot be read"):
        stored_of(folder)
    (folder.path / "evaluations" / "test@40" / "metrics.json").unlink()
    stored = stored_of(folder)
    assert stored is not None
    assert stored.name == "val@40"
    file = stored.folder / "predictions.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ValueError, match="has 1 row, and 120 images were scored"):
        _ = stored.answers
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns"):
        _ = stored.answers
