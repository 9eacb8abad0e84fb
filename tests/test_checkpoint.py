import json
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoints import same, sample, silent

from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DeviceError, DiskError, DivergedError


def test_round_trip_is_exact(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, sample(7), keep=2, best=None)
    found = checkpoint.load(tmp_path, silent)
    assert found is not None
    assert same(found, sample(7))


def test_a_device_that_is_lost_is_no_fault_of_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no longer answers: CUDA error"), checkpoint.fitting(tmp_path, 2):
        raise RuntimeError("CUDA error: unspecified launch failure")


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "missing", silent) is None


def test_retention_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 8):
        checkpoint.save(tmp_path, sample(step), keep=2, best=3 if step >= 3 else None)
    assert checkpoint.steps(tmp_path) == [3, 6, 7]
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 3}


def damage(folder: Path, step: int) -> None:
    file = folder / f"step-{step:08d}" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def test_a_damaged_newer_one_is_not_counted_until_it_is_replaced(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        checkpoint.save(tmp_path, sample(step), keep=2, best=None)
    assert checkpoint.steps(tmp_path) == [6, 8]
    damage(tmp_path, 8)
    found = checkpoint.load(tmp_path, lambda text: None)
    assert found is not None
    assert found.step == 6
    checkpoint.save(tmp_path, sample(7), keep=2, best=None)
    assert checkpoint.steps(tmp_path) == [6, 7, 8], "two whole ones"
    checkpoint.save(tmp_path, sample(8), keep=2, best=None)
    assert checkpoint.steps(tmp_path) == [7, 8]
    assert same(checkpoint.read(tmp_path, 8), sample(8))


def test_keep_all(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, sample(step), keep="all", best=None)
    assert checkpoint.steps(tmp_path) == [1, 2, 3, 4]


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, sample(1), keep=2, best=None)
    checkpoint.save(tmp_path, sample(2), keep=2, best=None)
    place = tmp_path / "step-00000002"
    draw = random.Random(0)
    damages = 0
    for file in sorted(place.iterdir()):
        whole = file.read_bytes()
        cuts = [whole[: draw.randrange(len(whole))] for _ in range(10)]
        flips = []
        for _ in range(60):
            position, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
            flips.append(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        for damaged in [*cuts, *flips, b""]:
            if damaged == whole:
                continue
            file.write_bytes(damaged)
            warnings: list[str] = []
            found = checkpoint.load(tmp_path, warnings.append)
            if found is not None and found.step == 2:
                # Only a change of the manifest's own spelling that means the same may pass.
                assert file.name == "MANIFEST.json"
                assert same(found, sample(2))
                continue
            assert found is not None
            assert same(found, sample(1)), "the one before is used"
            assert len(warnings) == 1
            assert "step-00000002" in warnings[0]
            damages += 1
        file.write_bytes(whole)
    assert damages > 250


def test_all_damaged_is_an_error_that_lists_them(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, sample(step), keep=2, best=None)
        (tmp_path / f"step-0000000{step}" / "state.json").unlink()
    with pytest.raises(DiskError, match=r"(?s)step-00000002.*step-00000001"):
        checkpoint.load(tmp_path, lambda text: None)


def test_a_checkpoint_under_another_name_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, sample(1), keep=2, best=None)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000009")
    with pytest.raises(DiskError, match="holds the checkpoint of step 1"):
        checkpoint.read(tmp_path, 9)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    good = sample(2)
    broken = Checkpoint(2, {"w": torch.tensor([1.0, float("nan")])}, good.train, good.state)
    checkpoint.save(tmp_path, sample(1), keep=1, best=None)
    with pytest.raises(DivergedError, match="w is no longer finite after step 2, so this step is not saved"):
        checkpoint.save(tmp_path, broken, keep=1, best=None)
    assert checkpoint.steps(tmp_path) == [1], "the good one before it stays"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "not_finite", lambda tensors: None)
        checkpoint.save(tmp_path, broken, keep=1, best=None)
    with pytest.raises(DiskError, match=r"w holds numbers that are not finite"):
        checkpoint.read(tmp_path, 2)


