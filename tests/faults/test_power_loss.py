"""T-K2: a power cut at any instant of a save costs no checkpoint that was there."""

import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import same, sample
from crash_images import FORMS, MOST_CHOICES, Record, images, put, recorded
from tally import Tally

from imgkit import checkpoint
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DiskError, ImgkitError
from imgkit.run import RunFolder

NAME = "run"
TEXTS = ("recipe.toml", "data/index.csv")


def edition(step: int, number: int) -> Checkpoint:
    """A checkpoint of a step that is written twice: before its evaluation and after it."""
    found = sample(step)
    return Checkpoint(step, found.model, found.train, {**found.state, "edition": number})


def usual(record: Record, place: Path) -> None:
    """Saves of which each removes one before."""
    for step in (2, 3, 4):
        checkpoint.save(place, sample(step), keep=1, best=2 if step < 4 else 4, good=[2])
        record.promise(10 * step)


def replaced(record: Record, place: Path) -> None:
    """A step that is saved again once it is evaluated."""
    checkpoint.save(place, edition(2, 0), keep=1, best=1)
    record.promise(20)
    checkpoint.save(place, edition(2, 1), keep=1, best=2)
    record.promise(21)


def crowded(record: Record, place: Path) -> None:
    """A save that makes room first, by removing what it may."""
    for step in (2, 3):
        checkpoint.save(place, sample(step), keep=3, best=2)
        record.promise(10 * step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "check_space", room_for(2, place))
        checkpoint.save(place, sample(4), keep=3, best=2)
    record.promise(40)


def room_for(most: int, place: Path) -> Callable[[Path, int], None]:
    """A disk with room for one more once so few are there."""

    def check(folder: Path, size: int) -> None:
        if len(checkpoint.steps(place)) > most:
            raise OSError("too little room")

    return check


SAVES = (usual, replaced, crowded)


def survive(record: Record, spare: Path, *, share: int = 1, stop: bool = False) -> Counter[str]:
    """Load from each `share`-th image. "lost": less than what was promised; "wrong": taken, but not what was saved.

    With `stop` the first of either is enough.
    """
    seen = Counter(images=0, lost=0, wrong=0)
    for image in itertools.islice(images(record, 0, 32 if stop else MOST_CHOICES), 0, None, share):
        put(image.tree, spare)
        seen += Counter(images=1)
        try:
            found = checkpoint.load(spare, lambda text: None)
        except DiskError:
            found = None
        if found is None:
            seen += Counter(lost=1)
        else:
            level = 10 * found.step + found.state.get("edition", 0)
            saved = edition(found.step, level % 10) if "edition" in found.state else sample(found.step)
            seen += Counter(lost=level < record.promised(image.done), wrong=not same(found, saved))
            seen += Counter(lost=not best_is_there(spare), wrong=not goes_on(spare))
        shutil.rmtree(spare)
        if stop and seen["lost"] + seen["wrong"]:
            break
    return Counter({"images": 0, "lost": 0, "wrong": 0, **seen})  # a sum of counters drops what is zero


def best_is_there(place: Path) -> bool:
    try:
        checkpoint.read(place, json.loads((place / "best.json").read_bytes())["step"])
    except DiskError:
        return False
    return True


def goes_on(place: Path) -> bool:
    """Whether what a cut left is in nobody's way."""
    checkpoint.save(place, sample(9), keep=1, best=9)
    return same(checkpoint.read(place, 9), sample(9))


def record_of(saves: Callable[[Record, Path], None], place: Path) -> Record:
    """The record of some saves after a first one, which has long reached the disk."""
    checkpoint.save(place, sample(1), keep=1, best=1)
    with recorded(place) as record:
        record.promise(10)
        saves(record, place)
    return record


@pytest.mark.parametrize("saves", SAVES)
def test_a_power_cut_costs_no_checkpoint(
    tmp_path: Path, tally: Tally, whole: bool, saves: Callable[[Record, Path], None]
) -> None:
    seen = survive(record_of(saves, tmp_path / "checkpoints"), tmp_path / "image", share=1 if whole else 8)
    assert seen["images"] >= (200 if whole else 25)
    assert (seen["lost"], seen["wrong"]) == (0, 0)
    tally.count("T-K2", **seen)


def begun(out: Path) -> RunFolder:
    """A run's folder with what a resume asks for, and its first checkpoint."""
    with RunFolder.create(out, verb="finetune", model="m", data="d", name=NAME) as folder:
        for name in TEXTS:
            folder.write_text(name, "text\n")
        for name in ("status.json", "run.json"):
            folder.write_json(name, {"name": NAME})
    return folder


