"""Whose share is what; the sums of shards, against sums that are made without them."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from imgkit.data.batches import Batch
from imgkit.errors import DataError, DeviceError, RecipeError, UsageError
from imgkit.mixing import partners
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.shares import ALONE, Given, Shards, ShardSums, check_shares, in_rounds, positions, slice_of
from imgkit.sync_norm import synced
from imgkit.world import World

SIZES = (1, 2, 3, 4)


class Threads:
    """A world whose ranks are threads."""

    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self.board, self.barrier = rank, size, board, barrier

    @contextmanager
    def joint(self, word: str, **values: object) -> Iterator[object]:
        yield values

    def exchanged(self, mine: object) -> list[Any]:
        self.board[self.rank] = mine
        self.barrier.wait(10)
        found = list(self.board)
        self.barrier.wait(10)
        return found

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.exchanged(tensor))

    def meet(self, rows: list[list[float]]) -> list[list[float]]:
        return [row for found in self.exchanged(rows) for row in found]

    def add_up(self, vector: Tensor) -> None:
        vector.copy_(torch.stack(self.exchanged(vector.clone())).sum(dim=0))


def on_all(size: int, work: Callable[[World | None], Any]) -> list[Any]:
    """What each rank's thread finds."""
    board: list[Any] = [None] * size
    barrier, found = threading.Barrier(size), [None] * size

    def run(rank: int) -> None:
        found[rank] = work(cast(World, Threads(rank, size, board, barrier)) if size > 1 else None)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_is_the_slices_of_all_ranks_in_order(size: int) -> None:
    for each in (1, 2, 5):
        batch = list(range(100, 100 + size * each))
        slices = [slice_of(batch, rank, size) for rank in range(size)]
        assert [item for one in slices for item in one] == batch
        assert {len(one) for one in slices} == {each}
        for rank in range(size):
            mixed = slice_of(batch, rank, size, before=True)
            rolled = partners(torch.tensor(batch)).tolist()[rank * each : (rank + 1) * each]
            assert mixed == (batch if size == 1 else [rolled[0], *slices[rank]])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 7, 64, 101])
def test_each_row_is_found_once_and_in_its_place_on_every_rank(n: int, size: int) -> None:
    def work(world: World | None) -> Tensor:
        rank = 0 if world is None else world.rank
        own = torch.tensor(positions(n, 8, rank, size))
        values = torch.stack([own.float(), own.float() ** 2], dim=1)
        return torch.cat(list(in_rounds(iter(values.split(8)), n, 8, 2, world)))

    expected = torch.stack([torch.arange(n).float(), torch.arange(n).float() ** 2], dim=1)
    assert sorted(place for rank in range(size) for place in positions(n, 8, rank, size)) == list(range(n))
    assert all(torch.equal(found, expected) for found in on_all(size, work))


def test_ordered_sums_have_the_same_bits_whoever_has_which_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.shares._BUCKET", 7)  # so that there are several
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 33, generator=draw) * torch.logspace(-4, 4, 33)
    naive = vectors[0].clone()
    for one in vectors[1:]:
        naive = naive + one
    assert not torch.equal(naive, vectors.flip(0).cumsum(0)[-1]), "the order shows"
    for size in (1, 2, 3, 4, 6, 12):

        def work(world: World | None) -> Tensor:
            shards = Shards(12, True, world)
            return shards.total([vectors[number] for number in shards.own])

        assert all(torch.equal(found, naive) for found in on_all(size, work)), size


