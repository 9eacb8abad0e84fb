"""Validation on features that are kept: what the whole network answers, without its time."""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import short_run
from test_trunk import HEAD, SOLVED, train
from torch import nn
from torch.utils.data import DataLoader

from imgkit import scoring, setup
from imgkit.data import torch_loader, workers
from imgkit.data.batches import EvalReader
from imgkit.data.index import Ints
from imgkit.evaluations import read_logits
from imgkit.models.create import create_model
from imgkit.recipe.schema import ModelSettings
from imgkit.validation import same_trunk

THEN_ALL = (
    HEAD
    + """
[[phases]]
name = "all"
train = "all"
epochs = 1
lr = 1e-2

[[phases]]
name = "again"
train = "head"
views = 1
epochs = 1
lr = 1e-2
"""
)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each pass through a whole network scored."""
    scored: list[int] = []

    def counted(model: nn.Module, reader: EvalReader, rows: Ints, **more: Any) -> scoring.Scores:  # noqa: ANN401
        scored.append(len(rows))
        return scoring.score(model, reader, rows, **more)

    monkeypatch.setattr(setup, "score", counted)
    return scored


RECIPES = {
    "updates": (HEAD, ()),
    "averages of none": (HEAD, ("train.ema=0",)),
    "a picture is new in each epoch": (HEAD, ("phases.head.views=0",)),
    "mixed pictures": (HEAD, ("augment.mixup=0.4",)),
    "dropout": (HEAD, ("model.drop_rate=0.2",)),
    "solved": (SOLVED, ()),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_answers_on_features_are_those_of_the_whole_network(tmp_path: Path, kind: str, passes: list[int]) -> None:
    recipe, sets = RECIPES[kind]
    fast, _ = train(tmp_path, *sets, name="fast", recipe=recipe)
    assert passes == []
    slow, _ = train(tmp_path, *sets, "run.feature_cache=false", name="slow", recipe=recipe)
    places = sorted(place.name for place in (slow.folder.path / "evaluations").iterdir())
    assert len(places) == len(passes) > 0
    for place in places:
        found, expected = (read_logits(run.folder.path / "evaluations" / place) for run in (fast, slow))
        assert found is not None
        assert expected is not None
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5), place


def test_where_the_trunk_has_trained_the_network_scores(tmp_path: Path, passes: list[int]) -> None:
    """In the last phase the averages have another trunk than the network that trains."""
    train(tmp_path, recipe=THEN_ALL)
    assert passes == [9, 9]


def test_without_averages_the_trunk_of_a_later_phase_is_fixed_too(tmp_path: Path, passes: list[int]) -> None:
    train(tmp_path, "train.ema=0", recipe=THEN_ALL)
    assert passes == [9]


def test_a_later_run_scores_validation_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, name="first")

    def never(*given: object, **more: object) -> None:
        raise AssertionError("features were computed")

    monkeypatch.setattr("imgkit.trunk.extract", never)
    run, _ = train(tmp_path, name="again")
    assert run.folder.history()[-1]["val/top1"] >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="a fork takes a hundredth of a second there")
def test_pictures_of_a_phase_are_read_by_processes_that_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def started(loader: DataLoader[Any]) -> Iterator[Any]:
        begun.append(type(loader.dataset.transform).__name__)  # type: ignore[attr-defined]
        return torch_loader.started(loader)

    monkeypatch.setattr(workers, "started", started)
    one = short_run(tmp_path / "one", "phases.all.epochs=1", "run.feature_cache=false", workers=1)
    first, begun[:] = list(begun), []
    three = short_run(tmp_path / "three", "phases.all.epochs=3", "run.feature_cache=false", workers=1)
    assert begun == first
    assert "Preprocessing" in begun
    assert len(three.folder.history()) == len(one.folder.history()) + 2


def test_what_counts_as_the_same_trunk() -> None:
    model = create_model(ModelSettings(name="test_resnet", weights="none"), 3, 0, None).model
    head, trunk = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        head.fc.weight.add_(1)
        trunk.conv1[0].weight[0, 0, 0, 0].add_(1e-6)
    assert same_trunk(model, model)
    assert same_trunk(model, head)
    assert not same_trunk(model, trunk)
