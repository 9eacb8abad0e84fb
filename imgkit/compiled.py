"""The network of updates compiled by torch: `train.compile = true`."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from imgkit.errors import DeviceError, UsageError, brief
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
    from torch._dynamo.exc import TorchDynamoException  # takes a second, which others need not pay

    torch.compiler.reset()
    run = torch.compile(model, dynamic=False, options={"deterministic": True})

    def answered(images: Tensor) -> Tensor:
        try:
            answers: Tensor = run(images)
        except (TorchDynamoException, RuntimeError) as error:
            if not isinstance(error, TorchDynamoException) and "compil" not in str(error).lower():
                raise
            why = f"torch {torch.__version__} cannot compile this network here: {brief(error)}"
            hint = "For a processor it needs a C++ compiler (g++), for a GPU Triton. Or leave it out:  "
            raise DeviceError(why, f"{hint}{_WITHOUT}") from error
        return answers

    return answered


def check_compile(phases: Iterable[PhasePlan], device: torch.device, ranks: int) -> None:
    """See that what phases ask to be compiled can be, by compiling a small layer.

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
    if asked:
        layer = nn.Linear(2, 2).to(device)
        compiled(layer)(torch.ones(2, 2, device=device)).sum().backward()
