"""T-P: what a step sees is a function of (seed, step): no matter where a run goes on, or with how many workers."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import Ints, naive, same, training, write_pictures
from oracle import fingerprint, short_run
from tally import Tally

from imgkit import checkpoint, resume
from imgkit.data import batches
from imgkit.data.batches import Place, train_places
from imgkit.data.index import Index
from imgkit.keys import key, order
from imgkit.shares import parts_of

FAMILY = "T-P"
CASES, STEPS, KEYS = 300, 40, 1000
WORKERS = (0, 1, 2, 4)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


# Places: any data, no pictures


@st.composite
def plans(draw: st.DrawFn) -> dict[str, int]:
    """Numbers that a phase may have."""
    n = draw(st.integers(1, 60))
    batch_size = draw(st.integers(1, n))
    steps_per_epoch = n // batch_size if draw(st.booleans()) else -(-n // batch_size)
    stop = draw(st.integers(0, 3 * steps_per_epoch + 2))
    return {
        "n": n,
        "seed": draw(st.integers(0, 2**63 - 1)),
        "first_epoch": draw(st.integers(0, 5)),
        "batch_size": batch_size,
        "steps_per_epoch": steps_per_epoch,
        "start": draw(st.integers(0, stop)),
        "stop": stop,
    }


def places_differ(plan: dict[str, int]) -> bool:
    """Whether what a phase visits is not the order of its epochs, or not what it visits when it goes on."""
    options = dict(plan)
    n, start = options.pop("n"), options.pop("start")
    rows = np.random.default_rng(n).permutation(3 * n)[:n]
    all_of_them = list(train_places(rows, start=0, **options))
    visited = [place for step in all_of_them for place in step]
    reference: list[Place] = []
    for epoch in range(plan["first_epoch"], plan["first_epoch"] + plan["stop"] // plan["steps_per_epoch"] + 1):
        ids = [int(rows[i]) for i in order(plan["seed"], epoch, n)]
        reference += [(epoch, row, 0) for row in ids[: plan["steps_per_epoch"] * plan["batch_size"]]]
    return (
        list(train_places(rows, start=start, **options)) != all_of_them[start:]
        or len(all_of_them) != plan["stop"]
        or visited != reference[: len(visited)]
        or len(set(visited)) != len(visited)  # each epoch sees a row at most once
        or any(type(number) is not int for place in visited for number in place)  # the key tells int from int64
    )


def test_places_follow_the_order_and_resume_anywhere(tally: Tally) -> None:
    seen = 0

    @settings(max_examples=CASES, deadline=None, database=None)
    @given(plan=plans())
    def holds(plan: dict[str, int]) -> None:
        nonlocal seen
        assert not places_differ(plan)
        seen += 1

    holds()
    tally.count(FAMILY, places=seen)


# Batches: pictures, workers, micro-batches


class Case(NamedTuple):
    """A phase that goes on at `start`."""

    rows: int
    batch_size: int
    micro_batch: int
    workers: int
    in_turn: bool
    start: int
    stop: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Numbers that a phase of the 13 pictures may have."""
    rows = draw(st.integers(1, 13))
    batch_size = draw(st.integers(1, rows))
    stop = draw(st.integers(0, 2 * -(-rows // batch_size) + 1))
    start = draw(st.integers(0, stop))
    micro, workers, in_turn = draw(st.integers(1, batch_size)), draw(st.sampled_from(WORKERS)), draw(st.booleans())
    return Case(rows, batch_size, micro, workers, in_turn, start, stop)


def seen(index: Index, case: Case) -> Counter[str]:
    """Samples of a case, and those of them that are not what the definition says, pixel by pixel."""
    rows: Ints = np.random.default_rng(case.rows).permutation(13)[: case.rows].astype(np.int64)
    found = list(training(index, case.workers, case.start, case.stop, case.batch_size, rows, in_turn=case.in_turn))
    wrong = abs(len(found) - (case.stop - case.start))
    for step, batch in enumerate(found, case.start):
        expected = naive(index, step, case.batch_size, rows)
        micro = [batch.ids[part] for part in parts_of(len(batch.ids), case.micro_batch)]
        right = same(batch, expected) and torch.equal(torch.cat(micro), expected.ids)
        wrong += 0 if right and max(map(len, micro)) <= case.micro_batch else len(expected.ids)
    return Counter(cases=1, samples=sum(len(batch.ids) for batch in found), wrong=wrong)


def test_any_batches_with_any_workers_from_any_step(index: Index, tally: Tally, whole: bool) -> None:
    found = Counter[str]()

    @settings(max_examples=CASES if whole else 20, deadline=None, database=None)
    @given(case=cases())
    def holds(case: Case) -> None:
        nonlocal found
        found += seen(index, case)
        assert not found["wrong"]

    holds()
    tally.count(FAMILY, cases=found["cases"], samples=found["samples"], wrong=found["wrong"])


@pytest.mark.parametrize("workers", WORKERS)
def test_equal_to_the_naive_loop_with_any_workers(index: Index, tally: Tally, workers: int) -> None:
    state = torch.get_rng_state()
    found = list(training(index, workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(found) == 8
    assert [len(batch.ids) for batch in found[:3]] == [4, 4, 3]
    assert all(same(batch, naive(index, step)) for step, batch in enumerate(found))
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in found)
    tally.count(FAMILY, samples=sum(len(batch.ids) for batch in found))


# Keys


def collisions(key: Callable[..., int], epochs: int, rows: int) -> int:
    """How many of the keys of `rows` pictures in `epochs` epochs another one has, too."""
    keys = {key(3, "aug", epoch, row) for epoch in range(epochs) for row in range(rows)}
    return epochs * rows - len(keys)


def test_no_two_pictures_share_a_key(tally: Tally, whole: bool) -> None:
    epochs = KEYS if whole else 20
    found = collisions(key, epochs, KEYS)
    assert found == 0
    tally.count(FAMILY, keys=epochs * KEYS, collisions=found)


# Weights


@pytest.mark.timeout(900)
def test_resume_from_every_step(tmp_path: Path, tally: Tally, whole: bool) -> None:
    """A run with a checkpoint after each step: going on from any of them ends with the same bits."""
    longer = ["phases.top.steps=3", "phases.all.epochs=9"] if whole else []
    run = short_run(tmp_path, "save.every_steps=1", "save.keep=all", *longer)
    expected = fingerprint(run)
    place = run.folder.path / "checkpoints"
    every = checkpoint.steps(place)
    assert every == list(range(1, (STEPS if whole else 14) + 1))
    resumed = 0
    for step in reversed([0, *every[:-1]]):
        for later in checkpoint.steps(place):
            if later > step:
                (place / f"step-{later:08d}").rename(tmp_path / f"moved-{step}-{later}")
        run.folder.set_status("stopped", step=step, total_steps=every[-1])
        assert fingerprint(resume("run", out=tmp_path / "runs", workers=0)) == expected, f"from step {step}"
        resumed += 1
    tally.count(FAMILY, resumed=resumed)


# What protects, taken away: the checks above must notice.

LOOSE = ("key without its epoch", "order of the first epoch again", "going on with the epoch", "row of the worker")


@pytest.mark.parametrize("what", LOOSE)
def test_the_check_notices_what_is_missing(
    index: Index, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == LOOSE[0]:
        monkeypatch.setattr(batches, "key", lambda seed, word, epoch, *rest: key(seed, word, 2, *rest))
    elif what == LOOSE[1]:
        monkeypatch.setattr(batches, "order", lambda seed, epoch, n: order(seed, 2, n))
    elif what == LOOSE[2]:

        def from_its_start(rows: Ints, *, start: int, steps_per_epoch: int, **rest: int) -> Iterator[list[Place]]:
            begin = start - start % steps_per_epoch
            return train_places(rows, start=begin, steps_per_epoch=steps_per_epoch, **rest)

        monkeypatch.setattr(batches, "train_places", from_its_start)
    else:

        def of_worker(seed: int, *rest: int | str) -> int:
            worker = torch.utils.data.get_worker_info()
            return key(seed + (worker.id if worker else 0), *rest)

        monkeypatch.setattr(batches, "key", of_worker)
    found = seen(index, Case(rows=11, batch_size=4, micro_batch=3, workers=2, in_turn=True, start=2, stop=5))
    assert found["wrong"] > 0
    tally.count("mutants", caught=1, escaped=0)


@pytest.mark.parametrize("weak", [lambda *parts: hash(parts[2] + parts[3]), lambda *parts: key(*parts) % 2**32])
def test_a_weak_key_is_noticed(tally: Tally, whole: bool, weak: Callable[..., int]) -> None:
    assert collisions(weak, KEYS if whole else 200, KEYS) > 0
    tally.count("mutants", caught=1, escaped=0)
