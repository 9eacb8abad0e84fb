"""As many loader processes as a network needs, where a measurement says so."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from oracle import write_recipe
from test_decode_once import decided

from imgkit import finetune, pace
from imgkit.pace import Times, with_loaders
from imgkit.prepare import reopen
from imgkit.screen import Screen
from imgkit.setup import Setup

Chosen = Callable[..., tuple[Setup, str]]


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """The setup with its loaders, and what was said, for times in ms."""

    def choose(
        cores: int, picture: float, update: float, *sets: str, device: str = "meta", least: int = 1, uses: int = 1
    ) -> tuple[Setup, str]:
        setup, _ = decided(tmp_path, monkeypatch, "data.prepared=none", *sets, workers=())
        monkeypatch.setattr("imgkit.machine.cores", lambda: cores)
        monkeypatch.setattr(pace, "LEAST_USES", uses)
        monkeypatch.setattr(pace, "picture_times", lambda *_: Times(picture / 1000, 9.0, 9.0))
        monkeypatch.setattr(pace, "update_seconds", lambda _: update / 1000)
        text = io.StringIO()
        setup = replace(setup, workers=least, device=torch.device(device))
        found = with_loaders(setup, Screen(file=text, width=400))
        return found, text.getvalue() if found is not setup else "as it was"

    return choose


@pytest.mark.parametrize(
    ("cores", "device", "picture", "update", "workers"),
    [
        (16, "meta", 20.0, 5.0, 5),  # four keep up, one to spare
        (16, "meta", 100.0, 1.0, 16),
        (16, "meta", 0.1, 5.0, 1),
        (16, "cpu", 900.0, 1.0, 1),  # on a CPU the rule stays
    ],
)
def test_as_many_as_keep_up(
    chosen: Chosen, cores: int, device: str, picture: float, update: float, workers: int
) -> None:
    setup, said = chosen(cores, picture, update, device=device)
    assert setup.workers == workers
    assert (f"{workers} loader processes: a picture takes {picture:.1f} ms to load" in said) == (workers > 1)


def test_where_nothing_is_measured(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    for sets, how in (
        (("run.workers=3",), {}),
        (("run.deterministic=true",), {}),
        ((), {"uses": 10**6}),
        ((), {"least": 16}),
    ):
        setup, said = chosen(16, 900.0, 1.0, *sets, **how)
        assert (setup.workers, said) == (how.get("least", 1), "as it was")


def test_a_setup_is_measured_in_earnest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = pace.picture_times
    setup, _ = decided(tmp_path, monkeypatch, "data.prepared=none", workers=())
    monkeypatch.setattr(pace, "picture_times", times)
    monkeypatch.setattr("imgkit.machine.cores", lambda: 8)
    monkeypatch.setattr(pace, "LEAST_USES", 1)
    assert with_loaders(setup, Screen(quiet=True)) is setup, "on a CPU"
    update = pace.update_seconds(setup)
    assert update is not None
    monkeypatch.setattr(pace, "update_seconds", lambda _: update)  # the network is not on the device that is pretended
    found = with_loaders(replace(setup, workers=1, device=torch.device("meta")), Screen(quiet=True))
    about = found.about["loaders"]
    assert 0 < about["picture_s"] < 1
    assert 0 < about["update_s"] == update < 1
    assert found.workers == about["workers"] == min(8, max(1, math.ceil(1.25 * about["picture_s"] / update)))


@pytest.mark.parametrize(
    ("ranks", "micro", "images"), [(1, None, 64), (1, 16, 16), (1, 128, 64), (8, None, 8), (8, 16, 8), (8, 4, 4)]
)
def test_images_of_a_pass_are_of_one_process(
    monkeypatch: pytest.MonkeyPatch, ranks: int, micro: int | None, images: int
) -> None:
    monkeypatch.setattr(pace, "ranks", lambda: ranks)
    phase: Any = SimpleNamespace(settings=SimpleNamespace(batch_size=64, micro_batch=micro))
    assert pace.images_at_once(phase) == images


def test_where_memory_runs_out_the_rule_stays(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    seconds = pace.update_seconds
    setup, _ = chosen(2, 900.0, 1.0)
    monkeypatch.setattr("torch.zeros", full)
    assert seconds(setup) is None
    monkeypatch.setattr(pace, "update_seconds", lambda _: None)
    monkeypatch.setattr("imgkit.machine.cores", lambda: 16)
    assert with_loaders(setup, Screen(quiet=True)) is setup
    assert Times(9.0, 1.0, 1.0).saved(replace(setup, device=torch.device("meta")), 100, 0) == 0.0


def test_a_resume_takes_the_number_on_the_same_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: 2)
    how = {"recipe": write_recipe(tmp_path), "data": "synthetic:3x16", "out": tmp_path / "runs", "name": "run"}
    run = finetune("test_resnet", **how)
    about = run.folder.read_json("run.json")
    for ranks, workers in ((1, 5), (2, 1)):
        run.folder.write_json("run.json", about | {"loaders": {"workers": 5, "ranks": ranks}})
        found = reopen(run.folder, fresh=False, workers=None, screen=Screen(quiet=True))
        assert found.workers == workers
        assert found.reader()._workers == 1
        assert reopen(run.folder, fresh=False, workers=0, screen=Screen(quiet=True)).workers == 0
