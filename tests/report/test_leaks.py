from pathlib import Path

import numpy as np
import pytest
from page_runs import make_run
from sklearn.metrics import f1_score

from imgkit.metrics import wilson
from imgkit.report.leaks import copies, leak_of, leaked_rows, read_indexed
from imgkit.report.stored import Answers, AnswersOfSets, stored_of


def test_scores_without_the_leaked_images_are_those_of_the_others(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=90, sure=1.5, copied=range(0, 90, 4))
    stored, index = stored_of(folder), read_indexed(folder.path / "data" / "index.csv")
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, Answers)
    leak = leak_of(index, answers, "test", stored.classes, seed=3)
    assert leak is not None
    assert (leak.n, leak.of, leak.among) == (23, 90, {"train": 23})
    kept = np.arange(90) % 4 != 0
    true, answered = answers.targets[kept], answers.predicted[kept]
    f1, top1 = leak.without["f1_macro"], leak.without["top1"]
    assert f1.value == pytest.approx(f1_score(true, answered, average="macro"))
    right = int((true == answered).sum())
    assert (top1.value, top1.interval) == (right / 67, wilson(right, 67))
    assert f1.interval is not None
    assert f1.interval[0] < f1.value < f1.interval[1]
    assert f1.value != stored.metrics["f1_macro"]


@pytest.mark.parametrize("k", [4, 101])
def test_the_same_for_sets_of_labels(tmp_path: Path, k: int) -> None:
    folder = make_run(tmp_path, classes=[f"l{number}" for number in range(k)], n=60, sets=True, copied=range(10))
    stored, index = stored_of(folder), read_indexed(folder.path / "data" / "index.csv")
    assert stored is not None
    answers = stored.answers
    assert isinstance(answers, AnswersOfSets)
    leak = leak_of(index, answers, "test", stored.classes, seed=3)
    assert leak is not None
    assert set(leak.without) == {"f1_macro", "subset_accuracy"} | ({"map"} if k < 100 else set())
    true, answered = answers.targets[10:], answers.predicted[10:]
    seen = true.any(axis=0)
    wanted = f1_score(true[:, seen], answered[:, seen], average="macro", zero_division=0)
    assert leak.without["f1_macro"].value == pytest.approx(wanted)
    assert leak.without["subset_accuracy"].value == (true == answered).all(axis=1).mean()


def test_an_image_leaks_from_earlier_splits_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=30)
    index = read_indexed(folder.path / "data" / "index.csv")
    stored = stored_of(folder)
    assert stored is not None
    assert leak_of(index, stored.answers, "test", stored.classes, 0) is None
    hashes = list(index.hashes)
    place = {path: row for row, path in enumerate(index.paths)}
    hashes[place["val/5.png"]] = hashes[place["test/00003.png"]]
    hashes[place["train/6.png"]] = hashes[place["val/5.png"]]
    hashes[place["test/00008.png"]] = hashes[place["test/00009.png"]]
    index = type(index)(index.paths, index.labels, index.splits, hashes)
    test = leaked_rows(index, [f"test/{row:05d}.png" for row in range(30)], "test")
    assert {split: np.flatnonzero(rows).tolist() for split, rows in test.items()} == {"train": [3], "val": [3]}
    val = leaked_rows(index, [f"val/{row}.png" for row in range(30)], "val")
    assert {split: np.flatnonzero(rows).tolist() for split, rows in val.items()} == {"train": [5]}
    assert leaked_rows(index, ["x"], "train") == {}
    leak = leak_of(index, stored.answers, "test", stored.classes, 0)
    assert leak is not None
    assert (leak.n, leak.among) == (1, {"train": 1, "val": 1})


def test_where_all_images_leak_nothing_is_left_to_score(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=30, copied=range(30))
    stored, index = stored_of(folder), read_indexed(folder.path / "data" / "index.csv")
    assert stored is not None
    leak = leak_of(index, stored.answers, "test", stored.classes, 0)
    assert leak is not None
    assert (leak.n, leak.without) == (30, {})


def test_copies_are_counted_and_contradicting_labels_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=30, copied=[0, 1])
    index = read_indexed(folder.path / "data" / "index.csv")
    assert (copies(index).files, copies(index).contents, copies(index).contradicting) == (4, 2, 0)
    labels = list(index.labels)
    labels[-30] = "eel"  # of the first test image, a cat, which is train's first one
    assert copies(type(index)(index.paths, labels, index.splits, index.hashes)).contradicting == 1


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match="columns"):
        read_indexed(tmp_path / "index.csv")
