import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import forked
from loading import ROWS, RULE, TRANSFORM, N, naive, same, training, write_pictures

from imgkit.data import batches, worker_process, workers
from imgkit.data.batches import Batch, EvalReader, eval_batches, train_places
from imgkit.data.decode import load_image
from imgkit.data.index import Index, Ints, PathTable
from imgkit.errors import BadImage


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def test_seeking_reads_nothing_of_the_steps_before() -> None:
    later = train_places(
        np.arange(4), seed=0, first_epoch=0, batch_size=2, steps_per_epoch=2, start=10**15, stop=10**15 + 1
    )
    assert [epoch for epoch, _, _ in next(later)] == [5 * 10**14] * 2


# Batches


def test_spawned_workers_give_the_same(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "start_method", lambda: "spawn")
    with closing(training(index, 1, start=2, stop=5)) as found:
        assert all(same(batch, naive(index, 2 + i)) for i, batch in enumerate(found))


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 5])
def test_workers_that_read_in_turn_give_the_same(index: Index, workers: int) -> None:
    found = list(training(index, workers, in_turn=True))
    assert all(same(batch, naive(index, step)) for step, batch in enumerate(found))
    assert [len(batch.ids) for batch in found] == [4, 4, 3, 4, 4, 3, 4, 4]
    assert {batch.images.stride() for batch in found} == {(192, 1, 24, 3)}, "channels-last memory"


class Noted(Index):
    """An index that writes down which rows were opened."""

    def path(self, row: int) -> Path:
        with (self.root / "opened").open("a") as file:
            file.write(f"{row}\n")
        return super().path(row)


@pytest.mark.parametrize("in_turn", [True, False])
def test_workers_in_turn_read_no_batch_before_it_is_waited_for(index: Index, tmp_path: Path, in_turn: bool) -> None:
    noted = Noted(*(getattr(index, one.name) for one in fields(index)))
    opened = index.root / "opened"
    with closing(training(noted, 2, in_turn=in_turn)) as stream:
        for step in range(3):
            asked = [row for at in range(step + 1) for row in naive(index, at).ids.tolist()]
            next(stream)
            time.sleep(0.3)  # as if the network computed
            read = [int(row) for row in opened.read_text().split()]
            assert (sorted(read) == sorted(asked)) == in_turn
    opened.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there")
def test_a_worker_whose_turn_never_comes_ends_with_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not end it."""
    monkeypatch.setattr(worker_process, "_LOOK_S", 0.05)
    watch = worker_process.Watch(1, "fork", in_turn=True)
    gone = type("Gone", (), {"is_alive": lambda self: False})()

    def work() -> int:
        monkeypatch.setattr(worker_process, "parent_process", lambda: gone)
        try:
            watch.take_up(0, 3)
            watch.take_up(0, worker_process.NONE)
            watch.take_up(0, 4)
        except BaseException:
            return 5
        return 0

    assert forked(work, 20) == (1, b"")


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_keeps_the_order_of_rows(index: Index, workers: int) -> None:
    rows = np.array([12, 3, 0, 11, 7])
    found = list(eval_batches(index, rows, preprocessing=RULE, batch_size=2, workers=workers, max_pixels=10_000))
    assert [len(batch.ids) for batch in found] == [2, 2, 1]
    assert torch.cat([batch.ids for batch in found]).tolist() == rows.tolist()
    assert torch.cat([batch.targets for batch in found]).tolist() == [-1, 0, 0, 2, 1]
    expected = torch.stack([RULE(load_image(index.path(row))) for row in rows.tolist()])
    assert torch.equal(torch.cat([batch.images for batch in found]), expected)


@pytest.mark.parametrize("in_turn", [False, True])
def test_processes_stay_from_one_evaluation_to_the_next(index: Index, in_turn: bool) -> None:
    before, rows = children(), np.array([12, 3, 0, 11, 7])

    def read_here(some: Ints) -> list[Batch]:
        return list(eval_batches(index, some, preprocessing=RULE, batch_size=2, workers=0, max_pixels=10_000))

    def equal(found: list[Batch], expected: list[Batch]) -> bool:
        return len(found) == len(expected) and all(map(same, found, expected))

    reader = EvalReader(index, preprocessing=RULE, batch_size=2, workers=3, max_pixels=10_000, in_turn=in_turn)
    with closing(reader):
        reader.start()
        first = children() - before
        assert len(first) == 3
        for some in (rows, rows, rows[:1], rows[:0], rows[:3], rows):
            assert equal(list(reader.batches(some)), read_here(some))
            assert children() - before == first
        with closing(reader.batches(rows)) as left_early:
            next(left_early)
        assert children() == before, "batches that are on their way would come in the next pass"
        assert equal(list(reader.batches(rows)), read_here(rows))
        assert len(children() - before) == 3
    assert children() == before


def test_nothing_to_evaluate(index: Index) -> None:
    rows = np.array([], dtype=np.int64)
    assert list(eval_batches(index, rows, preprocessing=RULE, batch_size=2, workers=0, max_pixels=1)) == []


# What goes wrong


@pytest.mark.parametrize(("workers", "in_turn"), [(0, False), (2, False), (2, True), (4, True)])
def test_a_bad_file_reaches_the_caller_by_name(index: Index, workers: int, in_turn: bool, tmp_path: Path) -> None:
    """The first one of a batch."""
    for i in range(N):
        (tmp_path / f"{i}.png").write_bytes(index.path(i).read_bytes())
    broken, later = naive(index, 1).ids[1:3].tolist()
    for one in (broken, later):
        (tmp_path / f"{one}.png").write_bytes(b"<html>gone</html>")
    moved = replace(index, root=tmp_path)
    before = children()
    stream = training(moved, workers, in_turn=in_turn)
    assert same(next(stream), naive(index, 0))
    with pytest.raises(BadImage) as caught:
        next(stream)
    assert caught.value.path == str(tmp_path / f"{broken}.png")
    assert "HTML" in caught.value.reason
    assert children() == before  # although the traceback still holds the loader


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_pixels(index: Index, workers: int) -> None:
    with pytest.raises(BadImage, match="is 120 pixels, over the limit of 119"):
        list(eval_batches(index, ROWS, preprocessing=RULE, batch_size=2, workers=workers, max_pixels=119))


@pytest.mark.parametrize("in_turn", [False, True])
def test_closing_ends_the_workers(index: Index, in_turn: bool) -> None:
    before, previous = children(), signal.getsignal(signal.SIGCHLD)
    stream = training(index, 2, in_turn=in_turn)
    next(stream)
    assert len(children() - before) == 2
    assert signal.getsignal(signal.SIGCHLD) == previous
    began = time.monotonic()
    with closing(stream):
        pass
    assert time.monotonic() - began < 4, "torch waits 5 s for a process that does not hear it"
    assert children() == before
    list(training(index, 2))
    assert children() == before
    stream = training(index, 1)
    next(stream)
    del stream
    gc.collect()
    assert children() == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such policy")
def test_workers_do_not_interrupt_the_network(index: Index) -> None:
    before = children()
    with closing(training(index, 2)) as stream:
        next(stream), next(stream)  # each worker has made one
        assert {os.sched_getscheduler(worker) for worker in children() - before} == {os.SCHED_BATCH}
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_signals_to_the_group_do_not_end_the_workers(index: Index) -> None:
    before = children()
    with closing(training(index, 2, stop=60, batch_size=2)) as stream:
        found = [next(stream)]
        for worker in children() - before:
            os.kill(worker, signal.SIGINT)
            os.kill(worker, signal.SIGTERM)
            os.kill(worker, signal.SIGUSR1)
        found += list(stream)
    assert len(found) == 60
    assert same(found[-1], naive(index, 59, batch_size=2))


def test_signals_while_a_worker_starts_do_not_end_it(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = workers.prepare_worker

    def late(watch: workers.Watch, number: int) -> None:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), one)
        prepare(watch, number)

    monkeypatch.setattr(workers, "prepare_worker", late)
    found = list(training(index, 2, stop=6))
    assert len(found) == 6
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


HANDED_OVER = """
import multiprocessing, os, signal, sys, time
from multiprocessing.connection import SocketClient
from multiprocessing.reduction import DupFd
from imgkit.data.worker_process import Watch, prepare_worker

