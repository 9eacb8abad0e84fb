"""Samplers: the weights of images, the draws, and a run that draws by a column."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import fingerprint, short_run
from pictures import MakeFolders
from tables import table

from imgkit import checkpoint, resume
from imgkit.data import batches
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Place, train_places
from imgkit.data.index import INDEXED, Index
from imgkit.data.load import load_data
from imgkit.data.own_sources import refuse_columns
from imgkit.data.sampling import class_counts, expected_draws, row_weights
from imgkit.errors import DataError, Interrupted, UsageError
from imgkit.keys import bounds_of, key, picks
from imgkit.recipe.augment import Ramp
from imgkit.recipe.schema import DataSettings

WEIGHTS = st.lists(st.just(0.0) | st.floats(1e-3, 1e3), min_size=1, max_size=40).filter(any)


def places(weights: Sequence[float] | None, *, n: int, batch: int, start: int, stop: int, seed: int = 3) -> list[Place]:
    rows = np.arange(n, dtype=np.int64) + 100
    found = train_places(
        rows,
        seed=seed,
        first_epoch=2,
        batch_size=batch,
        steps_per_epoch=n // batch,
        start=start,
        stop=stop,
        weights=None if weights is None else np.array(weights),
    )
    return [place for step in found for place in step]


# Draws


def naive_picks(weights: Sequence[float], seed: int, epoch: int) -> list[int]:
    """With whole numbers of Python alone: the first sample whose share ends beyond the hash."""
    mask = (1 << 64) - 1
    scaled = [round(weight / max(weights) * 2**52) for weight in weights]
    drawn = []
    for position in range(len(weights)):
        z = (position + key(seed, "pick", epoch) + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        hashed = (z ^ (z >> 31)) >> 1
        ends = [(sum(scaled[: row + 1]) << 63) // sum(scaled) for row in range(len(weights))]
        drawn.append(next(row for row, end in enumerate(ends) if end > hashed))
    return drawn


@settings(max_examples=200, deadline=None)
@given(weights=WEIGHTS, seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 9))
def test_draws_equal_those_of_whole_numbers_alone(weights: list[float], seed: int, epoch: int) -> None:
    assert picks(seed, epoch, bounds_of(weights)).tolist() == naive_picks(weights, seed, epoch)


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS, seed=st.integers(0, 2**63 - 1))
def test_frequencies_are_the_shares(weights: list[float], seed: int) -> None:
    """Over many epochs each row comes in proportion to its weight, within 5.5 standard deviations."""
    n, epochs = len(weights), 400
    bounds = bounds_of(weights)
    drawn = np.concatenate([picks(seed, epoch, bounds) for epoch in range(epochs)])
    share = np.array(weights) / sum(weights)
    found = np.bincount(drawn, minlength=n)
    spread = np.sqrt(n * epochs * share * (1 - share))
    assert (np.abs(found - n * epochs * share) <= 5.5 * spread + 1e-3 * (share > 0) + 1).all()
    assert not found[share == 0].any()


def test_a_million_images_begin_within_a_second() -> None:
    weights = np.random.default_rng(0).random(10**6)
    found = train_places(
        np.arange(10**6),
        seed=0,
        first_epoch=0,
        batch_size=32,
        steps_per_epoch=10**6 // 32,
        start=10**12,
        stop=10**12 + 1,
        weights=weights,
    )
    assert len(next(found)) == 32


# Places


@settings(max_examples=150, deadline=None)
@given(data=st.data(), weights=WEIGHTS)
def test_places_resume_anywhere_and_number_the_uses(data: st.DataObject, weights: list[float]) -> None:
    n = len(weights)
    batch = data.draw(st.integers(1, n))
    stop = data.draw(st.integers(0, 3 * (n // batch)))
    start = data.draw(st.integers(0, stop))
    whole = places(weights, n=n, batch=batch, start=0, stop=stop)
    assert places(weights, n=n, batch=batch, start=start, stop=stop) == whole[start * batch :]
    assert len(whole) == stop * batch
    seen: Counter[tuple[int, int]] = Counter()
    for epoch, row, use in whole:
        assert use == seen[epoch, row]
        seen[epoch, row] += 1
    assert len(set(whole)) == len(whole)


def test_equal_weights_are_not_the_uniform_order() -> None:
    uniform = places(None, n=40, batch=8, start=0, stop=5)
    drawn = places([1.0] * 40, n=40, batch=8, start=0, stop=5)
    assert {use for _, _, use in uniform} == {0}
    assert len({row for _, row, _ in drawn}) < 40


def test_a_second_use_is_augmented_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[int] = []

    class Transform(TrainTransform):
        min_side = 1
        ramp = Ramp()

        def __init__(self) -> None:
            pass

        def __call__(self, image: object, number: int, strength: float = 1.0) -> torch.Tensor:  # type: ignore[override]
            keys.append(number)
            return torch.zeros(3, 1, 1, dtype=torch.uint8)

    monkeypatch.setattr(batches, "load_image", lambda *_, **__: None)
    index = table([[0], [1]], 2)
    pictures = batches._Pictures(index, Transform(), 5, 1)
    for use in range(3):
        pictures[2, 1, use]
    assert keys == [key(5, "aug", 2, 1), key(5, "aug", 2, 1, 1), key(5, "aug", 2, 1, 2)]


# Weights


LABELS = st.lists(st.sets(st.integers(0, 4), max_size=3).map(sorted), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(labels=LABELS, sampler=st.sampled_from(["balanced", "sqrt"]))
def test_weights_equal_the_mean_over_labels(labels: list[list[int]], sampler: str) -> None:
    index = table(labels, 5)
    rows = np.flatnonzero(np.arange(len(labels)) % 3 != 1)  # some rows are not in train
    named = [labels[row] or [5] for row in rows.tolist()]  # 5: without a label
    counts = Counter(code for codes in named for code in codes)
    power = -1.0 if sampler == "balanced" else -0.5
    expected = [np.mean([counts[code] ** power for code in codes]) for codes in named]
    weights = row_weights(index, rows, sampler)
    assert weights == pytest.approx(np.array(expected), rel=1e-12)
    assert class_counts(index, rows).tolist() == [counts[code] for code in range(6)]
    assert weights is not None
    share = weights / weights.sum()
    naive = [7 * sum(share[i] for i, codes in enumerate(named) if code in codes) for code in range(6)]
    assert expected_draws(index, rows, weights, 7) == pytest.approx(np.array(naive))


def test_balanced_classes_are_expected_equally_often() -> None:
    index = table([[0]] * 90 + [[1]] * 9 + [[2]], 3)
    rows = index.rows("train")
    assert row_weights(index, rows, "uniform") is None
    assert expected_draws(index, rows, None, 50) == pytest.approx([45, 4.5, 0.5, 0])
    assert expected_draws(index, rows, row_weights(index, rows, "balanced"), 99) == pytest.approx([33, 33, 33, 0])
    roots = np.sqrt([90, 9, 1])
    drawn = expected_draws(index, rows, row_weights(index, rows, "sqrt"), 100)
    assert drawn == pytest.approx([*(100 * roots / roots.sum()), 0])


def test_weights_of_the_table_are_taken_as_they_are() -> None:
    index = table([[0]] * 4, 1, [0.0, 2.0, 0.5, 0.0])
    assert row_weights(index, np.array([2, 0, 1]), "weighted") == pytest.approx([0.5, 0.0, 2.0])
    with pytest.raises(DataError, match="Every training image has the weight 0") as caught:
        row_weights(index, np.array([0, 3]), "weighted")
    assert "--weight-col" in caught.value.hint


# The index


def test_weights_are_a_column_only_where_there_are_any(tmp_path: Path) -> None:
    plain = table([[0], [1], [1]], 2)
    weighted = replace(plain, weights=np.array([0.1, 1 / 3, 1e300]))
    for index, header in ((plain, INDEXED), (weighted, (*INDEXED, "weight"))):
        index.write_csv(tmp_path / "index.csv")
        assert (tmp_path / "index.csv").read_text().splitlines()[0] == ",".join(header)
        again = Index.read_csv(tmp_path / "index.csv", index.root, index.classes, index.task)
        assert (again.weights is None) == (index.weights is None)
        assert again.weights is None or again.weights.tolist() == weighted.weights.tolist()  # type: ignore[union-attr]
        assert again.fingerprint == index.fingerprint
    assert weighted.fingerprint != plain.fingerprint
    assert weighted.fingerprint != replace(weighted, weights=np.array([0.1, 0.3, 1e300])).fingerprint
    picked = weighted.select([2, 0]).weights
    assert picked is not None
    assert picked.tolist() == [1e300, 0.1]


def write_table(root: Path, weight_of: object = lambda number: number % 3) -> Path:
    """A CSV beside class folders, with weights 0, 1, 2, 0, ..."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    with (root / "cells.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label", "often"])
        assert callable(weight_of)
        rows.writerows([file, file.split("/")[0], weight_of(number)] for number, file in enumerate(files))
    return root / "cells.csv"


