import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import short_run
from safetensors.torch import load_file

from imgkit import Run, average, checkpoint
from imgkit.average import mean_state
from imgkit.data.index import Index
from imgkit.progress import best_first
from imgkit.report.collect import summarise_run
from imgkit.scoring import Scores

MEAN = ("save.average_best=3", "monitor=val/loss", "data.test=0.2", "train.ema=0", "phases.all.lr=1e-4")


def test_the_mean_is_numpys_and_whole_numbers_are_those_of_the_best() -> None:
    torch.manual_seed(0)
    states = [{"w": torch.randn(3, 2), "half": torch.randn(4).bfloat16(), "n": torch.tensor(n)} for n in (7, 3, 5)]
    mean = mean_state(states)
    for name in ("w", "half"):
        naive = np.mean([state[name].double().numpy() for state in states], axis=0)
        assert mean[name].dtype == states[0][name].dtype
        assert np.allclose(mean[name].double().numpy(), naive, rtol=1e-2 if name == "half" else 1e-6)
    assert mean["n"] == 7


def test_the_best_come_first_and_of_equal_ones_the_earlier() -> None:
    rows = [
        {"step": step, "val/loss": loss, "val/top1": top1} for step, loss, top1 in [(1, 3, 4), (2, 1, 5), (3, 1, 5)]
    ]
    assert best_first(rows, "val/loss", "single") == [2, 3, 1]
    assert best_first(rows, "val/top1", "single") == [2, 3, 1]


def test_the_k_best_are_kept_beside_the_newest(tmp_path: Path) -> None:
    run = short_run(tmp_path, "save.keep_best=3", "save.keep=1", "monitor=val/loss")
    kept = checkpoint.steps(run.folder.path / "checkpoints")
    history = run.folder.history()
    assert set(kept) == {history[-1]["step"], *best_first(history, "val/loss", "single")[:3]}


def scored_by(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    """Let the mean have this loss on validation."""
    real = average.store

    def stored(folder: Path, scores: Scores, index: Index, **options: object) -> dict[str, Any]:
        metrics = {**real(folder, scores, index, **options), "loss": loss}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return metrics

    monkeypatch.setattr(average, "store", stored)


def tensors_of(run: Run) -> Mapping[str, torch.Tensor]:
    return load_file(run.folder.path / "model" / "model.safetensors")


@pytest.mark.parametrize("better", [True, False])
def test_the_mean_becomes_the_model_only_where_it_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    scored_by(monkeypatch, 0.0 if better else 9.0)
    run = short_run(tmp_path, *MEAN)
    steps = best_first(run.folder.history(), "val/loss", "single")[:3]
    states = [checkpoint.read(run.folder.path / "checkpoints", step).scored for step in steps]
    expected = mean_state(states) if better else states[0]
    assert all(torch.equal(expected[name], value) for name, value in tensors_of(run).items())
    best = run.folder.read_json("status.json")["best"]
    label = f"{steps[0]}-mean3" if better else f"{steps[0]}"
    assert (best["step"], best.get("mean_of")) == (steps[0], steps if better else None)
    assert [name for name in run.metrics if name.startswith("test@")] == [f"test@{label}"]
    found = summarise_run(run.folder).score
    assert found is not None
    assert found.split == "test"
    assert run.evaluate(split="test")["folder"].endswith(f"test@{label}")
    log = (run.folder.path / "log.txt").read_text()
    assert "save.keep_best is 1, but the 3 best checkpoints are kept" in log
    assert f"the {'mean' if better else 'best one'} is kept" in " ".join(log.split())


def test_too_few_evaluations_for_the_mean_are_told(tmp_path: Path) -> None:
    run = short_run(tmp_path, "save.average_best=9", "phases.top.steps=1", "phases.all.epochs=1")
    assert "save.average_best is 9, but there are only 3" in " ".join((run.folder.path / "log.txt").read_text().split())
