"""Batches that are sent to a device ahead: the same ones, in order, and an error in its turn."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from oracle import fingerprint, short_run

from imgkit.ahead import Ahead
from imgkit.data.batches import Batch
from imgkit.errors import BadImage

CPU = torch.device("cpu")


def batches(count: int, log: list[str] | None = None, bad: int | None = None) -> Iterator[Batch]:
    for number in range(count):
        if log is not None:
            log.append(f"read {number}")
        if number == bad:
            raise BadImage("x.png", "is torn")
        images = torch.full((2, 3, 4, 4), number, dtype=torch.uint8)
        yield Batch(images, torch.tensor([number, number]), torch.tensor([2 * number, 2 * number + 1]))


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As if this processor had streams: what is done to them, in order."""
    log: list[str] = []

    class Stream:
        def wait_stream(self, other: object) -> None:
            log.append("wait")

    def sent(ahead: Ahead, values: torch.Tensor) -> torch.Tensor:
        log.append(f"send {int(values.flatten()[0])}")
        return values.clone()

    begin = Ahead.__init__

    def with_stream(ahead: Ahead, found: Iterator[Batch], device: torch.device, **how: bool) -> None:
        begin(ahead, found, device, **how)
        ahead._stream = Stream()  # type: ignore[assignment]

    monkeypatch.setattr(Ahead, "__init__", with_stream)
    monkeypatch.setattr(Ahead, "_sent", sent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append("keep"))
    return log


def test_the_next_batch_is_sent_while_one_is_in_use(beside: list[str]) -> None:
    coming = Ahead(batches(3, beside), CPU)
    for number, batch in enumerate(coming):
        assert batch.images.unique().tolist() == batch.targets.unique().tolist() == [number]
        assert batch.ids.tolist() == [2 * number, 2 * number + 1]
        beside.append(f"use {number}")
        coming.fetch()
        coming.fetch()  # of the second micro-batch
    sent = [[f"read {n}", f"send {n}", f"send {n}", "wait", "keep", "keep", f"use {n}"] for n in (1, 2)]
    assert [one for one in beside if one != "keep"] == [
        one for one in ["read 0", "use 0", *sent[0], *sent[1]] if one != "keep"
    ]


def test_a_batch_that_is_used_in_parts_is_not_sent_whole() -> None:
    class Values:
        def pin_memory(self) -> str:
            return "pinned"

    values: Any = Values()
    assert Ahead(iter(()), CPU, whole=False)._sent(values) == "pinned"


def test_what_nobody_will_use_is_let_go(beside: list[str]) -> None:
    coming = Ahead(batches(3), CPU)
    next(coming)
    coming.fetch()
    coming.close()
    assert list(coming) == []


def test_an_error_waits_for_its_turn(beside: list[str]) -> None:
    coming = Ahead(batches(3, bad=1), CPU)
    assert next(coming).ids.tolist() == [0, 1]
    coming.fetch()
    coming.fetch()
    for _ in range(2):
        with pytest.raises(BadImage, match=r"x\.png"):
            next(coming)


def test_without_streams_nothing_is_read_ahead() -> None:
    log: list[str] = []
    coming = Ahead(batches(2, log), CPU)
    next(coming)
    coming.fetch()
    assert log == ["read 0"]
    assert [batch.ids.tolist() for batch in coming] == [[2, 3]]


def test_a_run_is_the_same(tmp_path: Any, request: pytest.FixtureRequest) -> None:  # noqa: ANN401
    plain = short_run(tmp_path / "plain", "augment.mixup=0.4")
    log = request.getfixturevalue("beside")
    ahead = short_run(tmp_path / "ahead", "augment.mixup=0.4")
    assert log.count("wait") > 10
    assert fingerprint(ahead) == fingerprint(plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_bits_are_those_of_a_plain_copy() -> None:
    device = torch.device("cuda")
    made = [
        Batch(torch.randint(256, (64, 3, 224, 224), dtype=torch.uint8), torch.arange(64), torch.arange(64) + n)
        for n in range(20)
    ]
    weight = torch.randn(3 * 224 * 224, 512, device=device)
    coming, sums = Ahead(iter(copy.deepcopy(made)), device), []
    for batch in coming:
        assert batch.ids.device == CPU
        images = batch.images.to(device)
        work = images.float().flatten(1) @ weight
        coming.fetch()
        assert torch.equal(images.cpu(), made[len(sums)].images)
        sums.append(float(work.sum()))
    assert len(sums) == len(made)
