"""T-E: a disk that says no, at any byte of a save, costs no checkpoint that was there, and says what it lacks."""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoints import same, sample
from disk_faults import NUMBERS, largest_file, on_small_disk, refused, short_file
from oracle import short_run
from tally import Tally

from imgkit import checkpoint, files
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DiskError

BUCKETS = 64
FILES = ("model.safetensors", "train.safetensors", "state.json", "MANIFEST.json")
PAGE = 4096

Fault = Callable[[], AbstractContextManager[None]]


def long_state(step: int) -> Checkpoint:
    """A checkpoint each file of which is longer than there are buckets."""
    found = sample(step)
    return Checkpoint(step, found.model, found.train, {**found.state, "history": [{"epoch": n} for n in range(9)]})


def large(step: int) -> Checkpoint:
    """A checkpoint of about 80 pages."""
    return Checkpoint(step, {"w": torch.full((40_000,), 1.0 * step)}, {"m": torch.zeros(40_000)}, {"step": step})


def survive(place: Path, fault: Fault, make: Callable[[int], Checkpoint] = long_state) -> Counter[str]:
    """Save the second checkpoint with a fault and see what is left, what was said, and that the next save goes well.

    "lost": the first one is no longer there; "left": of the second one, parts; "untold": nothing that helps was said.
    """
    shutil.rmtree(place, ignore_errors=True)
    checkpoint.save(place, make(1), keep=2, best=1)
    message = ""
    try:
        with fault():
            checkpoint.save(place, make(2), keep=2, best=1)
    except DiskError as error:
        message = error.message if error.hint else ""
    helps = "\n" not in message and all(words in message for words in (str(place), " needed", " free"))
    said: list[str] = []
    try:
        found = checkpoint.load(place, said.append)
    except DiskError:
        found = None
    lost = found is None or bool(said) or not same(found, make(1))
    left = [entry.name for entry in place.glob(".*")]
    checkpoint.save(place, make(2), keep=2, best=1)
    lost = lost or not same(checkpoint.read(place, 2), make(2))
    return Counter(failures=1, lost=lost, left=bool(left), untold=not helps)


def total(counts: list[Counter[str]]) -> dict[str, int]:
    """The sum, with the zeros."""
    return {name: sum(count[name] for count in counts) for name in ("failures", "lost", "left", "untold")}


def fine(counts: dict[str, int], failures: int) -> bool:
    return counts == {"failures": failures, "lost": 0, "left": 0, "untold": 0}


def sizes(place: Path, make: Callable[[int], Checkpoint] = long_state) -> dict[str, int]:
    saved = checkpoint.save(place, make(2), keep=2, best=None)
    return {name: (saved / name).stat().st_size for name in FILES}


def at_byte(name: str, room: int, number: int) -> Fault:
    return lambda: short_file(name, room, number)


