"""The network as a graph: normalisation in front, written by torch.export or as ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import nn

from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import UsageError, WeightsError, brief, ran_out
from imgkit.exports.formats import EXTERNAL

INPUT, OUTPUT = "pixels", "logits"
OPSET = 20  # of ONNX: the newest that torch writes by itself (2.14), read by onnxruntime from 1.17 on
_MOST = 1_900_000_000  # bytes of weights in one ONNX message, which has 2 GiB at most
_BATCH = 2  # images of the example: of one, torch.export would take the number for a constant


class OfPixels(nn.Module):
    """Pixels uint8 (B, C, H, W) -> logits float32 (B, K): a network that normalises by itself.

    Whole numbers go in, so that nobody can normalise twice, or give [0, 1] where [0, 255] is meant.

    Args:
        network: normalised images float32 (B, C, H, W) -> logits (B, K).
        preprocessing: mean and standard deviation of each channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """As `Preprocessing.normalise`, then the network."""
        images = (pixels.to(torch.float32) / 255 - self.mean) / self.std
        logits: torch.Tensor = self.network(images)
        return logits.float()


def require_onnx() -> None:
    """See that ONNX can be written and run.

    Raises:
        UsageError: if a package for it is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"ONNX files are written and run by packages of which {error.name} is not installed.",
            "Install them:  pip install 'imgkit-timm[export]'",
        ) from None
    del onnx, onnxruntime


def traced(network: OfPixels, preprocessing: Preprocessing) -> torch.export.ExportedProgram:
    """The network as a graph of any batch size.

    Raises:
        WeightsError: if torch cannot trace it.
    """
    shape = (_BATCH, preprocessing.channels, *preprocessing.size)
    example = torch.zeros(shape, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with _traceable(), torch.no_grad(), quiet():
        return torch.export.export(network.eval(), (example,), dynamic_shapes={INPUT: {0: batch}})


def write_torch_export(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write a graph for `torch.export.load`: JSON and raw tensors in a zip archive, and nothing pickled.

    Raises:
        OSError: if the disk says no.
    """
    program.example_inputs = None  # the one thing in it that torch would pickle
    with quiet():
        torch.export.save(program, file)


def write_onnx(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write a graph as ONNX; above 1.9 GB of weights with these in a file beside it.

    Raises:
        WeightsError: if an operation has no counterpart in ONNX.
        OSError: if the disk says no.
    """
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    batch = torch.export.Dim("batch", min=1)
    with _traceable(), torch.no_grad(), quiet():
        found = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
        assert found is not None
        found.save(file, external_data=weights > _MOST)
    assert weights <= _MOST or file.with_name(file.name + EXTERNAL).exists()


@contextmanager
def _traceable() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # torch.export raises errors of many classes for what it cannot follow
        if isinstance(error, OSError) or ran_out(error):
            raise
        raise WeightsError(
            f"torch cannot make a graph of this network: {type(error).__name__}: {brief(error)}",
            "A format that needs none:  --to timm",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch, onnxscript and onnxruntime say of their own insides off the terminal; errors stay errors."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            for category in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.filterwarnings(
                    "ignore", category=category, module=r"(torch|onnx|onnxscript|onnx_ir|copyreg)\b"
                )
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
