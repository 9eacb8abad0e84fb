"""Cross-validation: what the trainings read, what is refused, and, trained, that every image is answered once."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import square
from sklearn.metrics import f1_score
from study_worker import PLUGIN, forking, plugins_forgotten

from imgkit.data.load import load_data
from imgkit.errors import DataError, ImgkitError, UsageError
from imgkit.metrics import wilson
from imgkit.recipe.given import Flag
from imgkit.screen import Screen
from imgkit.studies.folds import TABLE, Folded, Request, check_out, deal, plan, train
from imgkit.studies.pooled import compare_with_others, lines_of, pool, write

N = 30


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_is_left() -> Iterator[None]:
    with plugins_forgotten():
        yield


def table_of(folder: Path, more: Mapping[str, list[str]] | None = None) -> Path:
    """A table of N squares in three classes, with further columns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in range(N):
        square(row + 1, code=row % 3).save(folder / f"{row:02d}.png")
        rows.append([f"{row:02d}.png", "abc"[row % 3], *(cells[row] for cells in (more or {}).values())])
    with (folder / "cells.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", *(more or {})], *rows])
    return folder / "cells.csv"


def request(table: Path, folds: int = 3, *sets: str, flags: Mapping[str, object] | None = None) -> Request:
    values = {"data.path": str(table), **(flags or {})}
    given = {key: Flag(f"--{key}", value) for key, value in values.items()}
    small = ("run.workers=0", "train.precision=float32", "train.batch_size=8", "model.image_size=32")
    return Request("scratch", "my_tiny_net", "scratch", given, [*small, *sets], [str(PLUGIN)], folds, smoke=False)


def columns(folded: Folded, folds: int) -> list[dict[str, str]]:
    own = folded.file.own
    names = ["fold", *(f"split_{fold + 1}" for fold in range(folds))]
    return [{name: own[name][row] for name in names} for row in folded.file.rows.tolist()]


def test_each_image_is_scored_by_one_training_and_never_trained_on_there(tmp_path: Path) -> None:
    folded = deal(request(table_of(tmp_path), flags={"data.val": 0.25}))
    for row in columns(folded, 3):
        tested = [fold + 1 for fold in range(3) if row[f"split_{fold + 1}"] == "test"]
        assert tested == [int(row["fold"])]
    for fold in range(3):
        assert folded.splits(fold) == {"train": 14, "val": 6, "test": 10}
    assert folded.count == 3


def test_groups_stay_whole_in_folds_and_in_validation(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"patient": [f"p{row // 3}" for row in range(N)]})
    folded = deal(request(table, flags={"data.group_col": "patient"}))
    index, rows = folded.file.found.index, columns(folded, 3)
    for name in rows[0]:
        where: dict[int, set[str]] = {}
        for group, row in zip(index.groups.tolist() if index.groups is not None else [], rows, strict=True):
            where.setdefault(group, set()).add(row[name])
        assert all(len(parts) == 1 for parts in where.values())
    words = plan(request(table, flags={"data.group_col": "patient"}), folded, tmp_path / "runs")[1][0].words
    assert 'data.group_col="group"' in " ".join(words)


