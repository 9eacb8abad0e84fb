"""Commands under torchrun: one process, rank 0, is the command as ever, and the others follow it."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.errors import ImgkitError, UsageError
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.plugin_files import Plugin
    from imgkit.world import World

_TOGETHER = ("finetune", "scratch", "resume", "evaluate", "predict")
_WANTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_HOW = "torchrun --nproc-per-node 2 -m imgkit finetune MODEL --name NAME --resume auto"


def place() -> tuple[int, int] | None:
    """(rank, size) of this process, as torchrun tells it in the environment; None where it is alone.

    Raises:
        UsageError: if what is told there are no numbers.
    """
    if not all(os.environ.get(name) for name in _WANTED):
        return None
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError:
        raise UsageError("RANK and WORLD_SIZE are no numbers in the environment.", f"Start it as:  {_HOW}") from None
    return (rank, size) if size > 1 else None


def follows() -> bool:
    """Whether this process follows another one, which says what there is to say."""
    found = place()
    return found is not None and found[0] > 0


def check_command(name: str | None) -> None:
    """See that a command may be started several times at once, under torchrun.

    Raises:
        UsageError: if it would do its work, and write its files, as often.
    """
    if place() is not None and name not in _TOGETHER:
        raise UsageError(
            f"imgkit {name or ''} runs in one process, and torchrun started {os.environ['WORLD_SIZE']}.",
            f"Start it without torchrun. Several processes share:  imgkit {', '.join(_TOGETHER)}",
        )


def check_training(given: Mapping[str, Any]) -> None:
    """See that the options of a training fit each other, and torchrun.

    Raises:
        UsageError: naming what is missing or cannot be.
    """
    if given["resume"] and given["name"] is None:
        raise UsageError("--resume auto goes on with a run of a known name.", "Give one:  --name NAME --resume auto")
    if given["resume"] and given["folds"] is not None:
        raise UsageError(
            "--resume is not used: --folds goes on with its trainings by itself.", "Leave out --resume auto."
        )
    if place() is None:
        return
    refuse_alone({f"--{name.replace('_', '-')}": given[name] for name in ("folds", "dry_run", "print_recipe")})
    if not given["resume"]:
        raise UsageError(
            "Under torchrun a run has a name and goes on where it was stopped, since torchrun may start it again.",
            f"Give both:  {_HOW}",
        )


def refuse_alone(given: Mapping[str, object]) -> None:
    """See that no option was given that one process alone can do, where torchrun started several.

    Args:
        given: option as typed to its value, which is false where it was not given.

    Raises:
        UsageError: naming the first one.
    """
    flag = next((flag for flag, value in given.items() if value), None)
    if place() is not None and flag is not None:
        raise UsageError(
            f"{flag} is for one process, and torchrun started {os.environ['WORLD_SIZE']}.",
            f"Start it without torchrun, or leave out {flag}.",
        )


@contextmanager
def led(plugins: "tuple[Plugin, ...]" = ()) -> Iterator[None]:
    """Do the block on rank 0, or where this process is alone; the others follow, and end here."""
    found = place()
    if found is None:
        yield
        return
    from imgkit.world import begin

    world = begin(*found)
    if not world.leads:
        _follow(plugins)

    def leave(number: int, frame: object) -> None:
        """Torchrun ends all as soon as one has ended: who is about to say why is not cut short."""
        if not world.over:
            raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except BaseException as error:
        world.over = True
        why = _cause(world, error)
        code = 130 if isinstance(why, KeyboardInterrupt) else getattr(why, "exit_code", getattr(why, "code", 1))
        world.end(code if isinstance(code, int) else 1, why)
        if isinstance(why, ImgkitError) and os.environ.get("IMGKIT_DEBUG") != "1":
            say_and_leave(why)
        if why is error:
            raise
        raise why from error
    world.end(0)


def _cause(world: "World", error: BaseException) -> BaseException:
    """What ends rank 0: where torchrun does since another rank ended, what that one said."""
    if isinstance(error, SystemExit):
        with suppress(RuntimeError):
            return world.told() or error
    return error


def _follow(plugins: "tuple[Plugin, ...]") -> None:
    """Follow rank 0 to the end of this process."""
    from imgkit.following import follow
    from imgkit.world import Lost, current

    world = current()
    assert world is not None, "it has begun"
    try:
        code = follow(world, plugins)
    except Lost as error:
        code = error.exit_code
    except ImgkitError as error:
        world.tell(error)  # rank 0 says it
        code = error.exit_code
    except Exception as error:
        world.tell(error)
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    else:
        world.leave()
        sys.exit(code)
    _leave_at_once(code)


def say_and_leave(error: ImgkitError) -> None:
    """Say what is wrong, once for all ranks; and end this process at once if it is one of several."""
    if not follows():
        Screen().error(error)
    _leave_at_once(error.exit_code)


def _leave_at_once(code: int) -> None:
    """End this process if it has met the others, without a wait for ranks that are gone."""
    world = sys.modules.get("imgkit.world")  # which imports torch
    if world is not None and world.current() is not None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def goes_on(given: Mapping[str, Any]) -> bool:
    """Whether the run that --resume auto names is there, so that it is gone on with."""
    from imgkit.run_names import is_run

    return bool(given["resume"]) and not given["dry_run"] and is_run(Path(given["out"]) / given["name"])
