"""Which files a command reads and changes, by Python's own auditing; its forks are heard, too."""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forked import forked

# What Python's auditing calls a change: the arguments that name what is changed, and the one with their folder, if any.
CHANGES: dict[str, tuple[tuple[int, ...], int]] = {
    "os.remove": ((0,), 1),
    "os.rmdir": ((0,), 1),
    "os.mkdir": ((0,), 2),
    "os.rename": ((0, 1), 2),
    "os.link": ((1,), 3),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), 9),
    "os.chmod": ((0,), 2),
    "os.chown": ((0,), 3),
    "os.utime": ((0,), 3),
    "os.setxattr": ((0,), 9),
    "os.removexattr": ((0,), 9),
}


@dataclass(frozen=True)
class Touched:
    """What a command did: its exit code, what it wrote to stdout and stderr, and files by their real paths."""

    code: int
    text: bytes
    read: set[str]
    changed: set[str]

    def below(self, folder: Path, names: set[str]) -> list[str]:
        """Those of `names` that are `folder` or lie in it."""
        return sorted(name for name in names if Path(name).is_relative_to(os.path.realpath(folder)))


def touched_by(work: Callable[[], int], wait_s: float = 120.0) -> Touched:
    """Do `work` in a fork that is listened to."""
    file, place = tempfile.mkstemp()
    into = os.open(place, os.O_WRONLY | os.O_APPEND)  # so that lines of several processes stay whole

    def heard() -> int:
        sys.stderr = sys.stdout

        def hear(event: str, arguments: tuple[object, ...]) -> None:
            for kind, path in _told(event, arguments):
                os.write(into, json.dumps([kind, path]).encode() + b"\n")

        sys.addaudithook(hear)
        return work()

    try:
        code, text = forked(heard, wait_s)
    finally:
        os.close(into)
        Path(place).unlink()
    with os.fdopen(file) as lines:
        found = [json.loads(line) for line in lines]
    read, changed = ({path for kind, path in found if kind == one} for one in ("read", "change"))
    return Touched(code, text, read, changed)


def typed(*words: str) -> Callable[[], int]:
    """The command `imgkit WORDS`, as work for a fork."""

    def command() -> int:
        from imgkit.cli import app

        sys.argv = ["imgkit", *words]
        try:
            app.main()
        except SystemExit as end:
            return int(end.code or 0)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            return 1
        return 0

    return command


def each_ends_with(codes: Collection[int], commands: Iterable[Sequence[str]]) -> Callable[[], int]:
    """Several commands as work for one fork, which ends with 0 if each ends with one of these codes."""

    def work() -> int:
        for words in commands:
            code = typed(*words)()
            if code not in codes:
                print(f"{words} ended with {code}")
                return 1
        return 0

    return work


def _told(event: str, arguments: tuple[object, ...]) -> Iterator[tuple[str, str]]:
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not isinstance(path, int):  # a file that is open already
            yield "change" if writes else "read", os.path.realpath(_text(path))
    elif event in CHANGES:
        places, folder = CHANGES[event]
        for place in places:
            path = arguments[place]
            yield "change", _named(_of_descriptor(path) if isinstance(path, int) else _text(path), arguments, folder)


def _named(path: str, arguments: tuple[object, ...], folder: int) -> str:
    """The real path of a name: its folder's links are followed, its own is not."""
    inside = arguments[folder] if folder < len(arguments) else -1
    base = _of_descriptor(inside) if isinstance(inside, int) and inside >= 0 else "."
    parent, name = os.path.split(os.path.join(base, path))  # noqa: PTH118
    return os.path.join(os.path.realpath(parent), name)  # noqa: PTH118


def _of_descriptor(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _text(path: object) -> str:
    return os.fsdecode(path)  # type: ignore[arg-type]