def test_a_split_file_gives_the_folds_that_it_says(tmp_path: Path) -> None:
    own = [str(1 + row // 3 % 2) for row in range(N)]
    folded = deal(request(table_of(tmp_path, {"fold": own}), 2))
    assert [row["fold"] for row in columns(folded, 2)] == own
    assert "as the column 'fold' says" in folded.notes[0]
    with pytest.raises(UsageError, match=r"has 2 folds in its column 'fold' \(1, 2\), not 3") as error:
        deal(request(table_of(tmp_path, {"fold": own})))
    assert error.value.hint.startswith("Take them:  --folds 2 ")
    with pytest.raises(DataError, match=r"00\.png has no fold and is not of a test split"):
        deal(request(table_of(tmp_path, {"fold": ["", *own[1:]]}), 2))
    groups = {"fold": own, "patient": ["p"] * N}
    with pytest.raises(DataError, match="group 'p' is in several folds of the column 'fold'"):
        deal(request(table_of(tmp_path, groups), 2, flags={"data.group_col": "patient"}))
    with pytest.raises(DataError, match="All images of class 'a' are in fold 1, and a training on the other folds"):
        deal(request(table_of(tmp_path, {"fold": [str(1 + row % 3 // 2) for row in range(N)]}), 2))


def test_a_test_split_of_the_data_is_kept_out_and_validation_is_dealt(tmp_path: Path) -> None:
    splits = ["test" if row < 6 else "val" if row < 12 else "train" for row in range(N)]
    folded = deal(request(table_of(tmp_path, {"split": splits})))
    assert len(columns(folded, 3)) == N - 6
    assert folded.notes[1].startswith("6 images of the test split that the data have are in no fold")
    assert folded.notes[2] == "The validation split that the data have is dealt to the folds like train."
    assert "00.png" not in folded.file.text()


@pytest.mark.parametrize(
    ("folds", "flags", "told"),
    [
        (1, {}, "With --folds 1 nothing is left to train on"),
        (11, {}, "Class 'a' has 10 images, and each of 11 folds needs one"),
        (3, {"data.test": 0.2}, "data.test = 0.2 is not used: with --folds each fold is the test split"),
        (3, {"data.val": 0.0}, "data.val = 0 leaves no validation"),
        (3, {"model.weights": "run:mine@best"}, "--from mine@best is not for --folds"),
    ],
)
def test_what_contradicts_folds_is_told(tmp_path: Path, folds: int, flags: dict[str, object], told: str) -> None:
    with pytest.raises(ImgkitError) as error:
        deal(request(table_of(tmp_path), folds, flags=flags))
    assert told in error.value.message
    assert error.value.hint


def test_the_runs_read_the_table_and_nothing_else_of_the_data(tmp_path: Path) -> None:
    asked = request(table_of(tmp_path), 3, "data.split_seed=4", "data.on_bad=skip", flags={"data.val": 0.3})
    folded = deal(asked)
    _, runs = plan(asked, folded, tmp_path / "runs")
    assert [run.name for run in runs] == ["fold1-seed0", "fold2-seed0", "fold3-seed0"]
    data = runs[1].loaded.recipe.data
    assert (data.path, data.root, data.split_col) == (str(tmp_path / "runs" / TABLE), str(tmp_path), "split_2")
    assert data.model_fields_set == {"path", "root", "split_col"}
    folded.file.write(tmp_path / "runs" / TABLE)
    index = load_data(data).index
    assert {split: len(index.rows(split)) for split in ("train", "val", "test")} == folded.splits(1)


def test_other_folds_are_not_mixed_with_those_that_are_there(tmp_path: Path) -> None:
    folded, out = deal(request(table_of(tmp_path / "data"))), tmp_path / "runs"
    check_out(folded, out)
    folded.file.write(out / TABLE)
    check_out(folded, out)
    with pytest.raises(UsageError, match=r"folds\.csv has other folds: the images, their labels, or how they are"):
        check_out(deal(request(table_of(tmp_path / "data"), flags={"data.split_seed": 1})), out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="is there already, and holds no folds"):
        check_out(folded, tmp_path / "other")


def go(asked: Request, out: Path, jobs: list[Mapping[str, Any]], before: Any = lambda job: None) -> Any:  # noqa: ANN401
    folded = deal(asked)
    check_out(folded, out)
    whole, runs = plan(asked, folded, out)
    digest = folded.file.write(out / TABLE)
    train(whole, runs, Screen(file=io.StringIO(), width=200), forking(jobs, before))
    pooled = pool(out, runs, digest, seed=0, grouped=False)
    compared = compare_with_others(pooled, out)
    write(pooled, compared, out)
    return pooled, compared


@pytest.mark.parametrize("several", [False, True])
def test_from_the_images_to_their_answers(tmp_path: Path, *, several: bool) -> None:
    table = table_of(tmp_path / "data", {"labels": [("x", "x|y", "", "y")[row % 4] for row in range(N)]})
    more: dict[str, object] = {"data.label_col": ["labels"], "data.label_delimiter": "|"} if several else {}
    asked = request(table, 2, "epochs=1", flags=more)
    jobs: list[Mapping[str, Any]] = []

    def killed(job: Mapping[str, Any]) -> None:
        if job["words"][-1] == "fold2-seed0":
            raise DataError("no disk today", "wait")

    out = tmp_path / "runs" / "one"
    with pytest.raises(DataError, match="no disk today"):
        go(asked, out, jobs, killed)
    pooled, compared = go(asked, out, jobs)
    assert [job["words"][-1] for job in jobs] == ["fold1-seed0", "fold2-seed0", "fold2-seed0"]  # finished ones stay
    assert not compared
    with (out / "oof.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter(row["path"] for row in rows) == Counter(f"{row:02d}.png" for row in range(N))
    told = json.loads((out / "folds.json").read_text())
    with (out / TABLE).open(newline="") as stream:
        assert {row["path"]: row["fold"] for row in csv.DictReader(stream)} == {
            row["path"]: row["fold"] for row in rows
        }
    key = "subset_accuracy" if several else "top1"
    hits = [row["exact"] == "1" if several else row["label"] == row["predicted"] for row in rows]
    assert pooled.metrics[key] == sum(hits) / N
    assert pooled.metrics["intervals"][key] == list(wilson(sum(hits), N))
    each = [np.mean([hit for hit, row in zip(hits, rows, strict=True) if row["fold"] == fold]) for fold in "12"]
    assert [fold["scores"][key] for fold in told["folds"]] == pytest.approx(each)
    assert told["mean"][key] == pytest.approx(np.mean(each))
    assert told["sd"][key] == pytest.approx(np.std(each, ddof=1))
    if not several:
        f1 = f1_score([row["label"] for row in rows], [row["predicted"] for row in rows], average="macro")
        assert pooled.metrics["f1_macro"] == pytest.approx(f1)
        again = tmp_path / "runs" / "two"
        shutil.copytree(out, again)
        other = json.loads((again / "folds.json").read_text())
        for number, fold in enumerate(other["folds"]):
            fold["scores"]["top1"] += (0.1, 0.3)[number]
        (again / "folds.json").write_text(json.dumps({**other, "smoke": True}))
        assert not go(asked, out, jobs)[1]  # a trial of a few steps is nothing to compare with
        (again / "folds.json").write_text(json.dumps(other))
        _, compared = go(asked, out, jobs)
        (one,) = [one for one in compared if one.quantity.key == "top1"]
        assert (one.name, one.difference.values) == ("two", pytest.approx([-0.1, -0.3]))
        assert one.difference.ratio == pytest.approx(
            np.mean([fold.n["test"] / fold.n["train"] for fold in pooled.folds])
        )
        assert any("| two | accuracy | -20.0 |" in line for line in lines_of(pooled, compared, "one"))