@pytest.mark.parametrize(
    "point",
    ["before mkdir", "write model.safetensors", "before fsync state.json", "write MANIFEST.json", "before rename"],
)
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, sample(1), keep=2, best=1)

    def full(name: str) -> None:
        if name == point:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "reached", full)
    said = r"Cannot write the checkpoint of step 2 .*No space left on device \(\d+ KiB needed, [\d.,]+ [KMG]iB free\)"
    with pytest.raises(DiskError, match=said):
        checkpoint.save(tmp_path, sample(2), keep=2, best=2)
    monkeypatch.undo()
    found = checkpoint.load(tmp_path, silent)
    assert found is not None
    assert same(found, sample(1))
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("point", ["after rename", "before prune", "prune"])
def test_after_the_rename_a_checkpoint_is_saved_whatever_fails(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, sample(1), keep=1, best=1)

    def broken(name: str) -> None:
        if name == point:
            raise OSError(5, os.strerror(5))

    said: list[str] = []
    monkeypatch.setattr(checkpoint, "reached", broken)
    checkpoint.save(tmp_path, sample(2), keep=1, best=2, warn=said.append)
    monkeypatch.undo()
    assert said == [
        "The checkpoint of step 2 is saved, but what follows could not be done: " + os.strerror(5)  # and no traceback
    ]
    found = checkpoint.load(tmp_path, silent)
    assert found is not None
    assert same(found, sample(2))
    checkpoint.save(tmp_path, sample(3), keep=1, best=3)
    assert checkpoint.steps(tmp_path) == [3], "the next save removes what this one left"
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 3}


def test_a_rename_that_fails_leaves_the_checkpoint_that_was_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, sample(1), keep=1, best=None)

    def full(name: str) -> None:
        if name == "replace":
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "reached", full)
    with pytest.raises(DiskError, match="No space left on device"):
        checkpoint.save(tmp_path, Checkpoint(1, sample(1).model, sample(1).train, {}), keep=1, best=None)
    assert same(checkpoint.read(tmp_path, 1), sample(1))
    assert [entry.name for entry in tmp_path.glob(".*")] == []


def test_too_little_space_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DiskError, match="KiB needed"):
        checkpoint.save(tmp_path, sample(1), keep=2, best=None)
    assert checkpoint.steps(tmp_path) == []


def room_for(folders: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has room for one more checkpoint once at most so many are there."""

    def usage(_: object) -> SimpleNamespace:
        return SimpleNamespace(free=10**9 if len(checkpoint.steps(place)) <= folders else 10)

    monkeypatch.setattr("shutil.disk_usage", usage)


def test_space_is_made_before_a_save_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 8):
        checkpoint.save(tmp_path, sample(step), keep=4, best=2 if step >= 2 else None)
    assert checkpoint.steps(tmp_path) == [2, 4, 5, 6, 7]
    damage(tmp_path, 7)
    room_for(2, tmp_path, monkeypatch)
    checkpoint.save(tmp_path, sample(8), keep=4, best=8)
    assert checkpoint.steps(tmp_path) == [2, 6, 8], "the best before, the newest whole one, and the new one"
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 8}


def test_the_best_and_the_newest_stay_where_no_space_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, sample(step), keep=3, best=1)
    room_for(1, tmp_path, monkeypatch)
    with pytest.raises(DiskError, match="KiB needed") as caught:
        checkpoint.save(tmp_path, sample(6), keep=3, best=6)
    assert "The newest checkpoint and the best one are untouched" in caught.value.hint
    assert checkpoint.steps(tmp_path) == [1, 5]
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 1}


@pytest.mark.parametrize("why", ["all are kept", "none is whole", "best.json is damaged"])
def test_nothing_is_removed_for_space_that_must_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, sample(step), keep=3, best=1)
        if why == "none is whole":
            damage(tmp_path, step)
    if why == "best.json is damaged":
        (tmp_path / "best.json").write_text("{")
    room_for(2, tmp_path, monkeypatch)
    with pytest.raises(DiskError, match=r"best\.json is damaged" if "best" in why else "KiB needed"):
        checkpoint.save(tmp_path, sample(4), keep="all" if why == "all are kept" else 3, best=1)
    assert checkpoint.steps(tmp_path) == [1, 2, 3]


def test_a_kill_while_a_checkpoint_is_replaced_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, sample(1), keep=1, best=None)

    def kill(point: str) -> None:
        if point == "replace":
            raise KeyboardInterrupt

    again = Checkpoint(1, sample(1).model, sample(1).train, {"evaluated": True})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "reached", kill)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, again, keep=1, best=None)
    found = checkpoint.load(tmp_path, pytest.fail)
    assert found is not None
    assert found.state == sample(1).state
    checkpoint.save(tmp_path, again, keep=1, best=None)
    assert checkpoint.read(tmp_path, 1).state == {"evaluated": True}
    assert [entry.name for entry in tmp_path.glob(".*.was-*")] == []
