"""T-V: a checkpoint of each format that there ever was is read, and one of a later format is refused by name."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from checkpoints import same
from tally import Tally

from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DiskError
from imgkit.hits import Hits
from imgkit.progress import Progress

FAMILY = "T-V"
KEPT = Path(__file__).with_name("formats")  # one folder of checkpoints a format, each with `content` in it
LATER = 2


def content() -> Checkpoint:
    """What each kept checkpoint holds: kinds of tensors that runs save, and all that a run remembers."""
    model = {
        "conv.weight": (torch.arange(48.0).reshape(4, 3, 2, 2) / 7).contiguous(memory_format=torch.channels_last),
        "bn.running_var": torch.linspace(0.5, 1.5, 4, dtype=torch.float64).float(),
        "bn.num_batches_tracked": torch.tensor(12),
    }
    train = {
        "ema/conv.weight": model["conv.weight"] / 2,
        "opt/conv.weight/exp_avg": model["conv.weight"] / 3,
        "opt/conv.weight/step": torch.tensor(12.0),
    }
    row = {"epoch": 1, "step": 12, "phase": "all", "train_loss": 0.75, "val/loss": 0.5, "seconds": 2.5, "best": True}
    best = {"step": 12, "metric": "val/loss", "value": 0.5}
    progress = Progress(12, [row], best, 0, {"factor": 0.1}, 0.001, 0.0, 0, Hits(3, 4), 1.5, 2.5)
    state = {"progress": asdict(progress), "optimizer": {"scale": None}, "fingerprint": "ab" * 32}
    return Checkpoint(12, model, train, json.loads(json.dumps(state)))


def write(place: Path) -> None:
    """How a format is kept, once it is there: `write(KEPT / "2")`; and the later one is made up anew."""
    checkpoint.save(place, content(), keep=1, best=None)


def outcome(place: Path) -> str:
    """How a kept checkpoint is met.

    "read": all of it comes back and is taken up. "refused": one line names both formats, and what to do.
    """
    number = int(place.name)
    try:
        found = checkpoint.read(place, 12)
    except DiskError as error:
        line = rf".*step-00000012: written in format {number}; this imgkit reads format {checkpoint.FORMAT}\."
        return "refused" if re.fullmatch(line, error.message) and error.hint else f"fails: {error.message}"
    return "read" if same(found, content()) and Progress(**found.state["progress"]).step == 12 else "differs"


def test_each_format_is_read_or_refused_by_name(tally: Tally) -> None:
    outcomes = {int(place.name): outcome(place) for place in KEPT.iterdir()}
    own = range(1, checkpoint.FORMAT + 1)
    assert outcomes == {**dict.fromkeys(own, "read"), LATER: "refused"}
    assert sum(file.stat().st_size for file in KEPT.rglob("*")) < 64 << 10
    read, refused = (list(outcomes.values()).count(word) for word in ("read", "refused"))
    tally.count(FAMILY, read=read, refused=refused, neither=len(outcomes) - read - refused)


def test_what_is_written_now_is_what_is_kept(tmp_path: Path) -> None:
    """Else the format has changed, and needs a number and a kept checkpoint of its own."""
    write(tmp_path)
    places = [KEPT / str(checkpoint.FORMAT) / "step-00000012", tmp_path / "step-00000012"]
    kept, now = ({file.name for file in place.iterdir()} for place in places)
    assert kept == now
    kept, now = (set(json.loads((place / "state.json").read_bytes())["progress"]) for place in places)
    assert kept == now


# What protects, taken away: the check above must notice.


@pytest.mark.parametrize("what", ["any format is taken", "the first format is forgotten"])
def test_the_check_notices_what_is_missing(tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    place, expected = (KEPT / "1", "read") if "first" in what else (KEPT / str(LATER), "refused")
    assert outcome(place) == expected
    if expected == "read":
        monkeypatch.setattr(checkpoint, "FORMAT", LATER)
    else:
        monkeypatch.setattr(checkpoint, "_verified", unverified)
    assert outcome(place) != expected
    tally.count("mutants", caught=1, escaped=0)


def unverified(place: Path) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in checkpoint._FILES}