@pytest.mark.parametrize(("count", "size"), [(4, 1), (4, 2), (2, 2), (4, 4)])
def test_gradients_add_up_and_statistics_are_the_mean_of_the_shards(count: int, size: int) -> None:
    """As if each shard had a network of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    own = [copy.deepcopy(model) for _ in range(count)]
    for network, part in zip(own, images.chunk(count), strict=True):
        (network(part) ** 2).sum().backward()

    def work(world: World | None) -> nn.Module:
        shards, network = Shards(count, count != size, world), copy.deepcopy(model)
        sums = ShardSums(network, shards)
        for number in shards.own:
            (network(images.chunk(count)[number]) ** 2).sum().backward()
            sums.take()
        sums.put()
        return network

    for network in on_all(size, work):
        for name, parameter in network.named_parameters():
            expected = torch.stack([one.get_parameter(name).grad for one in own]).sum(dim=0)  # type: ignore[misc]
            torch.testing.assert_close(parameter.grad, expected)
        for name in ("1.running_mean", "1.running_var"):
            expected = torch.stack([one.get_buffer(name) for one in own]).mean(dim=0)
            torch.testing.assert_close(network.get_buffer(name), expected)
        assert int(network.get_buffer("1.num_batches_tracked")) == 1


def test_a_part_of_a_mixed_batch_has_the_partners_of_the_whole() -> None:
    batch = Batch(torch.arange(12).view(6, 1, 1, 2), torch.arange(6), torch.arange(6))
    whole = Given.of(batch, 6, mixed=True)
    assert whole.partners is not None
    for rank in range(3):
        rows = torch.tensor(slice_of(range(6), rank, 3, before=True))
        part = Given.of(Batch(*(tensor[rows] for tensor in batch)), 2, mixed=True)
        assert part.partners is not None
        here = slice(2 * rank, 2 * rank + 2)
        assert all(torch.equal(one, other[here]) for one, other in zip(part.own, whole.own, strict=True))
        assert all(torch.equal(one, other[here]) for one, other in zip(part.partners, whole.partners, strict=True))
    assert Given.of(batch, 6, mixed=False).partners is None


def test_rows_that_any_rank_names_are_named_by_all() -> None:
    odd = {0: [], 1: [7, 9, 11, 13, 15], 2: [3]}

    def work(world: World | None) -> list[int]:
        assert world is not None
        return Shards(3, False, world).some(odd[world.rank])

    assert on_all(3, work) == [[7, 9, 11, 13, 3]] * 3
    assert ALONE.some([]) == []


def test_what_does_not_divide_a_batch_is_told_with_what_does() -> None:
    plan = make_plan(load_recipe("scratch", sets=["train.batch_size=32"]), 100)
    check_shares(plan, 4)
    with pytest.raises(UsageError, match=r"3 processes cannot share a batch of 32 .*\n.*--batch-size 30 or 33"):
        check_shares(plan, 3)
    with pytest.raises(UsageError, match=r"\n.*--batch-size 64"):
        check_shares(plan, 64)
    exact = make_plan(load_recipe("scratch", sets=["train.batch_size=32", "train.exact_world=4"]), 100)
    check_shares(exact, 2)
    with pytest.raises(UsageError, match=r"train.exact_world is 4 .* 8 processes do not divide it.\n.*: 1, 2, 4\."):
        check_shares(exact, 8)
    solved = make_plan(load_recipe("probe"), 100)
    check_shares(solved, 7)  # a solve has no batches


def test_shards_that_do_not_divide_the_batch_are_refused_before_data_are_read() -> None:
    with pytest.raises(RecipeError, match=r"train.exact_world = 3 .* does not divide the batch_size .*, 32"):
        make_plan(load_recipe("scratch", sets=["train.batch_size=32", "train.exact_world=3"]), 100)
    with pytest.raises(DataError, match=r"10 training images are a batch of 10, .* = 4 .*\n.*--batch-size 8"):
        make_plan(load_recipe("scratch", sets=["train.batch_size=32", "train.exact_world=4"]), 10)
    with pytest.raises(RecipeError, match="exact_world"):
        make_plan(load_recipe("probe", sets=["train.exact_world=4"]), 10)


def test_one_rank_owns_all_shards_and_several_deal_them_in_order() -> None:
    assert ALONE.own == range(1)
    assert ALONE.images(7, 8) == (7, 7)
    worlds = [cast(World, Threads(rank, 2, [], threading.Barrier(1))) for rank in range(2)]
    assert [list(Shards(6, True, world).own) for world in worlds] == [[0, 1, 2], [3, 4, 5]]
    assert replace(ALONE, count=4).images(8, 8) == (8, 2)
    assert Shards(2, False, worlds[0]).images(4, 8) == (8, 4)


def test_weights_that_drift_apart_are_told() -> None:
    def work(world: World | None) -> str:
        assert world is not None
        model = nn.Linear(2, 2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1.0)
        Shards(3, False, world).check(model, 1)
        with torch.no_grad():
            model.bias[0] += (world.rank == 2) * 2.0**-20
        with pytest.raises(DeviceError) as caught:
            Shards(3, False, world).check(model, 2)
        return caught.value.message

    assert set(on_all(3, work)) == {"After step 2 the weights of rank 2 are not those of rank 0."}


@pytest.mark.parametrize("act", [False, True], ids=["plain", "timm's"])
def test_synced_batch_norms_do_what_one_process_does_with_the_whole_batch(act: bool) -> None:
    """Answers, gradients and running statistics, in training; as they are in evaluation."""
    torch.manual_seed(0)
    norm = BatchNormAct2d(4) if act else nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(4 * 36, 2))
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 + 1
    whole = copy.deepcopy(model)
    (whole(images) ** 2).sum().backward()

    def work(world: World | None) -> nn.Module:
        assert world is not None
        shards, network = Shards(3, False, world), copy.deepcopy(model)
        sums = ShardSums(network, shards)
        with synced(world):
            answers = network(images.chunk(3)[world.rank])
        (answers**2).sum().backward()
        sums.take()
        sums.put()
        network.eval()
        with synced(world):
            torch.testing.assert_close(network(images), whole.eval()(images), rtol=1e-4, atol=1e-4)
        return network

    for network in on_all(3, work):
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.grad, whole.get_parameter(name).grad, rtol=1e-4, atol=1e-4)
        for name in ("1.running_mean", "1.running_var"):
            torch.testing.assert_close(network.get_buffer(name), whole.get_buffer(name))


def test_sync_and_exact_world_exclude_each_other() -> None:
    loaded = load_recipe("scratch", sets=["train.batch_norm=sync", "train.exact_world=2"])
    with pytest.raises(RecipeError, match=r"train.exact_world = 2 .* computes each part of a batch by itself"):
        make_plan(loaded, 100)
