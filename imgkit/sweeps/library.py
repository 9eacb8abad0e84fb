"""Optuna, as imgkit uses it: whether it is there, and what it is not to say on the screen."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from imgkit.errors import UsageError
from imgkit.recipe.monitors import Way

Direction = Literal["maximize", "minimize"]


def direction_of(way: Way) -> Direction:
    """What Optuna calls it."""
    return "maximize" if way == "max" else "minimize"


def require_optuna() -> None:
    """See that Optuna is there.

    Raises:
        UsageError: if it is not.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "Sweeps are searched by Optuna, which is not installed.", 'Install it:  pip install "imgkit-timm[sweep]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its own lines: what is going on is said by imgkit


@contextmanager
def quiet() -> Iterator[None]:
    """While inside, two warnings of Optuna are not shown: of what it calls experimental, and of what is meant here."""
    with warnings.catch_warnings():
        from optuna.exceptions import ExperimentalWarning

        warnings.simplefilter("ignore", ExperimentalWarning)
        # The loop is imgkit's, and so are the heartbeats.
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")
        yield
