import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgkit.data import batches, workers
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, Place, eval_batches, train_batches, train_places
from imgkit.data.decode import load_image
from imgkit.data.index import Index, PathTable
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import BadImage
from imgkit.keys import key, order
from imgkit.recipe.augment import AugmentSettings

RULE = Preprocessing((8, 8), 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TRANSFORM = TrainTransform(RULE, AugmentSettings(vflip=0.5, jitter=(0.4, 0.4, 0.4, 0.1)))
N, SEED = 13, 7
ROWS = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12])  # 3 and 10 are held out; 12 has no label


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(N)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(root / name)
    counts = np.array([1] * (N - 1) + [0])
    return Index(
        root=root,
        paths=PathTable.of(names),
        classes=("a", "b", "c"),
        codes=np.arange(N - 1) % 3,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        splits=np.zeros(N, dtype=np.int8),
        groups=None,
        sizes=np.ones(N, dtype=np.int64),
        hashes=np.zeros((N, 32), dtype=np.uint8),
    )


def training(index: Index, workers: int = 0, start: int = 0, stop: int = 8, batch_size: int = 4) -> "Iterator[Batch]":
    return train_batches(
        index,
        ROWS,
        transform=TRANSFORM,
        seed=SEED,
        first_epoch=2,
        batch_size=batch_size,
        steps_per_epoch=-(-len(ROWS) // batch_size),
        start=start,
        stop=stop,
        workers=workers,
        max_pixels=10_000,
    )


def naive(index: Index, step: int, batch_size: int = 4) -> Batch:
    steps_per_epoch = -(-len(ROWS) // batch_size)
    epoch = 2 + step // steps_per_epoch
    shuffled = [int(ROWS[i]) for i in order(SEED, epoch, len(ROWS))]
    first = (step % steps_per_epoch) * batch_size
    ids = shuffled[first : first + batch_size]
    images = [TRANSFORM(load_image(index.path(row)), key(SEED, "aug", epoch, row)) for row in ids]
    targets = [-1 if row == 12 else row % 3 for row in ids]
    return Batch(torch.stack(images), torch.tensor(targets), torch.tensor(ids))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


# Pure order


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_places_follow_the_order_and_resume_anywhere(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 60))
    batch_size = data.draw(st.integers(1, n))
    full = data.draw(st.booleans())
    steps_per_epoch = n // batch_size if full else -(-n // batch_size)
    stop = data.draw(st.integers(0, 3 * steps_per_epoch + 2))
    start = data.draw(st.integers(0, stop))
    seed, first_epoch = data.draw(st.integers(0, 2**63 - 1)), data.draw(st.integers(0, 5))
    rows = np.random.default_rng(n).permutation(3 * n)[:n]

    def places(first: int) -> list[list[Place]]:
        return list(
            train_places(
                rows,
                seed=seed,
                first_epoch=first_epoch,
                batch_size=batch_size,
                steps_per_epoch=steps_per_epoch,
                start=first,
                stop=stop,
            )
        )

    whole = places(0)
    assert places(start) == whole[start:]
    assert len(whole) == stop
    flat = [place for step in whole for place in step]
    assert len(set(flat)) == len(flat)  # each epoch sees a row at most once
    assert all(type(number) is int for place in flat for number in place)  # the key tells int from int64
    reference = []
    for epoch in range(first_epoch, first_epoch + stop // steps_per_epoch + 1):
        ids = [int(rows[i]) for i in order(seed, epoch, n)][: steps_per_epoch * batch_size]
        reference += [(epoch, row, 0) for row in ids]
    assert flat == reference[: len(flat)]
    if not full:
        assert {row for epoch, row, _ in flat if epoch == first_epoch} == set(rows.tolist()) or stop < steps_per_epoch


def test_seeking_reads_nothing_of_the_steps_before() -> None:
    later = train_places(
        np.arange(4), seed=0, first_epoch=0, batch_size=2, steps_per_epoch=2, start=10**15, stop=10**15 + 1
    )
    assert [epoch for epoch, _, _ in next(later)] == [5 * 10**14] * 2


# Batches


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_equal_to_the_naive_loop_with_any_workers(index: Index, workers: int) -> None:
    state = torch.get_rng_state()
    found = list(training(index, workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(found) == 8
    assert [len(batch.ids) for batch in found[:3]] == [4, 4, 3]
    assert all(same(batch, naive(index, step)) for step, batch in enumerate(found))
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in found)


@pytest.mark.parametrize(("start", "workers"), [(0, 2), (1, 0), (2, 2), (3, 0), (5, 1), (7, 0), (8, 0), (8, 2)])
def test_resuming_from_any_step_gives_the_tail(index: Index, start: int, workers: int) -> None:
    found = list(training(index, workers, start=start))
    assert len(found) == 8 - start
    assert all(same(batch, naive(index, start + i)) for i, batch in enumerate(found))


def test_spawned_workers_give_the_same(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "start_method", lambda: "spawn")
    with closing(training(index, 1, start=2, stop=5)) as found:
        assert all(same(batch, naive(index, 2 + i)) for i, batch in enumerate(found))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_keeps_the_order_of_rows(index: Index, workers: int) -> None:
    rows = np.array([12, 3, 0, 11, 7])
    found = list(eval_batches(index, rows, preprocessing=RULE, batch_size=2, workers=workers, max_pixels=10_000))
    assert [len(batch.ids) for batch in found] == [2, 2, 1]
    assert torch.cat([batch.ids for batch in found]).tolist() == rows.tolist()
    assert torch.cat([batch.targets for batch in found]).tolist() == [-1, 0, 0, 2, 1]
    expected = torch.stack([RULE(load_image(index.path(row))) for row in rows.tolist()])
    assert torch.equal(torch.cat([batch.images for batch in found]), expected)


def test_nothing_to_evaluate(index: Index) -> None:
    rows = np.array([], dtype=np.int64)
    assert list(eval_batches(index, rows, preprocessing=RULE, batch_size=2, workers=0, max_pixels=1)) == []


# What goes wrong


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_reaches_the_caller_by_name(index: Index, workers: int, tmp_path: Path) -> None:
    for i in range(N):
        (tmp_path / f"{i}.png").write_bytes(index.path(i).read_bytes())
    broken = naive(index, 1).ids[2].item()
    (tmp_path / f"{broken}.png").write_bytes(b"<html>gone</html>")
    moved = replace(index, root=tmp_path)
    before = children()
    stream = training(moved, workers)
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


def test_closing_ends_the_workers(index: Index) -> None:
    before, previous = children(), signal.getsignal(signal.SIGCHLD)
    stream = training(index, 2)
    next(stream)
    assert len(children() - before) == 2
    assert signal.getsignal(signal.SIGCHLD) == previous
    with closing(stream):
        pass
    assert children() == before
    list(training(index, 2))
    assert children() == before
    stream = training(index, 1)
    next(stream)
    del stream
    gc.collect()
    assert children() == before


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
    prepare = workers._prepare_worker

    def late(watch: workers._Watch, number: int) -> None:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), one)
        prepare(watch, number)

    monkeypatch.setattr(workers, "_prepare_worker", late)
    found = list(training(index, 2, stop=6))
    assert len(found) == 6
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


HANDED_OVER = """
import multiprocessing, os, signal, sys, time
from multiprocessing.connection import SocketClient
from multiprocessing.reduction import DupFd
from imgkit.data import workers

def worker(pipe):
    workers._prepare_worker(workers._Watch(1), 0)
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
