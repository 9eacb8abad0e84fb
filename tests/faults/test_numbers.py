"""T-N: numbers that are not finite stop a training, or their update is skipped; nothing on the disk has them."""

import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from number_faults import poisoned
from oracle import short_run
from safetensors.torch import load_file
from tally import Tally, share

from imgkit import checkpoint, loss_scale, trainer
from imgkit.errors import DivergedError

FAMILY, NAN, INF = "T-N", float("nan"), float("inf")
AT = (2, 4, 6, 7, 14)  # the first update, one within an epoch, the last and the first of a phase, the last of all
LATEST = 2  # updates until it has to be noticed: a save is due by then
PLACES = ("input", "label", "loss", "gradient", "weights", "averages")
STOPS = [f"{place} {value}" for place in PLACES for value in ("nan", "inf")] + ["moments inf"]
QUICK = ["moments inf", *(f"{place} nan" for place in PLACES)]
BY_BATCH = ("input", "label", "loss", "gradient")


def infinite(run: Path) -> list[str]:
    """The tensors below a run's folder that are not finite, by file and name."""
    files = [*run.rglob("*.safetensors")]
    assert any(file.name == "model.safetensors" for file in files)
    return [
        f"{file}: {name}"
        for file in files
        for name, tensor in load_file(file).items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]


def stopped(place: Path, fault: str, value: float, at: int, *sets: str) -> tuple[Counter[str], str]:
    """What came of a training with a fault, and the message that it ended with."""
    message = ""
    with poisoned(fault, value, at) as hit:
        try:
            short_run(place, *sets)
        except DivergedError as error:
            message = error.message
    assert len(hit) == 1, "the update was made"
    steps = [int(number) for number in re.findall(r"step (\d+)", message)]
    late = not steps or not at <= steps[0] <= at + LATEST
    told = "\n" not in message and (fault not in BY_BATCH or " Images: " in message)
    seen = Counter(late=late, untold=not told, infinite=len(infinite(place / "runs" / "run")))
    return Counter({"faults": 1, "late": 0, "untold": 0, "infinite": 0, **seen}), message


def fine(seen: Counter[str]) -> bool:
    return not (seen["late"] or seen["untold"] or seen["infinite"])


@pytest.mark.parametrize("case", share(STOPS, QUICK))
def test_what_is_not_finite_stops_the_training(tmp_path: Path, tally: Tally, whole: bool, case: str) -> None:
    fault, value = case.split()
    for at in AT if whole else AT[1:2]:
        seen, message = stopped(tmp_path / str(at), fault, float(value), at)
        assert fine(seen), message
        tally.count(FAMILY, **seen)
    tally.count(FAMILY, kinds=case in QUICK)


def test_the_file_itself_is_named_where_it_is_known(tmp_path: Path, tally: Tally) -> None:
    """Batch norm of a batch would spread it to all of them."""
    seen, message = stopped(tmp_path, "input", NAN, 4, "train.batch_norm=frozen", "train.micro_batch=none")
    assert fine(seen)
    assert message.partition(" Images: ")[2].count(".png") == 1
    tally.count(FAMILY, **seen)


def test_overflow_in_float16_is_skipped_and_ends_a_training_that_does_nothing_else(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = "train.precision=float16"
    with poisoned("gradient", INF, 4):
        run = short_run(tmp_path / "once", half)
    assert checkpoint.steps(run.folder.path / "checkpoints")[-1] == 14
    found = checkpoint.read(run.folder.path / "checkpoints", 14)
    assert found.state["progress"]["skipped"] + sum(row["skipped"] for row in found.state["progress"]["history"]) >= 1
    assert infinite(run.folder.path) == []
    monkeypatch.setattr(loss_scale, "LONGEST", 3)
    monkeypatch.setattr(
        "number_faults.LOSSES", {"one class": lambda logits, *_: (logits * INF).sum() * 0 + logits.sum()}
    )
    with poisoned("one class", INF, 4), pytest.raises(DivergedError) as caught:
        short_run(tmp_path / "always", half)
    assert infinite(tmp_path / "always" / "runs" / "run") == []
    assert re.search(r"step [4-6] of phase 'top'", caught.value.message)
    tally.count(FAMILY, faults=2, kinds=1, late=0, untold=0, infinite=0)


def test_batches_of_one_class_are_no_fault(tmp_path: Path, tally: Tally) -> None:
    with poisoned("one class", 0.0, 2):
        run = short_run(tmp_path)
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert infinite(run.folder.path) == []
    tally.count(FAMILY, faults=1, kinds=1, late=0, untold=0, infinite=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_rate_of_a_thousand_million(tmp_path: Path, tally: Tally, optimizer: str) -> None:
    """It ends in a message, or in weights that are finite if they are worth nothing."""
    sets = ["phases.top.lr=1e9", "phases.all.lr=1e9", f"train.optimizer={optimizer}", "train.clip_norm=none"]
    place, message, hint = tmp_path / "runs" / "run", "", ""
    try:
        short_run(tmp_path, *sets)
    except DivergedError as error:
        message, hint = error.message, error.hint
    assert message or optimizer == "adamw", "its updates are as long as the rate, whatever the gradient"
    if message:
        assert re.search(r"step ([2-9]|10)\b", message), message
        assert "rate" in hint
    assert infinite(place) == []
    assert checkpoint.load(place / "checkpoints", pytest.fail) is not None
    tally.count(FAMILY, faults=1, kinds=optimizer == "sgd", late=0, untold=0, infinite=0)


# What protects, taken away: the check above must notice.


@pytest.mark.parametrize("what", ["the look at loss and gradient", "the look at what is saved", "the images"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "the look at loss and gradient":
        monkeypatch.setattr(trainer, "finite", lambda number: True)
        fault, noticed = "loss", "untold"
    elif what == "the look at what is saved":
        monkeypatch.setattr(checkpoint, "not_finite", lambda tensors: None)
        fault, noticed = "averages", "infinite"
    else:
        monkeypatch.setattr("imgkit.setup.Setup.files_told", lambda self: nullcontext())
        fault, noticed = "loss", "untold"
    seen, _ = stopped(tmp_path, fault, NAN, 3)
    assert seen[noticed] > 0
    tally.count("mutants", caught=1, escaped=0)
