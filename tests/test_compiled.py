"""The compiled network of updates: the network's answers, the same bits after a resume, and what is refused."""

import json
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import fingerprint, short_run
from torch import nn
from torchrun import ends, start

import imgkit
from imgkit import compiled
from imgkit.compiled import check_compile
from imgkit.errors import DeviceError, UsageError
from imgkit.experiment import Experiment

CPU = torch.device("cpu")


class Phase:
    """What is read of a phase's plan."""

    name = "all"

    def __init__(self, **settings: object) -> None:
        self.settings: Any = type("Settings", (), {"compile": True, "grad_checkpointing": False, **settings})


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """In a fork: one that compiled has autograd's threads, after which none of its own forks could train."""

    @wraps(test)
    def run(tmp_path: Path, **given: object) -> None:
        codes = ends(start(tmp_path, 1, lambda _: test(tmp_path=tmp_path, **given)), within_s=300)
        assert codes == [0], (tmp_path / "said-0").read_text()

    return run


@pytest.fixture
def uncompilable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""

    def fails(model: nn.Module, **_: object) -> Any:  # noqa: ANN401
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("No working C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", fails)


def test_what_it_does_not_go_with() -> None:
    phases: Any = [Phase(grad_checkpointing=True)]
    with pytest.raises(UsageError, match="asks for compile and for grad_checkpointing"):
        check_compile(phases, CPU, 1)
    several: Any = [Phase()]
    with pytest.raises(UsageError, match="for one process, and here are 2"):
        check_compile(several, CPU, 2)
    plain: Any = [Phase(compile=False)]
    check_compile(plain, torch.device("meta"), 2)


@pytest.mark.usefixtures("uncompilable")
def test_without_a_compiler_it_is_said_before_the_run_begins(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot compile this network here: No working C\+\+ compiler") as caught:
        short_run(tmp_path, "train.compile=true")
    assert "g++" in caught.value.hint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("CUDA error: device-side assert\nCompile with `TORCH_USE_CUDA_DSA` to enable assertions.", RuntimeError),
        ("backend='inductor' raised: CUDA out of memory", RuntimeError),
        ("Expected more than 1 value per channel when training, got input size [1, 4]", ValueError),
        ("InvalidCxxCompiler: No working C++ compiler found", DeviceError),
    ],
)
def test_what_is_not_the_compilers_is_not_blamed_on_it(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception]
) -> None:
    def fails(model: nn.Module, **_: object) -> Any:  # noqa: ANN401
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(said)

        return run

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(kind) as caught:
        compiled.compiled(nn.Flatten())(torch.ones(1, 2))
    assert type(caught.value) is kind


@pytest.mark.slow
@apart
def test_a_machine_without_a_compiler_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own error, which for a linear layer comes in the backward pass alone."""
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    phases: Any = [Phase()]
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nonexistent")}):
        with pytest.raises(DeviceError, match=r"cannot compile this network here: .*No working C\+\+ compiler"):
            check_compile(phases, CPU, 1)
        layer = nn.Linear(2, 2)
        answers = compiled.compiled(layer)(torch.ones(2, 2))
        with pytest.raises(DeviceError, match="cannot compile"), compiled.compiler_told():
            answers.sum().backward()


class Breaks(torch.autograd.Function):
    """What a compiler could not make the gradient of."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        raise RuntimeError("C++ compiler: internal error")


def test_a_networks_gradient_that_cannot_be_compiled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the small layer of the check could."""

    def breaks(model: nn.Module, **_: object) -> Any:  # noqa: ANN401
        return lambda images: Breaks.apply(model(images)) if images.ndim == 4 else model(images)

    monkeypatch.setattr(torch, "compile", breaks)
    with pytest.raises(DeviceError, match=r"cannot compile this network here: C\+\+ compiler: internal error"):
        short_run(tmp_path, "train.compile=true")


def test_a_dry_run_compiles_nothing(uncompilable: None) -> None:
    phases: Any = [Phase()]
    check_compile(phases, CPU, 1, dry_run=True)
    with pytest.raises(DeviceError):
        check_compile(phases, CPU, 1)


def test_an_error_of_the_network_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        compiled.compiled(nn.Linear(3, 2))(torch.ones(1, 2))


def losses(run: imgkit.Run) -> list[float]:
    return [row["train_loss"] for row in run.folder.history()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@apart
def test_updates_are_those_of_the_network_but_for_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a resume goes on to the same bits, though another process compiles again."""
    sets = ("phases.all.epochs=3", "train.micro_batch=none", "save.every_steps=none")
    plain = short_run(tmp_path / "plain", *sets)
    whole = short_run(tmp_path / "whole", *sets, "train.compile=true")
    assert losses(whole) == pytest.approx(losses(plain), rel=1e-3)
    assert losses(whole) != losses(plain), "other kernels round otherwise"

    enough = Experiment._close_epoch_if_due

    def stop(experiment: Experiment, *given: Any) -> None:  # noqa: ANN401
        enough(experiment, *given)
        if len(experiment.progress.history) == 3:
            experiment._saver.settle()
            raise imgkit.ImgkitError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_close_epoch_if_due", stop)
        with pytest.raises(imgkit.ImgkitError, match="stop"):
            short_run(tmp_path / "cut", *sets, "train.compile=true")
    resumed = imgkit.resume("run", out=tmp_path / "cut" / "runs")
    assert fingerprint(resumed) == fingerprint(whole)
    assert json.loads((resumed.folder.path / "status.json").read_text())["state"] == "finished"
