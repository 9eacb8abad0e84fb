"""The command line: `imgkit COMMAND`. The commands are a thin skin over api.py; heavy imports wait inside them."""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imgkit import __version__
from imgkit.cli import data, look, train
from imgkit.errors import ImgkitError
from imgkit.screen import Screen

_INTERRUPTED = 130
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell would say


class Commands(TyperGroup):
    """Commands; a closed pipe (`imgkit predict … | head`) ends them quietly."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
            return found
        except BrokenPipeError:
            # What is left in the buffer has nowhere to go; without this, Python says so at exit.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from None


app = typer.Typer(
    name="imgkit",
    cls=Commands,
    help="Train, check and explain image classifiers.",
    epilog="Try:  imgkit demo  ·  help on one command:  imgkit finetune --help",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"imgkit {__version__}")
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


data.add_to(app)
train.add_to(app)
look.add_to(app)


def main() -> None:
    """The entry point: every problem a user can mend is a message on stderr and an exit code of its own.

    A bug keeps its traceback and exits 1. IMGKIT_DEBUG=1 shows the traceback of the others too.
    """
    try:
        code = app(standalone_mode=False)
    except ImgkitError as error:
        if os.environ.get("IMGKIT_DEBUG") == "1":
            raise
        Screen().error(error)
        sys.exit(error.exit_code)
    except typer.TyperException as error:  # the command line is wrong
        Screen().error(ImgkitError(error.format_message(), _usage_hint(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"Help:  {context.command_path if context else 'imgkit'} --help"
