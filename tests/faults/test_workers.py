"""T-W: whatever happens to a loader process, the run goes on to the same bits or ends with one line; it never hangs."""

import hashlib
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_faults import on_small_disk
from forked import answer_of, forked
from oracle import fingerprint, short_run
from pictures import square
from tally import Tally, share
from worker_faults import FAULTS, Faulty

from imgkit.data import apart, batches, scan, workers
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, EvalReader, train_batches
from imgkit.data.index import Index, PathTable
from imgkit.data.load import load_data
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DataError, ImgkitError
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.schema import DataSettings

FAMILY, N, BAD = "T-W", 24, 13
HANG_S = 60
RULE = Preprocessing((16, 16), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and watched there")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("pictures")
    names = [f"{row:02d}.png" for row in range(N)]
    for row, name in enumerate(names):
        square(row).save(root / name)
    zeros = np.zeros(N, dtype=np.int64)
    hashes = np.zeros((N, 32), dtype=np.uint8)
    return Index(root, PathTable.of(names), ("a",), zeros, np.arange(N + 1), zeros.astype(np.int8), None, zeros, hashes)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """To give up after 3 s, which a busy machine may well take to start processes; else it is five minutes."""

    def give_up_soon() -> None:
        monkeypatch.setattr(workers, "PATIENCE", 15)
        monkeypatch.setattr(workers, "_WAIT_S", 0.2)

    return give_up_soon


def faulty(index: Index, fault: str, mark: Path | None = None) -> Faulty:
    return Faulty(*(getattr(index, one.name) for one in fields(index)), fault=fault, bad=BAD, mark=mark)


def epochs(
    index: Index, count: int, warn: Callable[[str], object] = pytest.fail, *, in_turn: bool = False
) -> Iterator[Batch]:
    """Two epochs of six batches."""
    return train_batches(
        index,
        np.arange(N),
        transform=TrainTransform(RULE, AugmentSettings(hflip=0.5)),
        seed=1,
        first_epoch=0,
        batch_size=4,
        steps_per_epoch=6,
        start=0,
        stop=12,
        workers=count,
        max_pixels=10_000,
        in_turn=in_turn,
        warn=warn,
    )


def digest(found: Iterator[Batch]) -> str:
    seen = hashlib.sha256()
    for batch in found:
        seen.update(batch.images.numpy().tobytes() + batch.ids.numpy().tobytes())
    return seen.hexdigest()


def outcome(
    index: Index,
    count: int = 2,
    watched: Callable[[Iterator[Batch]], Iterator[Batch]] = iter,
    *,
    in_turn: bool = False,
) -> Any:  # noqa: ANN401
    """What two epochs end with, in a process of their own: {"bits", "said", "error", "left"}; None: with nothing.

    "left" counts the loader processes that live on.
    """
    out: dict[str, Any] = {"bits": "", "said": [], "error": ""}

    def work() -> int:
        try:
            out["bits"] = digest(watched(epochs(index, count, out["said"].append, in_turn=in_turn)))
        except ImgkitError as error:
            out["error"] = error.message
        except Exception as error:
            out["error"] = f"{type(error).__name__}: {error}"
        print(repr(out | {"left": len(multiprocessing.active_children())}))
        return 0

    code, text = forked(work, HANG_S)
    assert code in (0, -signal.SIGALRM), text
    return None if code else eval(text)  # noqa: S307  (what this file wrote)


def problems(found: Any, index: Index, wanted: str, bits: str) -> list[str]:  # noqa: ANN401
    """What is wrong with an outcome that should be `wanted`: "bits" after one warning, or "named" in an error."""
    if found is None:
        return ["hang"]
    file = str(index.root / f"{BAD:02d}.png")
    told = found["said"] if wanted == "bits" else [found["error"]]
    wrong = [] if found["left"] == 0 else ["left"]
    if wanted == "bits" and found["bits"] != bits:
        wrong.append("other bits")
    if len(told) != 1 or "\n" in told[0] or file not in told[0]:
        wrong.append("not named")
    return wrong


@pytest.fixture(scope="module")
def bits(index: Index) -> str:
    return digest(epochs(index, 0))


QUICK = {f"{name} each time by fork" for name in ("SIGKILL", "no end")}
QUICK |= {f"{name} once by fork" for name in ("a crash", "SIGKILL with a lock")}
ENDINGS = [name for name in FAULTS if name not in ("a bug", "no end")]
CASES = [f"{name} {often} by fork" for name in ENDINGS for often in ("once", "each time")]
CASES += [f"{name} by spawn" for name in ("a crash once", "a crash each time", "SIGKILL once", "an exit each time")]
CASES += ["no end each time by fork"]
CASES += [f"{case} in turn" for case in CASES if "by fork" in case]
QUICK |= {"SIGKILL once by fork in turn", "no end each time by fork in turn"}


@pytest.mark.parametrize("case", share(CASES, QUICK))
def test_a_file_that_ends_or_holds_its_process(
    index: Index,
    bits: str,
    case: str,
    tmp_path: Path,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
    impatient: Callable[[], None],
) -> None:
    words, _, how = case.rpartition(" by ")
    method, in_turn = how.removesuffix(" in turn"), how.endswith(" in turn")
    once = words.endswith(" once")
    if method == "spawn":  # each process imports torch first
        monkeypatch.setattr(workers, "start_method", lambda: method)
        monkeypatch.setattr(sys.modules[__name__], "HANG_S", 200)
    fault = words.removesuffix(" once").removesuffix(" each time")
    if fault == "no end":
        impatient()
    found = outcome(faulty(index, fault, tmp_path / "done" if once else None), in_turn=in_turn)
    assert problems(found, index, "bits" if once else "named", bits) == [], found
    if fault == "no end":
        assert found["error"].endswith("its reading has not ended within 3 s")
    elif not once:
        assert found["error"].endswith("loader processes die of reading it, again and again")
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


def test_a_bug_keeps_its_traceback(index: Index, tally: Tally) -> None:
    found = outcome(faulty(index, "a bug"))
    assert found["error"].startswith("ZeroDivisionError: Caught ZeroDivisionError in DataLoader worker process")
    assert found["left"] == 0
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_processes_killed_from_outside(
    index: Index, bits: str, tally: Tally, whole: bool, count: int, in_turn: bool
) -> None:
    for number in range(12 if whole else 2):
        draw = random.Random(number)
        at = draw.randrange(4)  # later, all batches are ready or in other hands, and nobody misses the process

        def killing(found: Iterator[Batch], at: int = at, draw: random.Random = draw) -> Iterator[Batch]:
            for step, batch in enumerate(found):
                if step == at:
                    os.kill(draw.choice(multiprocessing.active_children()).pid or 0, signal.SIGKILL)
                yield batch

        found = outcome(index, count, killing, in_turn=in_turn)
        assert found["bits"] == bits, found
        assert found["left"] == 0
        assert len(found["said"]) == 1
        assert f"one of the {count} loader processes was killed (SIGKILL)" in found["said"][0]
        assert "Fresh ones read the batch again, to the same bits." in found["said"][0]
    tally.count(FAMILY, faults=12 if whole else 2, hangs=0, unnamed=0, other=0)


@pytest.mark.parametrize("in_turn", [False, True])
def test_processes_that_die_again_and_again_end_the_run(index: Index, tally: Tally, in_turn: bool) -> None:
    def killing(found: Iterator[Batch]) -> Iterator[Batch]:
        for batch in found:
            for child in multiprocessing.active_children():
                child.kill()
            yield batch

    found = outcome(index, 2, killing, in_turn=in_turn)
    assert found["error"].startswith("one of the 2 loader processes was killed (SIGKILL)")
    assert "most often for lack of memory or of shared memory" in found["error"]
    assert len(found["said"]) == workers._RESTARTS
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_process_that_is_stopped(index: Index, tally: Tally, impatient: Callable[[], None], in_turn: bool) -> None:
    impatient()

    def stopping(found: Iterator[Batch]) -> Iterator[Batch]:
        for batch in found:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGSTOP)
            yield batch

    found = outcome(index, 1, stopping, in_turn=in_turn)
    assert "within 3 s" in found["error"]
    assert found["left"] == 0
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


