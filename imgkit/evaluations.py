r"""The folder of one evaluation: text that a report reads, plus the raw scores.

    predictions.csv      a row an image, see `evaluation_tables`
    scores.safetensors   logits, float32 (N, K); in a multi-label task also targets, uint8 (N, K)
    metrics.json         schema, task, split, step and the metrics
    per_class.csv        a row a class
    confusion.csv        counts, true class by predicted class; not in a multi-label task
    cost.json            how fast the images were scored, and in how much memory, see `cost`
    images.json, images/ in evaluations of the final weights: pictures and maps of some images, see `evidence`

The metrics are computed from the numbers as predictions.csv has them, so anybody can compute them again from it; those
under `uncalibrated` from the logits. A cell that holds a path or a class and starts with = + - @ TAB or CR (after any
apostrophes) gets one apostrophe in front, so that no spreadsheet takes it for a formula; reading takes that apostrophe
away. Bytes of a name that are not UTF-8 are shown as `\udcXX`.
"""

import csv
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from imgkit.bounds import check_tensors
from imgkit.calibration import Calibration
from imgkit.cells import visible
from imgkit.errors import DiskError, DivergedError, printable, typed
from imgkit.evaluation_tables import tables_of
from imgkit.files import put_back, put_in_place, sweep
from imgkit.metrics import Ints, Scored
from imgkit.multilabel import ScoredSets

SCHEMA = 1
Beside = Callable[[Path, Scored | ScoredSets], None]
"""Puts more files into the folder of what was answered, before it takes its place; may raise an OSError."""


def weights_label(about: Mapping[str, Any]) -> str:
    """What names weights in the names of their evaluations: "120", or "120-mean3" for a mean of three checkpoints.

    Args:
        about: "step", and "mean_of" where they are a mean, as config.json, status.json and metrics.json have them.
    """
    return f"{about['step']}" + (f"-mean{len(about['mean_of'])}" if about.get("mean_of") else "")


def write_evaluation(
    folder: Path,
    *,
    paths: Sequence[str],
    targets: Ints | npt.NDArray[np.float32],
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    split: str,
    step: int | None,
    seed: int,
    extra: Mapping[str, object],
    calibration: Calibration | None = None,
    fit_loss: bool = True,
    unwritten: Callable[[DiskError], None] | None = None,
    cost: Mapping[str, Any] | None = None,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Write an evaluation of logits (N, K) as `folder`, in place of one that is there.

    Targets are int64 (N,), or zeros and ones (N, K) in a multi-label task. Returns what metrics.json holds; the keys of
    `extra` stand beside the metrics. `seed` draws the bootstrap. With a `calibration` the probabilities, and with its
    thresholds the labels, are the calibrated ones, and metrics.json has `calibration` and `uncalibrated`. Without
    `fit_loss` it lacks `loss_calibrated`, whose fit takes seconds where images and classes are many. Where the
    folder cannot be written, `unwritten` is called with the error, if given, and the metrics are returned all the same.

    Raises:
        DataError: if there is no image, or one without a label.
        DivergedError: if the scores are not finite.
        DiskError: if the folder cannot be written and nobody takes it; what was there before stays.
    """
    paths = [visible(paths[row]) for row in range(len(targets))]
    classes = [visible(name) for name in classes]
    if calibration is not None and calibration.thresholds is not None:
        shown = {visible(name): value for name, value in calibration.thresholds.items()}
        calibration = replace(calibration, thresholds=shown)
    try:
        tables = tables_of(paths, targets, logits, classes, calibration, seed, fit_loss=fit_loss)
    except DivergedError as error:
        when = "" if step is None else f"After step {step}: "
        raise DivergedError(when + error.message, error.hint) from error
    metrics = {"schema": SCHEMA, "task": tables.task, "split": split, "step": step, **extra, **tables.metrics}

    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid():x}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        put_back(folder.parent)
        sweep(folder.parent)
        for name, rows in tables.files.items():
            _write_csv(temporary / name, rows)
        save_file(tables.arrays, temporary / "scores.safetensors")
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        if cost is not None:
            (temporary / "cost.json").write_text(json.dumps(cost, indent=1) + "\n")
        if beside is not None:
            beside(temporary, tables.scored)
        put_in_place(temporary, folder)
    except (OSError, SafetensorError) as error:
        run = typed(folder.parent.parent)
        failure = DiskError(
            f"Cannot write the evaluation {printable(str(folder))}: {getattr(error, 'strerror', None) or error}.",
            "Free some space or mend the permissions, then:  "
            f"imgkit resume {run}   (a training)   or  imgkit evaluate {run}",
        )
        if unwritten is None:
            raise failure from error
        unwritten(failure)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return metrics


def read_logits(folder: Path) -> npt.NDArray[np.float32] | None:
    """The logits (N, K) of a stored evaluation, in the order of its rows; None where they cannot be read."""
    try:
        check_tensors(folder / "scores.safetensors")
        found: npt.NDArray[np.float32] = load_file(folder / "scores.safetensors")["logits"]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return found


def read_cost(folder: Path) -> dict[str, Any] | None:
    """What cost.json of a stored evaluation holds; None where it cannot be read."""
    try:
        found = json.loads((folder / "cost.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_csv(file: Path, rows: Iterable[Sequence[str]]) -> None:
    with file.open("x", encoding="utf-8", newline="") as stream:
        # The usual CR LF ends a line: csv quotes a name with a CR or LF only where these end lines.
        csv.writer(stream).writerows(rows)
