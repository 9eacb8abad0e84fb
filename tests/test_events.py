import sys
from pathlib import Path

import pytest
from oracle import short_run

from imgkit import resume
from imgkit.errors import Interrupted, UsageError
from imgkit.experiment import Experiment


def test_a_missing_package_is_told_before_anything_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="tensorboard is not installed") as caught:
        short_run(tmp_path, "run.tensorboard=true")
    assert "pip install 'imgkit-timm[tensorboard]'" in caught.value.hint
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore")
def test_events_are_the_rows_and_a_resume_doubles_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def stop(self: Experiment, phase: object) -> None:
        if self.progress.step == 11:  # three steps after the checkpoint that is gone on from
            raise Interrupted("stop")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_poll", stop)
        with pytest.raises(Interrupted):
            short_run(tmp_path, "run.tensorboard=true")
    run = resume("run", out=tmp_path / "runs")
    found = reading.EventAccumulator(str(run.folder.path / "tensorboard"))
    found.Reload()
    for name in ("train_loss", "val/top1"):
        points = [(event.step, pytest.approx(event.value, rel=1e-5)) for event in found.Scalars(f"epoch/{name}")]
        assert [(row["step"], row[name]) for row in run.folder.history()] == points
    rows = run.folder.rows("steps.jsonl")
    assert [event.step for event in found.Scalars("step/loss")] == [row["step"] for row in rows]