BETWEEN = {
    "one is killed": (signal.SIGKILL, 1),
    "all are killed": (signal.SIGKILL, 2),
    "one stops": (signal.SIGSTOP, 1),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_processes_that_wait_for_the_next_evaluation(index: Index, tally: Tally, what: str) -> None:
    number, count = BETWEEN[what]
    said: list[str] = []

    def work() -> dict[str, Any]:
        reader = EvalReader(index, preprocessing=RULE, batch_size=4, workers=2, max_pixels=10_000, warn=said.append)
        with closing(reader):
            found = [digest(reader.batches(np.arange(N)))]
            for child in multiprocessing.active_children()[:count]:
                os.kill(child.pid or 0, number)
            found += [digest(reader.batches(np.arange(N))) for _ in range(2)]
        return {"found": found, "said": said, "left": len(multiprocessing.active_children())}

    told = answer_of(work, HANG_S)
    assert len(told["found"]) == 3
    assert len(set(told["found"])) == 1
    assert told["left"] == 0
    if number == signal.SIGKILL:
        assert told["said"][0].startswith("one of the 2 loader processes was killed (SIGKILL)")
        assert told["said"][0].endswith("Fresh ones take over.")
    assert len(told["said"]) == (number == signal.SIGKILL)
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


@pytest.mark.parametrize("pages", [0, 8, 18, 20])
def test_shared_memory_that_is_too_small(index: Index, tally: Tally, pages: int) -> None:
    found = small_memory(index, pages)
    what = "A batch cannot be handed over by a loader process" if pages > 8 else "Loader processes cannot be started"
    assert found["error"].startswith(f"{what} (/dev/shm has 0 of 0 MiB free): ")
    assert "\n" not in found["error"]
    tally.count(FAMILY, faults=1, hangs=0, unnamed=0, other=0)


def small_memory(index: Index, pages: int) -> Any:  # noqa: ANN401
    """The outcome on a machine whose shared memory has so many pages free; queues take 14 or so, a batch 3."""
    shm = Path("/dev/shm")  # noqa: S108  (the system's own)

    def work() -> Any:  # noqa: ANN401
        filler, size = shm / "filler", 256 << 10
        filler.write_bytes(bytes(size - 4096 * pages))
        return {"found": outcome(index)}

    found = on_small_disk(shm, 256 << 10, work)
    if found is None:
        pytest.skip("no disk may be mounted here")
    return found["found"]


# The scan, which is before all that


def crashing(monkeypatch: pytest.MonkeyPatch, names: set[str]) -> None:
    monkeypatch.setattr(apart, "FORKS", True)
    read = scan.read_image

    def examine(path: Path, **options: int) -> object:
        return FAULTS["a crash"]() if path.name in names else read(path, **options)

    monkeypatch.setattr(scan, "read_image", examine)


def folder_of(place: Path, n: int) -> Path:
    for row in range(n):
        (place / f"c{row % 2}").mkdir(parents=True, exist_ok=True)
        square(row, code=row % 2).save(place / f"c{row % 2}" / f"{row:03d}.png")
    return place


@pytest.mark.parametrize("count", [1, 5])
def test_files_that_crash_the_decoder_are_bad_ones_like_others(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    place, names = folder_of(tmp_path / "data", 80), {f"{row:03d}.png" for row in range(3, 3 + 13 * count, 13)}
    crashing(monkeypatch, names)
    found = load_data(DataSettings(path=str(place), on_bad="skip"))
    assert {Path(bad.path).name for bad in found.bad} == names
    assert {bad.reason for bad in found.bad} == {"its decoder crashes (SIGSEGV)"}
    assert len(found.index) == 80 - count
    with pytest.raises(DataError, match=r"its decoder crashes \(SIGSEGV\)"):
        load_data(DataSettings(path=str(place)))
    tally.count(FAMILY, faults=2 * count, hangs=0, unnamed=0, other=0)


def test_a_run_survives_both(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that crashes the scan is left out, and a process that dies later changes no bit."""
    place = folder_of(tmp_path / "data", 40)
    (place / "c0" / "006.png").rename(tmp_path / "006.png")
    whole = short_run(tmp_path / "whole", data=str(place))
    (tmp_path / "006.png").rename(place / "c0" / "006.png")
    crashing(monkeypatch, {"006.png"})
    read, mark = batches.load_image, tmp_path / "done"

    def once(path: Path, **options: int) -> object:
        if path.name == "007.png" and not mark.exists():
            mark.touch()
            FAULTS["a crash"]()
        return read(path, **options)

    monkeypatch.setattr(batches, "load_image", once)
    run = short_run(tmp_path / "faulty", "data.on_bad=skip", data=str(place), workers=2)
    assert mark.exists()
    assert fingerprint(run) == fingerprint(whole)
    assert "its decoder crashes" in (run.folder.path / "data" / "bad.csv").read_text()
    tally.count(FAMILY, faults=2, hangs=0, unnamed=0, other=0)


# What protects, taken away: the checks above must notice.


MUTANTS = {
    "the row in hand": ("reading", lambda row: None, "not named"),
    "fresh processes": ("_RESTARTS", 0, "other bits"),
    "patience that ends": ("PATIENCE", 10**9, "hang"),
    "sharing where an error is heard": ("shared", lambda batch: batch, "hang"),
}


@pytest.mark.parametrize("what", share(MUTANTS, ["the row in hand", "fresh processes"]))
def test_the_check_notices_what_is_missing(
    index: Index, bits: str, tally: Tally, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, instead, noticed = MUTANTS[what]
    place = batches if name in ("reading", "shared") else workers
    monkeypatch.setattr(place, name, instead)
    if noticed == "hang":
        monkeypatch.setattr(sys.modules[__name__], "HANG_S", 4)
    if name == "shared":
        monkeypatch.setattr(workers, "PATIENCE", 10**9)
        found = small_memory(index, 18)
    else:
        fault = "no end" if name == "PATIENCE" else "SIGKILL"
        found = outcome(faulty(index, fault, tmp_path / "done" if name == "_RESTARTS" else None))
    assert noticed in problems(found, index, "bits" if name == "_RESTARTS" else "named", bits)
    tally.count("mutants", caught=1, escaped=0)


def test_a_scan_in_the_same_process_dies(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder_of(tmp_path / "data", 10)
    crashing(monkeypatch, {"003.png"})
    monkeypatch.setattr(apart, "FORKS", False)
    code, _ = forked(partial(lambda: len(load_data(DataSettings(path=str(place), on_bad="skip")).bad)))
    assert code == -signal.SIGSEGV
    tally.count("mutants", caught=1, escaped=0)
