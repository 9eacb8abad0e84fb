"""Predictions as rows, CSV or lines of JSON, of either task: written as they come, and passed on."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from imgkit.cells import Rows, guarded, joined
from imgkit.predict import Prediction

_LINE = 1 << 20  # bytes of a first line that are looked at


def write_csv(
    predictions: Iterable[Prediction], file: TextIO, *, top_k: int = 1, more: Sequence[str] = ()
) -> Iterator[Prediction]:
    """Write each prediction as a CSV row, and pass it on.

    The header is path,label,prob,label_2,prob_2,…,error, with columns `more` before error: some of guess, the most
    likely class where the label is left open as well; rejected; unlike; set. A cell that a spreadsheet would take for a
    formula gets a leading apostrophe.
    """
    rows = Rows(file)
    ranks = [name for rank in range(2, top_k + 1) for name in (f"label_{rank}", f"prob_{rank}")]
    rows.writerow(["path", "label", "prob", *ranks, *more, "error"])
    for given in predictions:
        cells = [guarded(given.label), *_top_cells(given, top_k)[1:]]
        beside = _beside(given)
        rows.writerow([guarded(given.path), *cells, *(beside[name] for name in more), guarded(given.error)])
        yield given


def write_sets_csv(
    predictions: Iterable[Prediction], file: TextIO, *, labels: Sequence[str], top_k: int | None = None
) -> Iterator[Prediction]:
    """The same for a multi-label task: path,labels,p:LABEL,…,error, or path,labels,label_1,prob_1,…,error.

    Args:
        predictions: with `probs`, and `top_k` in `top`.
        file: open for text.
        labels: all of the model, in its order: each has a column with its probability.
        top_k: so many labels with their probabilities, the most likely first, instead of a column for each.
    """
    rows = Rows(file)
    ranks = [name for rank in range(1, (top_k or 0) + 1) for name in (f"label_{rank}", f"prob_{rank}")]
    rows.writerow(["path", "labels", *(ranks or (f"p:{name}" for name in labels)), "error"])
    for given in predictions:
        each = [f"{prob:.6f}" for prob in given.probs] or [""] * len(labels)
        cells = _top_cells(given, top_k) if top_k else each
        rows.writerow([guarded(given.path), guarded(joined(given.labels)), *cells, guarded(given.error)])
        yield given


def _beside(given: Prediction) -> dict[str, str]:
    """The cells of the columns that `write_csv` has on demand."""
    return {
        "guess": guarded(given.top[0][0]) if given.top else "",
        "rejected": given.rejected,
        "unlike": "" if given.unlike is None else f"{given.unlike:.6f}",
        "set": guarded(joined(given.in_set or ())),
    }


def _top_cells(given: Prediction, top_k: int) -> list[str]:
    cells = [cell for label, prob in given.top[:top_k] for cell in (guarded(label), f"{prob:.6f}")]
    return cells + [""] * (2 * top_k - len(cells))


def write_jsonl(predictions: Iterable[Prediction], file: TextIO, *, more: Sequence[str] = ()) -> Iterator[Prediction]:
    """Write each prediction as a line of JSON, `json_row`, and pass it on."""
    for given in predictions:
        file.write(json.dumps(json_row(given, more)) + "\n")
        yield given


def write_sets_jsonl(predictions: Iterable[Prediction], file: TextIO, *, labels: Sequence[str]) -> Iterator[Prediction]:
    """The same for a multi-label task, `json_sets_row`."""
    for given in predictions:
        file.write(json.dumps(json_sets_row(given, labels)) + "\n")
        yield given


def json_row(given: Prediction, more: Sequence[str] = ()) -> dict[str, object]:
    """A prediction as an object of JSON: path, label, prob, top, `more` as `write_csv`, error.

    `label` and `prob` are None where the file cannot be read, `label` where it is left open.
    """
    top = _top_json(given)
    best: Mapping[str, str | float | None] = {"label": None, "prob": None} if given.error else top[0]
    if given.rejected:
        best = {**best, "label": None}
    beside = {
        "guess": given.top[0][0] if given.top else None,
        "rejected": given.rejected or None,
        "unlike": None if given.unlike is None else round(given.unlike, 6),
        "set": given.in_set,
    }
    return {"path": given.path, **best, "top": top, **{name: beside[name] for name in more}, "error": given.error}


def json_sets_row(given: Prediction, labels: Sequence[str]) -> dict[str, object]:
    """The same for a multi-label task: path, labels, probs, top, error; `probs` has the probability of each label.

    `labels` and `probs` are None where the file cannot be read.
    """
    answer: dict[str, object] = {"labels": None, "probs": None}
    if not given.error:
        probs = {name: round(prob, 6) for name, prob in zip(labels, given.probs, strict=True)}
        answer = {"labels": given.labels, "probs": probs}
    return {"path": given.path, **answer, "top": _top_json(given), "error": given.error}


def _top_json(given: Prediction) -> list[dict[str, str | float]]:
    return [{"label": label, "prob": round(prob, 6)} for label, prob in given.top]


def holds_answers(file: Path) -> bool:
    """Whether a file is empty or begins like what is written here, so that it may be written anew."""
    with file.open("rb") as stream:
        first = stream.readline(_LINE).decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        row = json.loads(first)
        return isinstance(row, dict) and {"path", "top", "error"} <= row.keys()
    try:
        names = next(csv.reader([first]), [])
    except csv.Error:  # no text: such as a picture
        return False
    of_model = names[:3] == ["path", "label", "prob"] or names[:2] == ["path", "labels"]
    return not names or (of_model and names[-1] == "error")
