"""Ranks of a training in forks of one process, which spares each the import of torch, and the real torchrun."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed
from oracle import write_recipe

import imgkit.following  # noqa: F401  (likewise)
from imgkit.cli import app

LONGEST_S = 90.0
"""In which ranks that are left alone have ended."""


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def words(folder: Path, *more: str, data: str = "synthetic:3x16") -> list[str]:
    """The command line of the usual short run of the name "run" below a folder, with more options."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = ["finetune", "test_resnet", "--recipe", write_recipe(folder), "--data", data, "--workers", "0"]
    return [*usual, "--out", str(folder / "runs"), "--name", "run", "--resume", "auto", *more]


def start(folder: Path, size: int, work: Callable[[int], object]) -> list[int]:
    """Start so many ranks that each do `work`, silently; returns their process ids. 1: alone, as without torchrun."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    return [
        _fork(folder / f"said-{rank}", place | {"RANK": str(rank)} if size > 1 else {}, rank, work)
        for rank in range(size)
    ]


def _fork(said: Path, place: Mapping[str, str], rank: int, work: Callable[[int], object]) -> int:
    child = os.fork()
    if child:
        return child
    code: object = 1
    try:
        os.setpgid(0, 0)
        os.environ.update(place)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        into = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(into, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        torch.set_num_threads(1)
        work(rank)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def command(line: Sequence[str], before: Callable[[int], object] = lambda rank: None) -> Callable[[int], None]:
    """The work of a rank that is given a command line, and does something `before`."""

    def work(rank: int) -> None:
        before(rank)
        sys.argv = ["imgkit", *line]
        app.main()

    return work


def ends(children: Sequence[int], within_s: float = LONGEST_S) -> list[int]:
    """The exit codes of ranks, or minus the signal; as torchrun does, where one fails the others get SIGTERM."""
    codes: dict[int, int] = {}
    end, told = time.monotonic() + within_s, False
    while len(codes) < len(children) and time.monotonic() < end:
        for child in children:
            if child not in codes and (status := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(status[1])
        if any(codes.values()) and not told:
            told = True
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGTERM)
        time.sleep(0.01)
    late = [child for child in children if child not in codes]
    for child in late:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not late, f"ranks {[children.index(child) for child in late]} of {len(children)} had not ended"
    return [codes[child] for child in children]


def train(
    folder: Path,
    size: int,
    *more: str,
    before: Callable[[int], object] = lambda rank: None,
    within_s: float = LONGEST_S,
) -> list[int]:
    """The exit codes of the usual short run on so many ranks."""
    return ends(start(folder, size, command(words(folder, *more), before)), within_s)
