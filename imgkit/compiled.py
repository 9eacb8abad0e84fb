"""The network of updates compiled by torch: `train.compile = true`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from imgkit.errors import DeviceError, UsageError, brief, ran_out
from imgkit.recipe.plan import PhasePlan

Run = Callable[[Tensor], Tensor]
_WITHOUT = "--set train.compile=false"


def compiled(model: nn.Module) -> Run:
    """What answers as `model` does, in training, by kernels that are compiled for it at the first batch.

    Each size of a batch has kernels of its own, chosen without a measurement, and what was compiled before is
    forgotten: so they do not depend on what the process has done, and a resume goes on to the same bits.

    The function raises:
        DeviceError: if torch cannot compile the network.
    """
    torch.compiler.reset()
    run = torch.compile(model, dynamic=False, options={"deterministic": True})

    def answered(images: Tensor) -> Tensor:
        with compiler_told():
            answers: Tensor = run(images)
        return answers

    return answered


@contextmanager
def compiler_told() -> Iterator[None]:
    """Say in one line that torch cannot compile; what else goes wrong inside stays what it is."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second, which others need not pay

    try:
        yield
    except (TorchDynamoException, RuntimeError) as error:
        said = str(error)
        if "Expected more than 1 value per channel" in said:  # torch's own words for a batch norm, in a wrapping
            raise ValueError(said) from error
        by_compiler = isinstance(error, TorchDynamoException) or "C++ compiler" in said or "Triton" in said
        if ran_out(error) or not by_compiler:
            raise
        why = f"torch {torch.__version__} cannot compile this network here: {brief(error)}"
        hint = "For a processor it needs a C++ compiler (g++), for a GPU Triton. Or leave it out:  "
        raise DeviceError(why, f"{hint}{_WITHOUT}") from error


def check_compile(phases: Iterable[PhasePlan], device: torch.device, ranks: int, *, dry_run: bool = False) -> None:
    """See that what phases ask to be compiled can be, by compiling a small layer if this is no dry run.

    Raises:
        UsageError: if it does not go with what else is asked for.
        DeviceError: if torch finds no compiler that works.
    """
    asked = [phase for phase in phases if phase.settings.compile]
    for phase in asked:
        if phase.settings.grad_checkpointing:
            raise UsageError(
                f"Phase {phase.name!r} asks for compile and for grad_checkpointing, and only one is possible: what is "
                "compiled plans by itself what it computes again.",
                f"Leave one out:  {_WITHOUT}  or  --set train.grad_checkpointing=false",
            )
    if asked and ranks > 1:
        raise UsageError(f"train.compile is for one process, and here are {ranks}.", f"Leave it out:  {_WITHOUT}")
    if asked and not dry_run:
        layer = nn.Sequential(nn.Linear(2, 2), nn.GELU()).to(device)
        answers = compiled(layer)(torch.ones(2, 2, device=device))
        with compiler_told():  # kernels of the backward pass are compiled when it comes
            answers.sum().backward()
