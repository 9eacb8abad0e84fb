"""Static int8: weights and activations in 8 bits, with ranges of activations learnt from training images.

onnxruntime's QDQ form: weights per channel, signed; activations unsigned. Which layers stay in float is chosen among
`TRIALS` by the mean distance of the logits from float's on the calibration images, whose labels are not looked at; so
validation judges a choice that it did not make.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.exports.graph import INPUT, OUTPUT, quiet

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
TRIALS = ("all", "ends in float", "ends and attention in float")
"""What of the network is in int8: all that can be; but for the first layer and the head; nor what has no weights in
transformers: products of activations, softmax and norms."""
_BATCH = 8  # calibration images at a time: the values of every layer are held
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Add", "Clip", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")  # what costs little in int8


@dataclass(frozen=True)
class Quantised:
    """What was chosen.

    Args:
        chosen: of `TRIALS`.
        distances: the mean distance of a logit from float's on the calibration images, by trial.
        n: calibration images.
    """

    chosen: str
    distances: dict[str, float]
    n: int


class Session:
    """An ONNX file that answers: pixels uint8 (B, C, H, W) -> logits float32 (B, K).

    Args:
        file: the network.
        threads: of it; 0: as many as there are cores.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Pixels) -> Logits:
        """The logits of a batch."""
        found: Logits = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(pixels)})[0]
        return found


def quantise(source: Path, file: Path, images: Pixels, threads: int, progress: Callable[[int, int], None]) -> Quantised:
    """Write `source`, an ONNX file in float32, in int8.

    Args:
        source: from `graph.write_onnx`, batch norms folded.
        file: to write.
        images: of train, uint8 (n, C, H, W).
        threads: of onnxruntime.
        progress: called with (trials done, trials in all).
    """
    trials = _trials(source)
    wanted = _answers(Session(source, threads), images)
    distances: dict[str, float] = {}
    for trial, settings in trials.items():
        candidate = file.with_name(f"{len(distances)}-{file.name}")
        _write(source, candidate, images, settings)
        distances[trial] = float(np.abs(_answers(Session(candidate, threads), images) - wanted).mean())
        progress(len(distances), len(trials))
    chosen = min(distances, key=lambda trial: distances[trial])
    for number, trial in enumerate(distances):
        candidate = file.with_name(f"{number}-{file.name}")
        candidate.replace(file) if trial == chosen else candidate.unlink()
    return Quantised(chosen, distances, len(images))


def _answers(session: Session, images: Pixels) -> Logits:
    return np.concatenate([session(images[first : first + _BATCH]) for first in range(0, len(images), _BATCH)])


def _trials(source: Path) -> dict[str, dict[str, Any]]:
    """The settings of onnxruntime for each of `TRIALS` that differs from those before it."""
    import onnx

    graph = onnx.load(source, load_external_data=False).graph
    constants = {one.name for one in graph.initializer}
    weighted = [node for node in graph.node if node.op_type in _WEIGHTED and constants & set(node.input)]
    without = [node.name for node in graph.node if node.op_type == "MatMul" and not constants & set(node.input)]
    ends = [weighted[0].name, weighted[-1].name] if weighted else []
    found: dict[str, dict[str, Any]] = {TRIALS[0]: {}, TRIALS[1]: {"nodes_to_exclude": ends}}
    if without:
        found[TRIALS[2]] = {
            "nodes_to_exclude": [*ends, *without],
            "op_types_to_quantize": [*_WEIGHTED, *_BETWEEN],
        }
    return found


def _write(source: Path, file: Path, images: Pixels, settings: dict[str, Any]) -> None:
    from onnxruntime import quantization

    with quiet():
        quantization.quantize_static(
            str(source),
            str(file),
            _reader(images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            **settings,
        )


def _reader(images: Pixels) -> Any:  # noqa: ANN401  (a class of onnxruntime, which is imported late)
    """The calibration images as onnxruntime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, batches: Iterator[Pixels]) -> None:
            self._batches = batches

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader(images[first : first + _BATCH] for first in range(0, len(images), _BATCH))