def at_call(call: str, nth: int, number: int) -> Fault:
    return lambda: refused(call, nth, number)


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, tally: Tally, whole: bool, name: str) -> None:
    size = sizes(tmp_path / "sizes")[name]
    assert size >= BUCKETS
    buckets = range(0, BUCKETS, 1 if whole else 8)
    counts = total(
        [
            survive(tmp_path / "run", at_byte(name, size * bucket // BUCKETS, NUMBERS[bucket % len(NUMBERS)]))
            for bucket in buckets
        ]
    )
    assert fine(counts, len(buckets))
    tally.count("T-E", **counts)


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_disk_that_refuses_a_sync_or_a_name(tmp_path: Path, tally: Tally, number: int) -> None:
    """One folder is made, four files and the folder are synced, and it is renamed."""
    calls = [("mkdir", 1), *(("fsync", nth) for nth in range(5)), ("rename", 0)]
    counts = total([survive(tmp_path / "run", at_call(call, nth, number)) for call, nth in calls])
    assert fine(counts, len(calls))
    tally.count("T-E", **counts)


def test_the_systems_own_limit(tmp_path: Path, tally: Tally, whole: bool) -> None:
    size = max(sizes(tmp_path / "sizes").values())
    buckets = range(0, BUCKETS, 1 if whole else 8)

    def at(bucket: int) -> Fault:
        return lambda: largest_file(size * bucket // BUCKETS)

    counts = total([survive(tmp_path / "run", at(bucket)) for bucket in buckets])
    assert fine(counts, len(buckets))
    tally.count("T-E", **counts)


def test_a_real_disk_that_is_full(tmp_path: Path, tally: Tally, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "check_space", lambda folder, size: None)  # as if it filled up after that look
    disk = tmp_path / "disk"
    disk.mkdir()
    needed = sum(-(-size // PAGE) for size in sizes(tmp_path / "sizes", large).values())
    assert needed >= BUCKETS
    buckets = range(0, BUCKETS, 1 if whole else 8)

    def filled(pages: int) -> Fault:
        return lambda: Filled(disk, pages * PAGE)

    def work() -> dict[str, int]:
        return total([survive(disk / "run", filled(needed * bucket // BUCKETS), large) for bucket in buckets])

    counts = on_small_disk(disk, 4 << 20, work)
    if counts is None:
        pytest.skip("no disk may be mounted here")
    assert fine(counts, len(buckets))
    tally.count("T-E", **counts)


class Filled(AbstractContextManager[None]):
    """A disk that another process has filled but for so many bytes."""

    def __init__(self, disk: Path, free: int) -> None:
        self._file, self._free = disk / "filler", free

    def __enter__(self) -> None:
        found = os.statvfs(self._file.parent)
        self._file.write_bytes(bytes(found.f_bavail * found.f_frsize - self._free))

    def __exit__(self, *error: object) -> None:
        self._file.unlink()


def test_what_fails_after_the_rename_is_a_warning(tmp_path: Path, tally: Tally) -> None:
    """The sync of the folder's names, best.json at each byte, its rename, and that of what is removed."""
    faults = [at_call("fsync", 5, errno.EIO), at_byte("best.json", 3, errno.ENOSPC), at_call("replace", 0, errno.EIO)]
    faults += [at_call("rename", 1, errno.EROFS), at_call("rmdir", 0, errno.EIO)]
    for fault in faults:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        checkpoint.save(tmp_path / "run", sample(1), keep=1, best=1)
        said: list[str] = []
        with fault():
            checkpoint.save(tmp_path / "run", sample(2), keep=1, best=2, warn=said.append)
        assert len(said) == 1
        assert said[0].startswith("The checkpoint of step 2 is saved, but what follows could not be done: ")
        assert "\n" not in said[0]
        assert same(checkpoint.read(tmp_path / "run", 2), sample(2))
        checkpoint.save(tmp_path / "run", sample(3), keep=1, best=3)
        assert checkpoint.steps(tmp_path / "run") == [3]
    tally.count("T-E", failures=len(faults), lost=0, left=0, untold=0)


@pytest.mark.campaign
def test_a_run_whose_saves_fail_ends_with_the_same_bits(
    tmp_path: Path, tally: Tally, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = short_run(tmp_path / "oracle")
    save, failed = checkpoint.save, []

    def failing(folder: Path, found: Checkpoint, **options: object) -> Path:
        with short_file("train.safetensors", 1000, errno.ENOSPC) if len(failed) < 3 else nullcontext():
            try:
                return save(folder, found, **options)  # type: ignore[arg-type]
            except DiskError:
                failed.append(found.step)
                raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", failing)
        run = short_run(tmp_path / "full")
    assert len(failed) == 3
    ends = [checkpoint.load(each.folder.path / "checkpoints", pytest.fail) for each in (oracle, run)]
    assert ends[0] is not None
    assert ends[1] is not None
    # Which epoch is the best may differ: weights that could not be saved are not.
    assert same(ends[0], replace(ends[1], state=ends[0].state))
    assert "Training goes on." in " ".join(capsys.readouterr().err.split())
    tally.count("T-E", runs=1)


def test_a_run_that_cannot_fit_is_refused_before_it_has_a_folder(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints and the model; one byte less, with a tenth over, is too little."""
    asked: list[int] = []
    check = files.check_space

    def noted(folder: Path, size: int) -> None:
        asked.append(size)
        check(folder, size)

    monkeypatch.setattr("imgkit.prepare.check_space", noted)
    run = short_run(tmp_path / "fits")
    places = [*run.folder.path.glob("checkpoints/step-*")]
    saved = max(sum(file.stat().st_size for file in place.iterdir()) for place in places)
    model = (run.folder.path / "model" / "model.safetensors").stat().st_size
    assert saved < asked[0] < 2 * saved + model
    free = asked[0] * 11 // 10 - 1
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with pytest.raises(
        DiskError, match=r"does not fit on the disk of .*runs: too little room, .* needed, .* free"
    ) as error:
        short_run(tmp_path / "full")
    assert "--out FOLDER" in error.value.hint
    assert not (tmp_path / "full" / "runs").exists()
    tally.count("T-E", failures=1, lost=0, left=0, untold=0)


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", ["removal of parts", "the error", "the room"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "removal of parts":
        monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda place, ignore_errors=False: None)
    elif what == "the room":
        monkeypatch.setattr(checkpoint, "_reason", lambda error, folder, size: error.strerror)
    else:
        write = checkpoint._write

        def careless(file: Path, content: Iterable[bytes]) -> dict[str, object]:
            try:
                return write(file, content)
            except OSError:
                return {"size": 0, "sha256": "0" * 64}

        monkeypatch.setattr(checkpoint, "_write", careless)
    counts = survive(tmp_path / "run", at_byte("model.safetensors", 100, errno.ENOSPC))
    expected = {"removal of parts": "left", "the error": "untold", "the room": "untold"}[what]
    assert counts[expected] == 1
    tally.count("mutants", caught=1, escaped=0)
