"""The head by mini-batches, where there are too many features to solve it."""

import errno
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import fingerprint, write_recipe

import imgkit
from imgkit import head_sgd, solve
from imgkit.errors import DiskError, WeightsError
from imgkit.features import Features
from imgkit.head_sgd import Stored, train_head, write_features
from imgkit.scaled import Floats
from imgkit.screen import Screen
from imgkit.solve import USUAL, Solution, log_loss, solve_head


def blobs(n: int, width: int, classes: int, seed: int) -> Features:
    """Clouds of features with odd means and scales, and a column that does not vary."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, width))
    targets = rng.integers(0, classes, n)
    x = (centres[targets] + 2 * rng.normal(size=(n, width))) * np.geomspace(0.01, 100, width) + 50
    x[:, 0] = 3.0
    return Features(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(targets), torch.arange(n))


def chunks(whole: Features, size: int = 999) -> Iterator[Features]:
    for start in range(0, len(whole.ids), size):
        yield Features(*(part[start : start + size] for part in whole))


def train(whole: Features, classes: int, file: Path, weights: Floats | None = None) -> tuple[Solution, Stored]:
    stored = write_features(chunks(whole), file, whole.values.nbytes)
    return train_head(stored, classes=classes, weights=weights, seed=0, progress=lambda done, total: None), stored


@pytest.mark.parametrize(("classes", "weighted"), [(2, False), (5, False), (5, True)])
def test_near_the_exact_solve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, weighted: bool) -> None:
    monkeypatch.setattr(solve, "STRENGTHS", (USUAL,))
    whole, new = blobs(20_000, 16, classes, seed=1), blobs(5_000, 16, classes, seed=2)
    by_class = np.array([0.1, 0.5, 1.0, 1.4, 2.0]) if weighted else np.ones(classes)
    weights, counted = (by_class[part.targets.numpy()] for part in (whole, new))
    exact = solve_head(whole.values, whole.targets, classes=classes, weights=weights, seed=0)
    found, _ = train(whole, classes, tmp_path / "features", weights if weighted else None)
    losses, rights = [], []
    for solution in (exact, found):
        logits = (new.values.double() @ solution.weight.double().T + solution.bias.double()).numpy()
        losses.append(log_loss(logits, new.targets.numpy(), counted))
        rights.append(float((logits.argmax(1) == new.targets.numpy()).mean()))
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert rights[1] == pytest.approx(rights[0], abs=0.01)
    assert losses[0] < 0.7 * np.log(classes), "there is something to learn"
    assert found.cv_loss[found.c] == pytest.approx(losses[0], rel=0.2)


def test_sets_are_near_the_exact_solve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "STRENGTHS", (USUAL,))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 16)) * np.geomspace(0.01, 100, 16) + 50
    scores = (x - 50) / np.geomspace(0.01, 100, 16) @ rng.normal(size=(16, 3)) + rng.normal(size=(20_000, 3))
    hot = torch.from_numpy((scores > np.array([0.0, 2.0, 6.0])).astype(np.float32))
    whole = Features(torch.from_numpy(x.astype(np.float32)), hot, torch.arange(20_000))
    exact = solve_head(whole.values, whole.targets, classes=3, seed=0)
    found, _ = train(whole, 3, tmp_path / "features")
    losses = []
    for solution in (exact, found):
        logits = (whole.values.double() @ solution.weight.double().T + solution.bias.double()).numpy()
        losses.append(log_loss(logits, hot.numpy().astype(np.int64)))
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert found.cv_loss[found.c] == pytest.approx(losses[0], rel=0.2)


def test_twice_the_same_bits(tmp_path: Path) -> None:
    whole = blobs(600, 8, 3, seed=1)
    one, two = (train(whole, 3, tmp_path / name)[0] for name in ("one", "two"))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


def test_mean_and_spread_over_chunks(tmp_path: Path) -> None:
    whole = blobs(2_500, 8, 3, seed=1)
    stored = write_features(chunks(whole), tmp_path / "features", whole.values.nbytes)
    x = whole.values.double().numpy()
    assert np.allclose(stored.mean, x.mean(0))
    assert stored.scale[0] == 0
    std = x.std(0)[1:]
    assert np.allclose(stored.scale[1:], 1 / np.sqrt(std * np.sqrt(np.mean(std**2))))
    assert np.array_equal(np.fromfile(stored.file, np.float32).reshape(-1, 8), whole.values.numpy())


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    whole = blobs(2_000, 4, 2, seed=1)
    whole.values[1_003, 1] = torch.inf
    whole.values[1_500, 0] = torch.nan
    with pytest.raises(WeightsError, match="features of 2 of 1,998 images are not finite"):
        write_features(chunks(whole), tmp_path / "features", whole.values.nbytes)


def test_no_room_for_the_file(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="Cannot write the features into") as caught:
        write_features(chunks(blobs(10, 4, 2, seed=1)), tmp_path / "no folder" / "features", 160)
    assert "phases.head.solver=sgd" in caught.value.hint
    with pytest.raises(DiskError, match="1,024 GiB needed") as caught:
        write_features(iter(()), tmp_path / "features", 2**40)
    assert not (tmp_path / "features").exists()


def test_a_full_disk_that_closing_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(DiskError, match=r"Cannot write the features into .*: No space left"):
        write_features(chunks(blobs(10, 4, 2, seed=1)), tmp_path / "features", 160)


def run(folder: Path, screen: Screen) -> imgkit.Run:
    return imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(folder),
        data="synthetic:3x16",
        out=folder / "runs",
        name="run",
        sets=["run.workers=0", "phases.top.steps=1", "phases.all.epochs=1"],
        screen=screen,
    )


def test_a_run_whose_features_are_too_many_says_so_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solve, "MAX_BYTES", 1000)
    monkeypatch.setattr(head_sgd, "BATCH", 8)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text = io.StringIO()
        done = run(tmp_path / name, Screen(file=text, width=400))
        assert text.getvalue().count("the head is trained by mini-batch SGD") == 1
        assert "head trained on 39 pictures" in text.getvalue()
        assert [row["solved"] for row in done.folder.history()] == [True, False, False]
        assert not [entry for entry in done.folder.path.iterdir() if entry.name.startswith(".features")]
        found.append(fingerprint(done))
    assert found[0] == found[1]
