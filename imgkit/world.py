"""The processes that train together, one for each GPU: how they find each other, and what they tell each other.

torchrun starts them and numbers them by rank. Rank 0 leads: it sends messages that say what is done next, and the other
ranks do their share of it. This is the only module that knows torch.distributed. What goes from one process to another
is JSON and tensors, nothing that is executed.

A rank that dies breaks the connections of the others, which end at once; one that hangs, or whose machine is gone, is
missed by a thread of each within `PATIENCE * BEAT_S` seconds.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load as read_tensors
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from imgkit.errors import DeviceError, ImgkitError, UsageError, brief, ran_out
from imgkit.signals import HEARD, SAVE, Request
from imgkit.tensor_file import parts

BEAT_S = 2.0
"""Seconds between two signs of life."""
PATIENCE = 10
"""Beats without a sign of life from a rank after which it is given up."""
_TOGETHER = timedelta(minutes=10)  # for an exchange that all are at; loader processes are given up after 5
_WAIT = timedelta(days=365)  # for a message: rank 0 may solve a head for hours
_GATHER = timedelta(minutes=5)  # for all to have started
_LAST_WORDS_S = 2.0  # in which a rank that ends says why
_ERROR = "imgkit/error"
_AGAIN = (
    "Type it again, and a training goes on from its last checkpoint; by itself it does so with  "
    "torchrun --max-restarts 3\n"
    "What a rank said before it ended is above."
)


class Lost(DeviceError):
    """Another rank is gone; `exit_code` is what it ended with, where it said that."""


class Left(Exception):
    """Rank 0 does something else than what this rank is at; its message waits."""


class World:
    """The processes of one training.

    Attributes:
        rank: number of this one; 0 leads.
        size: how many there are.
        request: what signals asked of this process; rank 0 hears of those of all ranks in `meet`.
        over: whether this process ends by an error, of its own or of another rank.

    Args:
        rank: as above.
        size: as above.
        store: of torch.distributed, where all find each other.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self.request, self.over = rank, size, Request(), False
        self._store, self._pulse = store, _Pulse(rank, size, store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TOGETHER)
        messages = dist.new_group(backend="gloo", timeout=_WAIT)
        assert isinstance(messages, dist.ProcessGroup), "each rank is in it"
        self._messages = messages
        self._waiting: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self._joint = False
        self._pulse.start()

    @property
    def leads(self) -> bool:
        """Whether this is the rank that decides and writes."""
        return self.rank == 0

    def send(self, word: str, tensors: Mapping[str, Tensor] | None = None, **values: object) -> None:
        """Tell the other ranks what comes next: a word, values as JSON, tensors. Rank 0 alone does."""
        assert self.leads, "rank 0 leads"
        text = json.dumps({"do": word, **values}).encode()
        file = b"".join(parts(tensors)) if tensors else b""
        with self._kept():
            dist.broadcast(torch.tensor([len(text), len(file)]), 0, group=self._messages)
            content = torch.frombuffer(bytearray(text + file), dtype=torch.uint8)
            dist.broadcast(content, 0, group=self._messages)

    def receive(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The next message of rank 0: its word under "do", its values, its tensors on the CPU."""
        if self._waiting is not None:
            found, self._waiting = self._waiting, None
            return found
        with self._kept():
            sizes = torch.zeros(2, dtype=torch.int64)
            dist.broadcast(sizes, 0, group=self._messages)
            text, file = sizes.tolist()
            content = torch.empty(text + file, dtype=torch.uint8)
            dist.broadcast(content, 0, group=self._messages)
        data = content.numpy().tobytes()
        return json.loads(data[:text]), read_tensors(data[text:]) if file else {}

    def give_back(self, message: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
        """Have the next `receive` give this message again."""
        self._waiting = message

    @contextmanager
    def joint(self, word: str, **values: object) -> Iterator[Mapping[str, Any]]:
        """Work that all ranks do at the same time: rank 0 announces it, the others wait for that. Gives the message.

        Raises:
            Left: on another rank than 0, if rank 0 announces something else.
        """
        if self.leads:
            self.send(word, None, **values)
            message: Mapping[str, Any] = values
        else:
            message, tensors = self.receive()
            if message["do"] != word:
                self.give_back((dict(message), tensors))
                raise Left
        self._joint = True
        yield message
        self._joint = False

    def wait(self) -> None:
        """Until all ranks are here, however long that takes."""
        with self._kept():
            dist.barrier(group=self._messages)

    def add_up(self, vector: Tensor) -> None:
        """Replace `vector` (n,) by the sum of those of all ranks, to the same bits on each."""
        with self._kept():
            dist.all_reduce(vector)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, each of the same shape (...), as one (size, ...) in the order of ranks, on each."""
        found = torch.empty((self.size, *tensor.shape), dtype=tensor.dtype, device=tensor.device)
        with self._kept():
            dist.all_gather(list(found.unbind(0)), tensor.contiguous())
        return found

    def meet(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """Rows of numbers of all ranks, as many of each, in the order of ranks; and what signals asked of any of them.

        What asks one rank to stop or to save asks rank 0, which decides.
        """
        asked = [float(self.request.stop == one or (one == SAVE and self.request.save)) for one in HEARD]
        every = self.gather(torch.tensor([[*row, *asked] for row in rows], dtype=torch.float64)).flatten(0, 1).tolist()
        if self.leads:
            for place, number in enumerate(HEARD, start=-len(HEARD)):
                if any(row[place] for row in every):
                    self._ask(number)
        else:
            self.request.save = False  # rank 0 knows now
        return [row[: -len(HEARD)] for row in every]

    def _ask(self, number: int) -> None:
        if number == SAVE:
            self.request.save = True
        elif self.request.stop is None:
            self.request.stop = number

    def tell(self, error: BaseException) -> None:
        """Leave why this rank ends where the others look when they miss it; the first one counts."""
        known = isinstance(error, ImgkitError)
        told = {
            "rank": self.rank,
            "code": getattr(error, "exit_code", 1),
            "message": getattr(error, "message", "") if known else f"{type(error).__name__}: {brief(error)}",
            "hint": getattr(error, "hint", "") if known else "",
        }
        with suppress(RuntimeError):
            if not self._store.check([_ERROR]):
                self._store.set(_ERROR, json.dumps(told))

    def end(self, code: int, error: BaseException | None = None) -> None:
        """Rank 0 is done: the others end with the same exit code."""
        if error is not None:
            self.tell(error)
        if not self._joint and not isinstance(error, Lost):
            with suppress(ImgkitError):
                self.send("end", code=code)
                self.leave()
        self._pulse.stop()

    def leave(self) -> None:
        """All ranks part, at the same time."""
        with suppress(ImgkitError):
            self.wait()
        self._pulse.stop()
        dist.destroy_process_group()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Tell an exchange that fails as the loss of another rank."""
        try:
            yield
        except RuntimeError as error:
            if ran_out(error):
                raise
            raise self._lost(error) from error

    def told(self) -> Lost | None:
        """Why another rank ended, if it said that.

        Raises:
            RuntimeError: if whoever keeps the store is gone.
        """
        if not self._store.check([_ERROR]):
            return None
        told = json.loads(self._store.get(_ERROR))
        lost = Lost(f"Rank {told['rank']} of {self.size}: {told['message']}", told["hint"] or _AGAIN)
        lost.exit_code = told["code"]
        return lost

    def _lost(self, error: RuntimeError) -> Lost:
        self.over = True
        end = time.monotonic() + _LAST_WORDS_S
        with suppress(RuntimeError, ValueError):
            while time.monotonic() < end:
                if (lost := self.told()) is not None:
                    return lost
                time.sleep(0.05)
        return Lost(f"A rank of {self.size} is gone: {brief(error)}", _AGAIN)


class _Pulse(Thread):
    """A sign of life of this rank every few seconds; and an end of this process where those of another one stop.

    Others than rank 0 look at rank 0 alone, which looks at all. No exception can end a thread that waits in an
    exchange, so the process is ended.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        super().__init__(name="signs of life", daemon=True)
        self._own, self._over = f"imgkit/beat/{rank}", Event()
        self._others = [f"imgkit/beat/{other}" for other in range(size if rank == 0 else 1) if other != rank]
        self._store = store.clone()  # a connection of its own: that of the others may be waiting
        self._store.set(self._own, "0")

    def run(self) -> None:
        beats, missed, before = 0, dict.fromkeys(self._others, 0), dict.fromkeys(self._others, b"")
        while not self._over.wait(BEAT_S):
            beats += 1
            try:
                self._store.set(self._own, str(beats))
                found = dict(zip(self._others, self._store.multi_get(self._others), strict=True))
            except RuntimeError:  # whoever keeps the store is gone, or all of them end just now
                if not self._over.wait(2 * BEAT_S):
                    _end("the ranks have lost each other")
                return
            for other in self._others:
                missed[other] = missed[other] + 1 if found[other] == before[other] else 0
                if missed[other] >= PATIENCE:  # beats and no time: a machine may sleep
                    _end(f"rank {other.rpartition('/')[2]} gave no sign of life for {PATIENCE * BEAT_S:.0f} s")
            before = found

    def stop(self) -> None:
        """No sign of life is due any more."""
        self._over.set()


def _end(why: str) -> None:
    with suppress(OSError):
        os.write(2, f"error: {why}; this process ends.\n  {_AGAIN}\n".encode())
    os._exit(DeviceError.exit_code)


def as_tensor(content: bytes) -> Tensor:
    """Bytes as a message takes them, uint8 (n,)."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


_world: World | None = None  # a process is of one


def current() -> World | None:
    """The world that this process is part of; None where it trains alone."""
    return _world


def ranks() -> int:
    """How many processes train together; 1 where this one trains alone."""
    return 1 if _world is None else _world.size


def ranks_here() -> int:
    """How many of them run on this machine."""
    return 1 if _world is None else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def check_device(device: torch.device) -> None:
    """See that each rank has a device of this kind of its own; a rank takes the GPU of its local number.

    Raises:
        UsageError: if one GPU is named for all, or the device is of no kind that ranks can share work on.
        DeviceError: if there are more ranks here than GPUs.
    """
    if _world is None or device.type == "cpu":
        return
    if device.type != "cuda" or device.index is not None:
        raise UsageError(
            f"--device {device} is one device, and {_world.size} processes share the work.",
            "Give --device cuda, and each takes a GPU of its own; or --device cpu.",
        )
    if ranks_here() > torch.cuda.device_count():
        raise DeviceError(
            f"{ranks_here()} processes work on this machine, which has {torch.cuda.device_count()} GPUs.",
            "Start as many as there are GPUs (torchrun --nproc-per-node gpu), or work on the processor: --device cpu",
        )


def begin(rank: int, size: int) -> World:
    """Join the processes that MASTER_ADDR and MASTER_PORT of the environment lead to.

    A signal that would end this process does so at once meanwhile: it waits where Python hears none.

    Raises:
        DeviceError: if they are not found within 5 minutes.
    """
    global _world  # noqa: PLW0603  (a process is of one)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=_GATHER))
        _world = World(rank, size, store)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"Rank {rank} of {size} does not find the others: {brief(error)}",
            "Start all of them with torchrun, with the same --nnodes and --rdzv-endpoint on each machine.",
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return _world
