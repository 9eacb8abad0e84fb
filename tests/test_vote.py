"""Several runs vote: the mean by class name, each with its own preprocessing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multilabel_data import write_patches
from oracle import short_run
from torch import nn

import imgkit
from imgkit.errors import UsageError
from imgkit.models.folder import LoadedModel
from imgkit.predict import predict_files
from imgkit.run import RunFolder
from imgkit.vote import Member, vote_on_files


class Reordered(nn.Module):
    """The same network with its classes in another order."""

    def __init__(self, model: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.model, self.order = model, order

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits[:, self.order]


def reordered(loaded: LoadedModel) -> LoadedModel:
    order = list(range(len(loaded.classes)))[::-1]
    return replace(
        loaded, model=Reordered(loaded.model, order).eval(), classes=tuple(loaded.classes[code] for code in order)
    )


def test_votes_are_means_by_class_name(tmp_path: Path) -> None:
    first, second = (short_run(tmp_path, f"seed={seed}", name=f"run{seed}") for seed in (1, 2))
    index = [str(path) for path in sorted(Path(first.folder.read_json("run.json")["data"]["root"]).rglob("*.png"))][:40]
    paths = [*index, str(tmp_path / "gone.png")]
    one, two = (Member.of(RunFolder(run.folder.path)) for run in (first, second))
    size = replace(two.loaded.preprocessing, size=(48, 48))
    two = replace(two, loaded=replace(reordered(two.loaded), preprocessing=size))
    tables = []
    for member in (one, two):
        tables.append([dict(answer.top) for answer in predict_files(member.loaded, paths, top_k=9)])
    answers = list(vote_on_files([one, two], iter(paths), top_k=2))
    assert [answer.path for answer in answers] == paths
    assert answers[-1].error == "No such file or directory"
    for answer, mine, theirs in zip(answers[:-1], *tables, strict=False):
        means = {name: (mine[name] + theirs[name]) / 2 for name in mine}
        best = sorted(means, key=lambda name: -means[name])
        assert [label for label, _ in answer.top] == best[:2]
        assert answer.prob == pytest.approx(means[best[0]], abs=1e-12)
    alone = list(vote_on_files([one], paths))
    assert alone == list(predict_files(one.loaded, paths))
    copied = imgkit.Run(RunFolder(Path(shutil.copytree(first.folder.path, tmp_path / "copy"))))
    assert list(first.predict(paths, together_with=[copied])) == alone
    with pytest.raises(UsageError, match="votes twice"):
        next(first.predict(paths, together_with=[second, first]))

    other = replace(two, name="other", loaded=replace(two.loaded, classes=("a", "b", "c")))
    with pytest.raises(UsageError, match=r"do not know the same classes: only run1 knows .*; only other knows a, b, c"):
        list(vote_on_files([one, other], paths))


def test_label_sets_are_voted_at_the_mean_of_the_thresholds(tmp_path: Path) -> None:
    data = str(write_patches(tmp_path / "patches", n=40))
    sets = ("data.label_delimiter=;", "phases.all.epochs=1")
    runs = [short_run(tmp_path, *sets, f"seed={seed}", name=f"run{seed}", data=data) for seed in (1, 2)]
    paths = [str(path) for path in sorted((tmp_path / "patches").rglob("*.png"))][:9]
    members = [Member.of(RunFolder(run.folder.path)) for run in runs]
    classes = members[0].loaded.classes
    levels = (dict.fromkeys(classes, 0.2), dict.fromkeys(classes, 0.4))
    members = [
        replace(one, loaded=replace(one.loaded, calibration=replace(one.loaded.calibration, thresholds=level)))
        for one, level in zip(members, levels, strict=True)
    ]
    alone = [list(predict_files(one.loaded, paths)) for one in members]
    for answer, mine, theirs in zip(vote_on_files(members, paths, top_k=2), *alone, strict=True):
        means = [(one + other) / 2 for one, other in zip(mine.probs, theirs.probs, strict=True)]
        assert answer.probs == pytest.approx(means, abs=1e-12)
        assert set(answer.labels) == {name for name, mean in zip(classes, means, strict=True) if mean >= 0.3}
        assert len(answer.top) == 2

    calibration = replace(members[1].loaded.calibration, thresholds=None)
    single = replace(members[1], loaded=replace(members[1].loaded, calibration=calibration))
    with pytest.raises(UsageError, match="run2 answers one class for each image, run1 any number of labels"):
        next(vote_on_files([members[0], single], paths))
