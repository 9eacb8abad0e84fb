"""Whose share of the work is what, and how the shares become one again.

A batch is cut into shards of one size. Each process has one of them; or, in a run with `train.exact_world = V`, V
shards are dealt to however many processes there are, each shard is computed by itself, and what they give is added up
in the order of the shards: then the sum has the same bits whoever computed which.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imgkit.data.batches import Batch
from imgkit.errors import DeviceError, UsageError
from imgkit.mixing import partners
from imgkit.recipe.plan import Plan
from imgkit.world import World

T = TypeVar("T")
_TOLD = 4  # rows of each process
_BUCKET = 1 << 24  # numbers of each shard that are added up at once: 64 MiB in float32


def slice_of(items: Sequence[T], rank: int, size: int, *, before: bool = False) -> list[T]:
    """The items of a batch that are a rank's, whose number `size` divides; `before`: and the one before them."""
    each = len(items) // size
    own = list(items[rank * each : (rank + 1) * each])
    return [items[rank * each - 1], *own] if before and size > 1 else own


def positions(n: int, each: int, rank: int, size: int) -> list[int]:
    """Which of n rows are a rank's, where the ranks take `each` rows in turn."""
    return [place for place in range(n) if place // each % size == rank]


def in_rounds(own: Iterator[Tensor], n: int, each: int, width: int, world: World | None) -> Iterator[Tensor]:
    """What is found of n rows, in their order, some (m, width) at a time; on every rank.

    Args:
        own: of the rows that `positions` gives this rank, (each, width) at a time, the last time fewer.
        n: rows.
        each: that a rank takes in a round.
        width: numbers of a row, float32, on the CPU.
        world: who shares them; None: this process alone.
    """
    if world is None:
        yield from own
        return
    for first in range(0, n, each * world.size):
        with world.joint("round"):
            mine = torch.zeros(each, width)
            if first + world.rank * each < n:
                part = next(own)
                mine[: len(part)] = part
            found = world.gather(mine).flatten(0, 1)[: n - first]  # (size, each, width) -> (m, width)
            world.meet([[]])
        yield found


@dataclass(frozen=True)
class Shards:
    """The shards of the batches of a phase.

    Attributes:
        count: shards of a batch.
        ordered: whether what they give is added up in their order.
        world: the processes that share them; None: this one computes all.
    """

    count: int = 1
    ordered: bool = False
    world: World | None = None

    @property
    def own(self) -> range:
        """The numbers of the shards that this process computes."""
        if self.world is None:
            return range(self.count)
        each = self.count // self.world.size
        return range(self.world.rank * each, (self.world.rank + 1) * each)

    def images(self, given: int, batch_size: int) -> tuple[int, int]:
        """How many images a batch has, and a shard; `given` are those that this process was given."""
        n = given if self.world is None else batch_size
        return n, n // self.count

    def joint(self, lr: float) -> AbstractContextManager[Mapping[str, Any]]:
        """An update that all make at the rate `lr`, which rank 0 says; gives that as "lr"."""
        return nullcontext({"lr": lr}) if self.world is None else self.world.joint("update", lr=lr)

    def meet(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """A row of numbers of each own shard -> those of all, in their order."""
        return [list(row) for row in rows] if self.world is None else self.world.meet(rows)

    def some(self, rows: Sequence[int]) -> list[int]:
        """The first few of the rows that each process has."""
        first = [*rows[:_TOLD], *[-1] * (_TOLD - len(rows))]
        every = self.meet([first] * len(self.own))
        return list(dict.fromkeys(int(row) for found in every for row in found if row >= 0))

    def check(self, model: nn.Module, step: int) -> None:
        """See that the weights are the same on all ranks after `step` updates.

        Raises:
            DeviceError: if they are not.
        """
        if self.world is None:
            return
        sums = torch.tensor([int(_bytes(tensor).sum(dtype=torch.int64)) for tensor in model.state_dict().values()])
        every = self.world.gather(sums)  # (size, tensors)
        other = [rank for rank in range(self.world.size) if not torch.equal(every[rank], every[0])]
        if other:
            raise DeviceError(
                f"After step {step} the weights of rank {other[0]} are not those of rank 0.",
                "Its device computes otherwise: take machines and GPUs of one kind. The run is saved up to the epoch "
                "before.",
            )

    def total(self, vectors: Sequence[Tensor]) -> Tensor:
        """A vector (n,) of each own shard -> the sum of those of all."""
        if self.world is not None and not self.ordered:
            (vector,) = vectors
            self.world.add_up(vector)
            return vector
        found = torch.empty_like(vectors[0])
        for start in range(0, len(found), _BUCKET):
            own = torch.stack([vector[start : start + _BUCKET] for vector in vectors])
            every = own if self.world is None else self.world.gather(own).flatten(0, 1)  # (size, k, b) -> (count, b)
            total = every[0].clone()
            for one in every[1:]:
                total += one
            found[start : start + _BUCKET] = total
        return found


ALONE = Shards()
"""A batch is one shard, computed here."""


def parts_of(n: int, size: int) -> list[slice]:
    """The rows of each micro-batch of a shard of `n`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


class Given(NamedTuple):
    """What this process was given of a batch: its own shards, and the partner of each picture where they are mixed."""

    own: Batch
    partners: tuple[Tensor, Tensor] | None  # images and targets, in the order of `own`

    @classmethod
    def of(cls, batch: Batch, images: int, *, mixed: bool) -> "Given":
        """Of a batch of so many images, or of one more: the one before them, which is the first one's partner."""
        if len(batch.ids) == images:
            return cls(batch, (partners(batch.images), partners(batch.targets)) if mixed else None)
        own = Batch(*(tensor[1:] for tensor in batch))
        return cls(own, (batch.images[:-1], batch.targets[:-1]) if mixed else None)


class ShardSums:
    """What the shards of an update leave in a network, each computed from the same weights and statistics.

    Gradients are added up; running statistics of batch norms, which each shard updates from the same ones, become the
    mean of the shards'.

    Args:
        model: in training mode.
        shards: of the batch.
    """

    def __init__(self, model: nn.Module, shards: Shards) -> None:
        self._model, self._shards = model, shards
        self._vectors: list[Tensor] = []
        modules = () if shards == ALONE else model.modules()
        norms = [one for one in modules if isinstance(one, _BatchNorm) and one.training]
        self._norms = [one for one in norms if one.running_mean is not None]
        self._before = [(tensor, tensor.clone()) for norm in self._norms for tensor in norm.buffers()]

    def take(self) -> int:
        """A shard is computed: keep what it left, and make room for the next one; returns how many numbers it is."""
        if self._shards == ALONE:
            return 0
        left = [*(one.grad for one in self._parameters()), *self._statistics()]
        self._vectors.append(torch.cat([tensor.detach().reshape(-1).float() for tensor in left if tensor is not None]))
        if len(self._vectors) < len(self._shards.own):
            for parameter in self._model.parameters():
                parameter.grad = None
            for tensor, before in self._before:
                tensor.copy_(before)
        return len(self._vectors[-1])

    def put(self) -> None:
        """Put the sums of all shards, of this process and of others, into the network."""
        if self._shards == ALONE:
            return
        total, place = self._shards.total(self._vectors), 0
        self._vectors = []
        for parameter in self._parameters():
            part = total[place : place + parameter.numel()].view(parameter.shape)
            parameter.grad = torch.empty_like(parameter).copy_(part)
            place += parameter.numel()
        for tensor in self._statistics():
            tensor.copy_(total[place : place + tensor.numel()].view(tensor.shape) / self._shards.count)
            place += tensor.numel()

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self._model.parameters() if parameter.grad is not None]

    def _statistics(self) -> list[Tensor]:
        found = [tensor for norm in self._norms for tensor in (norm.running_mean, norm.running_var)]
        return [tensor for tensor in found if tensor is not None]


def _bytes(tensor: Tensor) -> Tensor:
    """uint8 (n,)."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def check_shares(plan: Plan, size: int) -> None:
    """See that so many processes can share the batches of each phase.

    Raises:
        UsageError: naming the phase, and what would fit.
    """
    for phase in plan.phases:
        batch, exact = phase.settings.batch_size, phase.settings.exact_world
        if phase.lr is None:
            continue
        if batch % size:
            smaller = batch // size * size
            fits = [str(number) for number in (smaller, smaller + size) if number]
            raise UsageError(
                f"{size} processes cannot share a batch of {batch} images equally (phase {phase.name!r}).",
                f"Take as many as divide it, or another batch:  --batch-size {' or '.join(fits)}",
            )
        if exact is not None and exact % size:
            raise UsageError(
                f"train.exact_world is {exact} in phase {phase.name!r}, and {size} processes do not divide it.",
                f"Start as many as divide {exact}: {', '.join(str(n) for n in range(1, exact + 1) if exact % n == 0)}.",
            )
