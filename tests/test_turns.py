"""Whoever reads pictures beside a network on a CPU takes turns with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import short_run

from imgkit.data import batches, workers
from imgkit.data.workers import Reader

pytestmark = pytest.mark.skipif(workers.start_method() != "fork", reason="elsewhere they read ahead")


def test_all_readers_beside_a_network_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of training, validation, features, scores, and of what an unlike picture is compared with."""
    found: list[bool] = []

    class Noted(Reader[Any, Any, Any]):
        def __init__(self, *given: Any) -> None:  # noqa: ANN401
            found.append(given[5] is not None)
            super().__init__(*given)

    monkeypatch.setattr(batches, "Reader", Noted)
    monkeypatch.setattr(workers, "Reader", Noted)
    monkeypatch.setattr("imgkit.machine.cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def readers() -> int:
        count = len(found)
        assert all(found)
        found.clear()
        return count

    run = short_run(tmp_path, workers=2, data="synthetic:3x64")
    assert readers() >= 2
    run.evaluate(split="train")
    assert readers() == 1
    picture = next(Path(run.folder.read_json("run.json")["data"]["root"]).rglob("*.png"))
    list(run.predict([picture], unlike=0.05))
    assert readers() == 2
    short_run(tmp_path, "phases.all.train=head", "phases.all.views=1", workers=2, name="head")
    assert readers() >= 2
