"""T-R: a rank that dies ends all of them soon, and the same command goes on to the same bits."""

import os
import signal
import time
from pathlib import Path

import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no fork has to)
import torch
from oracle import fingerprint
from torchrun import command, ends, start, train, words

from imgkit import open_run
from imgkit.errors import BadImage
from imgkit.trainer import Trainer

WITHIN_S = 30.0
EXACT = ("--exact-world", "4")
WAYS = ("kill", "exception", "memory")
POINTS = ("1", "2", "4", "5", "6", "8", "11", "13", "score", "open")
"""The update within which it dies; while it scores; as it opens the run."""
CASES = [f"{way} at {point}" for way in WAYS for point in POINTS]
SLOW = ("kill at 5", "exception at score", "memory at 11")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run ends with that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder, 1, *EXACT) == [0]
    return fingerprint(open_run("run", folder / "runs"))


def die(way: str) -> None:
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise torch.OutOfMemoryError("CUDA out of memory") if way == "memory" else ValueError("a bug")


def dies(victim: int, way: str, point: str) -> object:
    """Has one rank die."""

    def before(rank: int) -> None:
        if rank != victim:
            return
        if point in ("score", "open"):
            from imgkit import following, setup

            place, name = (following if rank else setup, "score") if point == "score" else (following, "reopen")
            if point == "open" and rank == 0:
                from imgkit import experiment

                place, name = experiment, "lead"
            setattr(place, name, lambda *_, **__: die(way))
            return
        update = Trainer._update

        def updating(self: Trainer, phase: object, batch: object, step: int, *rest: object) -> object:
            if step == int(point):
                die(way)
            return update(self, phase, batch, step, *rest)  # type: ignore[arg-type]

        Trainer._update = updating  # type: ignore[method-assign,assignment]

    return before


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else pytest.mark.campaign) for case in CASES]
)
def test_a_rank_dies_and_the_run_goes_on_on_as_many_as_there_are(tmp_path: Path, whole: str, case: str) -> None:
    way, _, point = case.partition(" at ")
    number = CASES.index(case)
    size, victim, later = (2, 4)[number % 2], number % 2 if point != "score" else 1, (1, 2, 4)[number % 3]
    began = time.monotonic()
    codes = train(tmp_path, size, *EXACT, before=dies(victim, way, point), within_s=WITHIN_S)  # type: ignore[arg-type]
    took = time.monotonic() - began
    assert all(codes), "each rank says that it failed"
    assert took < WITHIN_S
    assert train(tmp_path, later, *EXACT) == [0] * later, (tmp_path / "said-0").read_text()
    assert fingerprint(open_run("run", tmp_path / "runs")) == whole


def test_what_stops_another_rank_is_told_by_rank_0(tmp_path: Path) -> None:
    """With its exit code, and in status.json."""

    def before(rank: int) -> None:
        if rank == 1:

            def broken(self: Trainer, *_: object) -> object:
                raise BadImage("cells/7.png", "broken data stream")

            Trainer._update = broken  # type: ignore[method-assign,assignment]

    assert train(tmp_path, 2, before=before) == [3, 3]
    said = (tmp_path / "said-0").read_text()
    assert "error: Rank 1 of 2: cells/7.png: broken data stream" in said
    assert (tmp_path / "said-1").read_text() == ""
    assert "broken data stream" in (tmp_path / "runs" / "run" / "status.json").read_text()


@pytest.mark.slow
def test_a_rank_that_stands_still_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 waits for it in an exchange that nothing breaks."""
    monkeypatch.setattr("imgkit.world.BEAT_S", 0.3)

    def before(rank: int) -> None:
        update = Trainer._update

        def stopping(self: Trainer, phase: object, batch: object, step: int, *rest: object) -> object:
            if (rank, step) == (1, 3):
                os.kill(os.getpid(), signal.SIGSTOP)
            return update(self, phase, batch, step, *rest)  # type: ignore[arg-type]

        Trainer._update = stopping  # type: ignore[method-assign,assignment]

    first, second = start(tmp_path, 2, command(words(tmp_path), before))
    try:
        assert ends([first], WITHIN_S) == [5]
    finally:
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
    assert "error: rank 1 gave no sign of life for 3 s" in (tmp_path / "said-0").read_text()
