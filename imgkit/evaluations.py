r"""The folder of one evaluation: text that a report reads, plus the raw scores.

    predictions.csv      path, label, predicted, prob, label_prob, label_rank and, up to 100 classes, one `p:CLASS` each
    scores.safetensors   logits, float32 (N, K)
    metrics.json         `imgkit.metrics.summarise`, schema, split, step
    per_class.csv        `imgkit.metrics.per_class`
    confusion.csv        counts, true class by predicted class

The metrics are computed from the numbers as predictions.csv has them, so anybody can compute them again from it. A cell
that holds a path or a class and starts with = + - @ TAB or CR (after any apostrophes) gets one apostrophe in front, so
that no spreadsheet takes it for a formula; reading takes that apostrophe away. Bytes of a name that are not UTF-8 are
shown as `\udcXX`.
"""

import csv
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save_file

from imgkit.cells import guarded
from imgkit.errors import DiskError, printable
from imgkit.metrics import Floats, Ints, Scored, confusion_matrix, per_class, score, softmax, summarise_scored
from imgkit.run import sweep

SCHEMA = 1
WIDEST = 100  # classes up to which predictions.csv has a column for each
_ASIDE = re.compile(r"^\.(.+)\.was-[0-9a-f]+-[0-9a-f]+$")
_COLUMNS = ("path", "label", "predicted", "prob", "label_prob", "label_rank")


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
    targets: Ints,
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    split: str,
    step: int | None,
    seed: int,
    extra: Mapping[str, object],
    unwritten: Callable[[DiskError], None] | None = None,
) -> dict[str, Any]:
    """Write an evaluation of logits (N, K) against targets (N,) as `folder`, in place of one that is there.

    Returns what metrics.json holds; the keys of `extra` stand beside the metrics. `seed` draws the bootstrap. Where the
    folder cannot be written, `unwritten` is called with the error, if given, and the metrics are returned all the same.

    Raises:
        DataError: if there is no image, or one without a label.
        DivergedError: if the scores are not finite.
        DiskError: if the folder cannot be written and nobody takes it; what was there before stays.
    """
    paths = [_visible(paths[row]) for row in range(len(targets))]
    classes = [_visible(name) for name in classes]
    probs = softmax(logits)
    if len(classes) <= WIDEST:
        probs = _as_written(probs)
    scored = score(probs, targets)
    scored = scored._replace(label_prob=_as_written(scored.label_prob[:, None])[:, 0])
    metrics = {"schema": SCHEMA, "split": split, "step": step, **extra, **summarise_scored(scored, classes, seed=seed)}
    confusion = confusion_matrix(scored, len(classes))
    rows = per_class(confusion, classes)

    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid():x}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        _put_back(folder.parent)
        sweep(folder.parent)
        _write_csv(temporary / "predictions.csv", _prediction_rows(paths, scored, probs, classes))
        save_file({"logits": np.ascontiguousarray(logits, dtype=np.float32)}, temporary / "scores.safetensors")
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        _write_csv(temporary / "per_class.csv", _class_rows(rows))
        _write_csv(temporary / "confusion.csv", _confusion_rows(confusion, classes))
        _put_in_place(temporary, folder)
    except (OSError, SafetensorError) as error:
        failure = DiskError(
            f"Cannot write the evaluation {printable(str(folder))}: {getattr(error, 'strerror', None) or error}.",
            "Free some space or mend the permissions, then: imgkit resume (a training) or imgkit evaluate",
        )
        if unwritten is None:
            raise failure from error
        unwritten(failure)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return metrics


def _prediction_rows(
    paths: Sequence[str], scored: Scored, probs: Floats, classes: Sequence[str]
) -> Iterator[Sequence[str]]:
    wide = len(classes) <= WIDEST
    yield [*_COLUMNS, *(f"p:{name}" for name in classes if wide)]
    names = [guarded(name) for name in classes]
    numbers = _form(len(classes))
    for row, (path, target, predicted, label_prob, rank) in enumerate(
        zip(paths, *(column.tolist() for column in scored), strict=True)
    ):
        yield [
            guarded(path),
            names[target],
            names[predicted],
            f"{probs[row, predicted]:.9g}",
            f"{label_prob:.9g}",
            str(rank),
            *((numbers % tuple(probs[row].tolist())).split(",") if wide else ()),
        ]


def _class_rows(rows: Sequence[Mapping[str, str | int | float]]) -> Iterator[Sequence[str]]:
    yield list(rows[0])
    for row in rows:
        yield [guarded(cell) if isinstance(cell, str) else repr(cell) for cell in row.values()]


def _confusion_rows(confusion: Ints, classes: Sequence[str]) -> Iterator[Sequence[str]]:
    names = [guarded(name) for name in classes]
    yield ["label", *names]
    for name, counts in zip(names, confusion.tolist(), strict=True):
        yield [name, *map(str, counts)]


def _write_csv(file: Path, rows: Iterable[Sequence[str]]) -> None:
    with file.open("x", encoding="utf-8", newline="") as stream:
        # The usual CR LF ends a line: csv quotes a name with a CR or LF only where these end lines.
        csv.writer(stream).writerows(rows)


def _put_in_place(temporary: Path, folder: Path) -> None:
    for place in (*temporary.iterdir(), temporary):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if not folder.exists():
        temporary.rename(folder)
        return
    aside = folder.rename(folder.with_name(f".{folder.name}.was-{os.getpid():x}-{secrets.token_hex(4)}"))
    try:
        temporary.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _put_back(place: Path) -> None:
    """Finish what a kill between the two renames of a replacement left: the old evaluation is still there."""
    for entry in list(place.iterdir()):
        if match := _ASIDE.match(entry.name):
            target = place / match[1]
            shutil.rmtree(entry, ignore_errors=True) if target.exists() else entry.rename(target)


def _as_written(values: Floats) -> Floats:
    """Values (N, K) as they read back from text of nine significant digits."""
    form = _form(values.shape[1])
    found = np.empty_like(values)
    for row, numbers in enumerate(values):
        found[row] = [float(text) for text in (form % tuple(numbers.tolist())).split(",")]
    return found


def _form(count: int) -> str:
    return ",".join(["%.9g"] * count)


def _visible(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