def test_a_column_of_the_csv_becomes_the_weights(make_folders: MakeFolders) -> None:
    file = write_table(make_folders({"a": 4, "b": 4}))
    assert load_data(DataSettings(path=str(file))).index.weights is None
    found = load_data(DataSettings(path=str(file), weight_col="often"))
    assert found.index.weights is not None
    assert found.index.weights.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert any("weight 'often'" in note for note in found.notes)


@pytest.mark.parametrize("cell", ["-1", "nan", "inf", "many", ""])
def test_what_is_no_weight_is_named_with_its_row(cell: str, make_folders: MakeFolders) -> None:
    file = write_table(make_folders({"a": 2, "b": 2}), lambda number: cell if number == 2 else 1)
    with pytest.raises(DataError, match=rf"row 4 has the weight {cell!r}") as caught:
        load_data(DataSettings(path=str(file), weight_col="often"))
    assert "0 or more" in caught.value.hint


def test_folders_and_tables_without_the_column_are_refused(make_folders: MakeFolders) -> None:
    root = make_folders({"a": 2, "b": 2})
    with pytest.raises(UsageError, match=r"data\.weight_col is for a CSV, but .* is a folder") as caught:
        load_data(DataSettings(path=str(root), weight_col="often"))
    assert caught.value.hint == (
        "Draw by class instead, without --weight-col:  --sampler balanced   (or sqrt)\n"
        "or list the images in a CSV that has a column of weights."
    )
    with pytest.raises(UsageError, match=r"data\.weight_col is for a CSV, but the source 'mine' reads") as told_too:
        refuse_columns("mine", ["weight_col"])
    assert told_too.value.hint == caught.value.hint
    with pytest.raises(DataError, match="has no column 'oftn'") as told:
        load_data(DataSettings(path=str(write_table(root)), weight_col="oftn"))
    assert "--weight-col often" in told.value.hint


# A run


def test_a_weighted_run_ends_with_the_same_bits_after_a_resume(tmp_path: Path, make_folders: MakeFolders) -> None:
    torch.set_num_threads(1)
    file = write_table(make_folders({"a": 16, "b": 8}, side_px=32))
    sets = ("data.weight_col=often", "train.sampler=weighted", "phases.top.sampler=sqrt")
    whole = short_run(tmp_path / "whole", *sets, data=str(file))

    def save_and_stop(point: str) -> None:
        saved = checkpoint.steps(tmp_path / "cut" / "runs" / "run" / "checkpoints")
        if point == "before prune" and saved[-1] >= 7:
            raise Interrupted("stop", signal=15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", save_and_stop)
        with pytest.raises(Interrupted):
            short_run(tmp_path / "cut", *sets, data=str(file), workers=2)
    again = resume("run", out=tmp_path / "cut" / "runs", workers=0)
    assert fingerprint(again) == fingerprint(whole)
    header = (again.folder.path / "data" / "index.csv").read_text().splitlines()[0]
    assert header == "path,label,split,group,size,sha256,weight"
