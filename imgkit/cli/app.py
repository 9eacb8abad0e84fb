"""The command line: `imgkit COMMAND`. The commands are a thin skin over api.py; heavy imports wait inside them."""

import errno
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from imgkit import __version__
from imgkit.cli import data, doctor, export, labelling, look, lr_find, plot, probe, serve, study, sweep, train
from imgkit.cli.ranks import check_command, say_and_leave
from imgkit.errors import DeviceError, DiskError, ImgkitError, UsageError, brief, ran_out
from imgkit.machine import tell_openmp
from imgkit.screen import Screen
from imgkit.signals import ending_cleanly

_INTERRUPTED = 130
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell would say
_FULL = {errno.ENOSPC, errno.EDQUOT}


app = typer.Typer(
    name="imgkit",
    help="Train, check and explain image classifiers.",
    epilog="Try:  imgkit demo  ·  help on one command:  imgkit finetune --help",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    check_command(ctx.invoked_subcommand)
    if version:
        print(f"imgkit {__version__}")
    elif ctx.invoked_subcommand is None:
        ctx.get_help()  # prints


data.add_to(app)
labelling.add_to(app)
train.add_to(app)
lr_find.add_to(app)
probe.add_to(app)
study.add_to(app)
sweep.add_to(app)
look.add_to(app)
plot.add_to(app)
serve.add_to(app)
export.add_to(app)
doctor.add_to(app)


def main() -> None:
    """The entry point: every problem a user can mend is a message on stderr and an exit code of its own.

    A bug keeps its traceback and exits 1. IMGKIT_DEBUG=1 shows the traceback of the others too.
    """
    tell_openmp()
    try:
        with ending_cleanly():
            code = _app_for(sys.argv[1:])(prog_name="imgkit", standalone_mode=False)
            print(end="", flush=True)  # not sys.stdout.flush(): there is none where it was closed, `imgkit … >&-`
    except ImgkitError as error:
        if os.environ.get("IMGKIT_DEBUG") == "1":
            raise
        say_and_leave(error)
        sys.exit(error.exit_code)
    except typer.TyperException as error:  # the command line is wrong
        if error.format_message():  # empty: the help was printed instead
            Screen().error(UsageError(_usage_fault(error), _usage_hint(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != 1:  # so Typer and rich answer a broken pipe
            raise  # code of a plugin wants to end, and perhaps says why
        _discard_stdout()
        sys.exit(_BROKEN_PIPE)
    except OSError as error:
        refused = _refusal(error)
        if os.environ.get("IMGKIT_DEBUG") == "1" or refused is None:
            raise
        if error.errno in _FULL:
            _discard_stdout()  # it may be what is full
        Screen().error(refused)
        sys.exit(refused.exit_code)
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("IMGKIT_DEBUG") == "1" or not ran_out(error):
            raise
        told = DeviceError("Out of memory.", "Close other programs, or use fewer --workers or a smaller network.")
        Screen().error(told)
        sys.exit(told.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _app_for(words: Sequence[str]) -> typer.Typer:
    """The commands, of which only the one that is typed has its options: to make those of all takes a fifth of a start.

    A shell that completes gets them all.
    """
    if "_IMGKIT_COMPLETE" in os.environ:
        return app
    typed, small = next((word for word in words if not word.startswith("-")), None), copy(app)
    small.registered_commands = [
        info if info.callback is None or _name(info) == typed else _bare(info) for info in app.registered_commands
    ]
    small.registered_groups = [copy(group) for group in app.registered_groups]
    for group in small.registered_groups:
        if group.name != typed and group.typer_instance is not None:
            group.typer_instance = copy(group.typer_instance)
            group.typer_instance.registered_commands = []
    return small


def _name(info: CommandInfo) -> str:
    return info.name or getattr(info.callback, "__name__", "").replace("_", "-")


def _bare(info: CommandInfo) -> CommandInfo:
    """A command by name and text alone."""

    def command() -> None:
        raise AssertionError("it is listed, and not typed")

    command.__name__, command.__doc__ = getattr(info.callback, "__name__", ""), info.callback.__doc__
    bare = copy(info)
    bare.callback = command
    return bare


def _refusal(error: OSError) -> ImgkitError | None:
    """What the system refused and a user can mend, where nothing below has told it; None for what may be a bug."""
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(f"A name is too long for a file: {brief(error.filename)}", "Give a shorter one.")
    if error.errno in {errno.EACCES, errno.EROFS} and error.filename is not None:
        return DiskError(f"{brief(error.filename)}: {error.strerror}.", "Check the permissions of it and above it.")
    if error.errno in _FULL:
        return DiskError(f"Cannot write: {error.strerror}.", "Free some space where the output or the files go.")
    return None


def _discard_stdout() -> None:
    """`imgkit predict … | head`: what is left in the buffer has nowhere to go, and Python must not say so at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


def _usage_fault(error: typer.TyperException) -> str:
    """What is wrong with the command line; of a value, in the words that a recipe's faults have."""
    from pydantic import ValidationError

    from imgkit.recipe.problems import fault_of

    cause, option = error.__cause__, getattr(error, "param", None)
    if isinstance(cause, ValidationError) and option is not None:
        return f"{option.opts[0]}: {fault_of(cause)}"
    return " ".join(error.format_message().split())  # Typer lists choices one a line, each after a tab


def _usage_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path, message = context.command_path if context else "imgkit", error.format_message()
    if path.endswith(" scratch") and any(f"No such option: {one}" in message for one in ("--weights", "--from")):
        return (
            f"It always starts from random weights: leave it out. From others:  {path.removesuffix('scratch')}finetune"
        )
    word: str = getattr(error.__context__, "option_name", "") or getattr(error, "option_name", "")
    if "No such option" in message and Path(word).exists():
        return f"The file of that name is  {shlex.quote(f'./{word}')}\nHelp:  {path} --help"
    if (there := _elsewhere(message)) is not None:
        return f"It is  {there}\nHelp:  {there} --help"
    form = ""
    if context is not None and message.startswith("Missing "):
        latest = "argument 'NAME'" in message
        form = f"{'The newest run is called latest' if latest else 'Type'}:  {_form(context)}\n"
    return f"{form}Help:  {path} --help"


def _form(context: typer.Context) -> str:
    """All that a command must be given: `imgkit export latest --to onnx`."""
    words = [context.command_path]
    for param in context.command.get_params(context):
        record = param.get_help_record(context) if param.required else None
        if record is not None:
            flag, _, kind = record[0].partition(" ")
            value = kind.strip("<>").partition("|")[0]  # the first of several choices
            words.append(f"{flag} {value}" if flag.startswith("-") else {"NAME": "latest"}.get(flag, flag))
    return " ".join(words)


def _elsewhere(message: str) -> str | None:
    """`imgkit data check` where `imgkit check` was typed, and the other way round; None where there is none such."""
    if not message.startswith("No such command '"):
        return None
    word, root = message.split("'")[1], typer.main.get_command(app)
    groups = {"imgkit": root, **{f"imgkit {name}": one for name, one in getattr(root, "commands", {}).items()}}
    return next((f"{path} {word}" for path, one in groups.items() if word in getattr(one, "commands", {})), None)