def survive_begun(record: Record, spare: Path, *, share: int = 1) -> Counter[str]:
    """Of the images after the first checkpoint was saved: whether there is a run that can be resumed."""
    seen = Counter(images=0, lost=0, wrong=0)
    after = (image for image in images(record, 1) if record.promised(image.done) > 0)
    for image in itertools.islice(after, 0, None, share):
        put(image.tree, spare)
        seen += Counter(images=1)
        try:
            folder = RunFolder.open(NAME, spare / "runs")
            told = [folder.read_json(name) for name in ("run.json", "status.json")]
            texts = [(folder.path / name).read_text() for name in TEXTS]
            found = checkpoint.load(folder.path / "checkpoints", lambda text: None)
            assert found is not None
        except (ImgkitError, OSError, AssertionError):
            seen += Counter(lost=1)
        else:
            right = told == [{"name": NAME}] * 2 and texts == ["text\n"] * 2 and same(found, sample(1))
            seen += Counter(wrong=not right)
        shutil.rmtree(spare)
    return Counter({"images": 0, "lost": 0, "wrong": 0, **seen})  # a sum of counters drops what is zero


def test_a_power_cut_costs_no_run_that_has_a_checkpoint(tmp_path: Path, tally: Tally, whole: bool) -> None:
    seen = survive_begun(record_of_a_start(tmp_path / "work"), tmp_path / "image", share=1 if whole else 4)
    assert seen["images"] >= 1
    assert (seen["lost"], seen["wrong"]) == (0, 0)
    tally.count("T-K2", **seen)


def record_of_a_start(work: Path) -> Record:
    work.mkdir()
    with recorded(work) as record:
        folder = begun(work / "runs")
        checkpoint.save(folder.path / "checkpoints", sample(1), keep=1, best=None)
        record.promise(10)
    return record


def test_a_file_that_is_not_synced_may_be_anything(tmp_path: Path) -> None:
    """The model itself: what it allows for a file that was written carelessly, and for one that was not."""

    def write(synced: bool) -> set[bytes | None]:
        place = tmp_path / ("careful" if synced else "careless")
        place.mkdir()
        with recorded(place) as record:
            with (place / "a.tmp").open("xb") as stream:
                stream.write(b"1234")
                stream.flush()
                if synced:
                    os.fsync(stream.fileno())
            (place / "a.tmp").rename(place / "a")
        return {image.tree.get("a") for image in images(record, 0)}  # type: ignore[misc]

    assert len(FORMS) == 4
    assert write(synced=False) == {None, b"", b"12", b"1234", b"\0\0\0\0"}
    assert write(synced=True) == {None, b"1234"}


# What protects, taken away piece by piece: the checks above must notice each.


class Forgetful:
    """`os` without fsync."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        pass


def copied(self: Path, target: Path) -> Path:
    """A rename that is none: the target grows file by file, each synced."""
    target.mkdir()
    for entry in self.iterdir():
        with (target / entry.name).open("xb") as stream:
            stream.write(entry.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
    checkpoint._sync_folder(target)
    shutil.rmtree(self)
    return target


def late_sync(patch: pytest.MonkeyPatch) -> None:
    """The folder of checkpoints is synced once, after the one that was replaced is gone: so it was until lately."""
    real, passed = checkpoint._sync_folder, set[str]()

    def reached(point: str) -> None:
        if point == "before mkdir":
            passed.clear()
        passed.add(point)

    def sync(folder: Path) -> None:
        if folder.name.startswith(".step") or "before prune" in passed:
            real(folder)

    patch.setattr(checkpoint, "_sync_folder", sync)
    patch.setattr(checkpoint, "reached", reached)


def mutate(patch: pytest.MonkeyPatch, what: str) -> None:
    """Take one thing away that keeps checkpoints through a power cut."""
    if what == "fsync of files":
        patch.setattr(checkpoint, "os", Forgetful())
    elif what == "fsync of folders":
        patch.setattr(checkpoint, "_sync_folder", lambda folder: None)
    elif what == "rename at the end":
        patch.setattr(Path, "rename", copied)
    else:
        late_sync(patch)


@pytest.mark.parametrize(
    ("what", "saves"),
    [
        ("fsync of files", usual),
        ("fsync of folders", usual),
        ("fsync before removal", replaced),
        ("rename at the end", replaced),
    ],
)
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, what: str, saves: Callable[[Record, Path], None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch, what)
        record = record_of(saves, tmp_path / "checkpoints")
    seen = survive(record, tmp_path / "image", stop=True)
    assert seen["lost"] + seen["wrong"] > 0
    tally.count("mutants", caught=1, escaped=0)


def test_the_check_notices_a_run_whose_name_is_not_synced(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgkit.run.sync", lambda place: None)
    assert survive_begun(record_of_a_start(tmp_path / "work"), tmp_path / "image", share=8)["lost"] > 0
    tally.count("mutants", caught=1, escaped=0)
