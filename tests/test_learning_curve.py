"""The score against the number of images: nested shares, scikit-learn's numbers, files, and what is refused."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from multilabel_data import write_patches
from sklearn.metrics import accuracy_score, f1_score
from test_trunk import Told

from imgkit.api_features import learning_curve
from imgkit.curve_fit import Extrapolation, PowerLaw
from imgkit.errors import UsageError
from imgkit.learning_curve import FRACTIONS, Curve, Probes, nested, sentence, trace, write

SETS = ["model.weights=none", "model.image_size=32", "run.workers=0", "data.val=0.3"]


@pytest.mark.parametrize("grouped", [False, True])
def test_shares_are_nested_and_hold_every_class(grouped: bool) -> None:
    labels = np.array([0] * 50 + [1] * 20 + [2])
    groups = np.arange(len(labels)) // 5 if grouped else None
    shares = [nested(labels, groups, fraction, seed=3) for fraction in FRACTIONS]
    for small, large in pairwise(shares):
        assert set(small.tolist()) < set(large.tolist())
    assert [np.bincount(labels[rows]).tolist() for rows in shares[:2]] == [[5, 2, 1], [10, 4, 1]]
    assert shares[-1].tolist() == list(range(71))
    assert nested(labels, groups, 0.4, seed=4).tolist() != shares[2].tolist()
    if groups is not None:
        own = shares[2][labels[shares[2]] == 0]
        assert len(np.unique(groups[own])) == 4, "20 images of four whole groups"


@contextmanager
def silent(label: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def clouds(n: int, seed: int, apart: float = 1.3) -> Probes:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    values = rng.normal(size=(n, 12)) + apart * np.eye(12)[labels]
    return Probes(torch.from_numpy(values.astype(np.float32)), labels)


@pytest.fixture(scope="module")
def curve() -> Curve:
    return trace(clouds(150, 0), clouds(400, 1), classes=3, seed=0, seeds=3, watched=silent)


def test_scores_are_scikit_learns(curve: Curve) -> None:
    f1, right = curve.scores("f1_macro"), curve.scores("top1")
    for place in range(len(FRACTIONS)):
        for seed in range(3):
            told = curve.answers[place, seed]
            assert f1[place, seed] == pytest.approx(f1_score(curve.truth, told, average="macro"))
            assert right[place, seed] == pytest.approx(accuracy_score(curve.truth, told))


def test_draws_of_held_out_images_are_scored_like_repeated_ones(curve: Curve) -> None:
    weights = np.random.default_rng(0).integers(0, 3, (4, 400)).astype(np.float64)
    drawn = curve._drawn("f1_macro", weights)
    for draw, counts in enumerate(weights.astype(int)):
        truth, told = np.repeat(curve.truth, counts), np.repeat(curve.answers[1, 2], counts)
        assert drawn[draw, 1, 2] == pytest.approx(f1_score(truth, told, average="macro"))


def test_more_images_are_better_and_all_are_one_subset(curve: Curve) -> None:
    means = curve.scores("f1_macro").mean(axis=1)
    assert means[-1] > means[0] + 0.03
    assert np.ptp(curve.scores("f1_macro")[-1]) == 0
    assert curve.sizes.tolist() == [15, 30, 60, 90, 120, 150]


def test_features_that_tell_nothing_have_no_extrapolation() -> None:
    train, held_out = clouds(120, 0, apart=0.0), clouds(200, 1, apart=0.0)
    flat = trace(train, held_out, classes=3, seed=0, seeds=3, watched=silent)
    found = flat.extrapolated["f1_macro"]
    assert isinstance(found, str) or found.refused or found.interval[0] < 0 < found.interval[1]


def test_files_tell_what_the_curve_does(tmp_path: Path) -> None:
    curve = learning_curve(
        "test_resnet", data="synthetic:3x40", out=tmp_path / "out", sets=SETS, seeds=2, screen=Told()
    )
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("learning-curve.json", "learning-curve.png", "learning-curve.svg", "points.csv")
    ]
    with (tmp_path / "out" / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert [int(row["images"]) for row in rows[::2]] == curve.sizes.tolist()
    assert [float(row["f1_macro"]) for row in rows] == pytest.approx(curve.scores("f1_macro").reshape(-1), abs=1e-6)
    content = json.loads((tmp_path / "out" / "learning-curve.json").read_text())
    assert content["images"] == curve.sizes.tolist()
    assert content["held_out"] == 36
    assert content["scores"]["top1"]["mean"] == pytest.approx(curve.scores("top1").mean(axis=1), abs=1e-6)


def test_few_images_whose_shares_are_the_same_ones(tmp_path: Path) -> None:
    few = trace(clouds(12, 0), clouds(400, 1), classes=3, seed=0, seeds=3, watched=silent)
    assert few.sizes.tolist() == [3, 3, 6, 9, 12, 12]
    found = few.extrapolated["f1_macro"]
    assert isinstance(found, Extrapolation)
    assert np.isfinite([found.gain, *found.interval, found.law.a, found.law.b, found.law.c]).all()
    write(few, tmp_path)
    json.loads((tmp_path / "learning-curve.json").read_text(), parse_constant=pytest.fail)


def test_sentences() -> None:
    found = Extrapolation(PowerLaw(0.9, 0.05, 0.5, 100), 2.0, 0.0123, (0.0041, 0.0212))
    assert sentence(found) == ("Twice the images would bring about +0.012 macro F1 (95 % interval +0.004 to +0.021).")
    refused = Extrapolation(PowerLaw(0.9, 0.05, 0.5, 100), 2.0, 0.0, (0.0, 0.0), "more images have not raised it")
    assert sentence(refused, "top-1") == "No extrapolation of top-1: more images have not raised it."
    assert sentence("it takes 4 sizes") == "No extrapolation of macro F1: it takes 4 sizes."


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one draw does not tell"):
        learning_curve("test_resnet", data="synthetic:3x40", out=tmp_path / "out", sets=SETS, seeds=1)
    data = write_patches(tmp_path / "patches", n=20)
    with pytest.raises(UsageError, match="one label an image"):
        learning_curve(
            "test_resnet", data=data, out=tmp_path / "out", sets=[*SETS[:3], "data.label_delimiter=;"], screen=Told()
        )
    assert not (tmp_path / "out").exists()
