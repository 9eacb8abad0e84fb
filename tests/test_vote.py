"""Several runs vote: the mean by class name, each with its own preprocessing."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_run import Run
from multilabel_data import write_patches
from oracle import short_run
from torch import nn

import imgkit
from imgkit.calibration import Calibration
from imgkit.errors import UsageError
from imgkit.models.folder import LoadedModel
from imgkit.predict import predict_files
from imgkit.run import RunFolder
from imgkit.vote import Member, vote_on_files

pytest_plugins = ["cli_fixture"]


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


class Fixed(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def saying(
    base: Member, name: str, probs: Mapping[str, float], thresholds: Mapping[str, float] | None = None
) -> Member:
    """A member that gives these probabilities to its classes, in this order, to every image."""
    values = torch.tensor(list(probs.values()), dtype=torch.float64)
    logits = values.log() if thresholds is None else values.logit()
    loaded = replace(
        base.loaded,
        model=Fixed(logits.float().tolist()),
        classes=tuple(probs),
        calibration=Calibration(1.0, thresholds, "val", 99),
    )
    return replace(base, name=name, loaded=loaded)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Member, str]:
    """A member of a real run, and a picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        run = short_run(tmp_path_factory.mktemp("vote"), "phases.all.epochs=1")
        picture = next(Path(run.folder.read_json("run.json")["data"]["root"]).rglob("*.png"))
    return Member.of(run.folder), str(picture)


def test_a_majority_by_hand(trained: tuple[Member, str]) -> None:
    base, picture = trained
    one = saying(base, "one", {"cat": 0.4, "dog": 0.35, "eel": 0.25})
    two = saying(base, "two", {"eel": 0.2, "dog": 0.35, "cat": 0.45})
    three = saying(base, "three", {"dog": 0.97, "eel": 0.02, "cat": 0.01})
    (mean,) = vote_on_files([one, two, three], [picture], top_k=3)
    assert [name for name, _ in mean.top] == ["dog", "cat", "eel"]
    assert [prob for _, prob in mean.top] == pytest.approx([1.67 / 3, 0.86 / 3, 0.47 / 3], abs=1e-6)
    (most,) = vote_on_files([one, two, three], [picture], top_k=3, rule="majority")
    assert (most.label, most.labels, most.prob) == ("cat", ("cat",), 2 / 3)
    assert most.top == (("cat", 2 / 3), ("dog", 1 / 3), ("eel", 0.0))
    assert most.probs == (2 / 3, 1 / 3, 0.0)

    (tied,) = vote_on_files([one, three], [picture], top_k=3, rule="majority")
    assert tied.top == (("dog", 0.5), ("cat", 0.5), ("eel", 0.0)), "a vote each: the mean of dog is greater"
    four = saying(base, "four", {"dog": 0.4, "cat": 0.35, "eel": 0.25})
    ranks = [
        [name for name, _ in next(vote_on_files(pair, [picture], top_k=3, rule="majority")).top]
        for pair in ([one, four], [four, one])
    ]
    assert ranks == [["cat", "dog", "eel"], ["dog", "cat", "eel"]], "equal means: the order of the first run's classes"
    (unread,) = vote_on_files([one, two], [picture + ".gone"], rule="majority")
    assert unread.error == "No such file or directory"


def test_a_majority_of_label_sets_by_hand(trained: tuple[Member, str]) -> None:
    base, picture = trained
    levels = {"cat": 0.5, "dog": 0.5, "eel": 0.2}
    low = {"cat": 0.3, "dog": 0.5, "eel": 0.6}
    one = saying(base, "one", {"cat": 0.45, "dog": 0.9, "eel": 0.3}, levels)  # dog, eel
    two = saying(base, "two", {"eel": 0.5, "dog": 0.6, "cat": 0.35}, low)  # dog, cat
    three = saying(base, "three", {"cat": 0.6, "dog": 0.1, "eel": 0.1}, levels)  # cat
    (most,) = vote_on_files([one, two, three], [picture], top_k=3, rule="majority")
    assert most.top == (("dog", 2 / 3), ("cat", 2 / 3), ("eel", 1 / 3))
    assert most.labels == ("dog", "cat")
    # Of two, cat and eel have one vote each. Mean of cat 0.4, of the thresholds 0.4; of eel 0.4 and 0.4.
    (pair,) = vote_on_files([one, two], [picture], top_k=3, rule="majority")
    assert pair.labels[0] == "dog"
    assert pair.probs == (0.5, 1.0, 0.5)
    strict = saying(base, "strict", {"cat": 0.35, "dog": 0.6, "eel": 0.5}, {**low, "eel": 0.62})
    (pair,) = vote_on_files([one, strict], [picture], rule="majority")
    assert "eel" not in pair.labels, "mean 0.4 < 0.41"
    easy = saying(base, "easy", {"cat": 0.35, "dog": 0.6, "eel": 0.5}, {**low, "eel": 0.58})
    (pair,) = vote_on_files([one, easy], [picture], rule="majority")
    assert "eel" in pair.labels, "mean 0.4 > 0.39"


def test_rules_that_are_none(tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.all.epochs=1")
    with pytest.raises(UsageError, match=r"vote is not used: one run decides alone\."):
        next(run.predict("a.png", vote="majority"))
    with pytest.raises(UsageError, match=r"vote is one of mean, majority, not 'majorty' \(did you mean 'majority'\?\)"):
        next(run.predict("a.png", vote="majorty"))  # type: ignore[arg-type]


def test_runs_vote_on_the_command_line(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [short_run(tmp_path, f"seed={seed}", "phases.all.epochs=1", name=f"run{seed}") for seed in (1, 2, 3)]
    root = Path(runs[0].folder.read_json("run.json")["data"]["root"])
    monkeypatch.chdir(tmp_path)
    args = ("predict", "run1", str(root), "--with", "run2", "--with", "run3", "--top-k", "3", "--format", "jsonl")
    alone = [list(run.predict(root)) for run in runs]
    imgkit("recipes")  # what training said is left behind
    code, out, err = imgkit(*args, "--vote", "majority")
    assert (code, err) == (0, "")
    for line, votes in zip(out.splitlines(), zip(*alone, strict=True), strict=True):
        counts = Counter(vote.label for vote in votes)
        told = {one["label"]: one["prob"] for one in json.loads(line)["top"]}
        assert told == {name: round(counts[name] / 3, 6) for name in told}
        assert json.loads(line)["prob"] == max(told.values())
    assert imgkit(*args)[1] == imgkit(*args, "--vote", "mean")[1] != out
    code, _, err = imgkit(*args, "--vote", "most")
    assert (code, "'most' is not one of 'mean', 'majority'" in " ".join(err.split())) == (2, True)