def worker(pipe):
    prepare_worker(Watch(1, "fork"), 0)
    pipe.send(DupFd(os.pipe()[0])._id)  # as torch hands a batch over
    time.sleep(2)

context = multiprocessing.get_context("fork")
mine, other = context.Pipe()
context.Process(target=worker, args=(other,), daemon=True).start()
line = SocketClient(mine.recv()[0])
time.sleep(0.2)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
line.close()
time.sleep(2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there")
@pytest.mark.parametrize("main", ["killed", "alive"])
def test_a_worker_is_silent_where_the_main_process_was_killed(main: str) -> None:
    done = subprocess.run([sys.executable, "-c", HANDED_OVER, main], capture_output=True, text=True, check=False)
    told = "ConnectionResetError" in done.stderr or "EOFError" in done.stderr
    assert told == (main == "alive"), done.stderr
    assert done.returncode == (-signal.SIGKILL if main == "killed" else 0)


def test_a_bug_keeps_its_traceback(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "load_image", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(training(index, 1))


def test_the_bytes_buffer_goes_to_the_workers(index: Index) -> None:
    names = [f"folder/some-name-{i}.png" for i in range(10_000)]
    n = len(names)
    zeros = np.zeros(n, dtype=np.int64)
    splits, hashes = zeros.astype(np.int8), np.zeros((n, 32), dtype=np.uint8)
    large = Index(index.root, PathTable.of(names), ("a",), zeros, np.arange(n + 1), splits, None, zeros, hashes)
    pictures = batches._Pictures(large, TRANSFORM, 0, 1)
    assert len(pickle.dumps(pictures)) < n * (len(names[-1]) + 8 * 6 + 32)


@pytest.fixture(scope="module")
def with_sets(index: Index) -> Index:
    """The same pictures with the sets {}, {a}, {a, c}, {}, ... of labels."""
    sets: list[list[int]] = [[[], [0], [0, 2]][row % 3] for row in range(N)]
    offsets = np.concatenate([[0], np.cumsum([len(codes) for codes in sets])])
    return replace(index, codes=np.concatenate(sets).astype(np.int64), offsets=offsets, task="multilabel")


@pytest.mark.parametrize("workers", [0, 2])
def test_sets_of_labels_are_rows_of_zeros_and_ones(with_sets: Index, workers: int) -> None:
    hot = torch.tensor([[[0, 0, 0], [1, 0, 0], [1, 0, 1]][row % 3] for row in range(N)], dtype=torch.float32)
    found = list(training(with_sets, workers))
    found += eval_batches(with_sets, ROWS, preprocessing=RULE, batch_size=5, workers=workers, max_pixels=10_000)
    assert len(found) == 11
    for batch in found:
        assert batch.targets.dtype == torch.float32
        assert torch.equal(batch.targets, hot[batch.ids])
