"""T-O: memory that runs out is told with what did not fit and what keeps the batch; no checkpoint is lost."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import fingerprint, short_run
from tally import Tally, share

import imgkit
from imgkit import checkpoint, device
from imgkit.data.batches import EvalReader
from imgkit.errors import DeviceError
from imgkit.trainer import Trainer

FAMILY = "T-O"
ERRORS: dict[str, Callable[[], Exception]] = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    "Python": MemoryError,
}
PLACES = {  # what is called, which time it fails, the images at once, the newest checkpoint that has to be there
    "the first update": (Trainer, "_backward", 1, "4 images of 32×32 at once", 1),
    "an update": (Trainer, "_backward", 8, "4 images of 32×32 at once", 8),
    "the optimizer": (torch.optim.AdamW, "step", 6, "4 images of 32×32 at once", 6),
    "an evaluation": (EvalReader, "batches", 1, "32 images at a time were scored", 2),
    "a save": (checkpoint.Checkpoint, "copied", 3, "updates take 4 images at once", 2),
    "writing": (checkpoint, "_write", 12, "updates take 4 images at once", 2),
    "the score of test": (EvalReader, "batches", 5, "32 images at a time were scored", 12),
}
CASES = [f"{place}: {kind}" for place in PLACES for kind in ERRORS]
QUICK = ["the first update: CUDA", "an update: CPU", "an evaluation: Python", "a save: Python"]


def failing(patch: pytest.MonkeyPatch, owner: Any, name: str, nth: int, error: Exception) -> None:  # noqa: ANN401
    """The n-th call of `name` fails, once."""
    real, left = getattr(owner, name), nth

    def call(*given: object, **named: object) -> object:
        nonlocal left
        left -= 1
        if left == 0 and name == "batches":
            return read()
        if left == 0:
            raise error
        return real(*given, **named)

    def read() -> Iterator[None]:
        raise error
        yield

    patch.setattr(owner, name, call)


def told(place: Path, where: str, error: Exception) -> tuple[Counter[str], str]:
    """Train until memory runs out; see what is said and left, and what `resume` makes of it."""
    owner, name, nth, words, newest = PLACES[where]
    message = hint = ""
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, owner, name, nth, error)
        try:
            short_run(place, "data.test=0.2", "train.micro_batch=4")
        except DeviceError as caught:
            message, hint = caught.message, caught.hint
    run = place / "runs" / "run"
    said: list[str] = []
    found = checkpoint.load(run / "checkpoints", said.append)
    lost = found is None or found.step != newest or said or [*(run / "checkpoints").glob(".*")]
    helps = words in message and "\n" not in message and "micro-batch" in hint + words.replace("scored", "micro-batch")
    recipe = (run / "recipe.toml").read_text()
    kept = re.findall(r"^(?:micro_)?batch_size = (\d+)|^micro_batch = (\d+)", recipe, re.MULTILINE)
    changed = "--batch-size" in hint or kept[:2] != [("8", ""), ("", "4")]
    message += "" if found is None else f" [{found.step}]"
    return +Counter(faults=1, untold=not helps, lost=bool(lost), changed=changed), message + hint


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fingerprint(short_run(tmp_path_factory.mktemp("oracle"), "data.test=0.2", "train.micro_batch=4"))


@pytest.mark.parametrize("case", share(CASES, QUICK))
def test_memory_that_runs_out(tmp_path: Path, tally: Tally, whole: bool, oracle: str, case: str) -> None:
    where, _, kind = case.partition(": ")
    seen, message = told(tmp_path, where, ERRORS[kind]())
    assert seen == {"faults": 1}, message
    if (whole and kind == "CUDA") or where == "a save":
        assert fingerprint(imgkit.resume("run", out=tmp_path / "runs")) == oracle
    tally.count(FAMILY, faults=1, untold=0, lost=0, changed=0, places=kind == "CUDA")


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_what_does_not_fit_is_told_before_there_is_a_run(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """On a device with memory of its own; here the CPU takes its part."""

    def step(model: torch.nn.Module, images: torch.Tensor, dtype: object) -> float:
        if len(images) > room:
            raise ERRORS["CUDA"]()
        return 0.0

    fits, cpu = device._fits, torch.device("cpu")
    monkeypatch.setattr(device, "step_seconds", step)
    monkeypatch.setattr(device, "_fits", lambda model, _, *given: fits(model, cpu, *given))
    check = device.check_memory
    gpu = torch.device("cuda")
    monkeypatch.setattr("imgkit.prepare.check_memory", lambda model, _, *given: check(model, gpu, *given))
    with pytest.raises(DeviceError, match="Out of memory on cuda with 4 images of 32×32 at once") as caught:
        short_run(tmp_path, "train.micro_batch=4")
    assert not (tmp_path / "runs").exists()
    smaller = {1: "--micro-batch 1: the same batch of 8", 2: "--micro-batch 2: the same batch of 8"}
    assert smaller.get(min(room, 2), "Try a smaller --image-size or a smaller model") in caught.value.hint
    tally.count(FAMILY, faults=1, untold=0, lost=0, changed=0)


def test_a_device_that_is_lost_ends_the_run_without_another_save(tmp_path: Path, oracle: str) -> None:
    lost = RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported")
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, Trainer, "_backward", 8, lost)
        with pytest.raises(
            DeviceError, match=r"^The device no longer answers: CUDA error: unspecified launch failure\n"
        ):
            short_run(tmp_path, "data.test=0.2", "train.micro_batch=4")
    assert checkpoint.steps(tmp_path / "runs" / "run" / "checkpoints")[-1] == 8
    assert fingerprint(imgkit.resume("run", out=tmp_path / "runs")) == oracle


# What protects, taken away: the check above must notice.


@pytest.mark.parametrize("what", ["the words of an update", "the words of a save", "the removal of parts"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    vague = DeviceError("Out of memory.", "Use a smaller --batch-size.")
    where, noticed = {
        "the words of an update": ("an update", "changed"),
        "the words of a save": ("a save", "untold"),
        "the removal of parts": ("writing", "lost"),
    }[what]
    if noticed == "lost":
        monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda place, ignore_errors=False: None)
    else:
        monkeypatch.setattr("imgkit.setup.Setup.no_memory", lambda self, phase: vague)
        monkeypatch.setattr("imgkit.setup.Setup.no_memory_to_save", lambda self, step: vague)
    seen, _ = told(tmp_path, where, ERRORS["Python"]())
    assert seen[noticed] == 1
    tally.count("mutants", caught=1, escaped=0)
