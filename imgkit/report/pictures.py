"""The images of an evaluation that are worth a look: its surest mistakes, its least sure right answers, and pictures.

The pictures were stored by the evaluation (`images.json`); they are put into the page as they are, as far as there is
room. Which image was answered how is told from predictions.csv, so that a page without pictures has the same list.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgkit.data.rows import count, listed
from imgkit.evidence_rows import MISTAKES, UNSURE
from imgkit.probabilities import Floats
from imgkit.report.stored import Answers, AnswersOfSets, Stored

ROOM = 680_000
"""Characters that all pictures of a page may take: 64 of them with maps, and a page below 1 MB."""
_NAME = re.compile(r"[0-9a-z][0-9a-z-]*\.webp")


@dataclass(frozen=True)
class Example:
    """An image and what was answered.

    Args:
        row: of predictions.csv, from 0.
        path: as there.
        true: its class or labels.
        answered: the answer.
        sure: how probable that was said to be, in [0, 1]; None where it is not stored.
        picture: what its `<img>` shows, as `data:`; "" where there is none.
        overlay: the same with a map over it; "" where there is none.
        overlay_of: the class that the map is of.
    """

    row: int
    path: str
    true: str
    answered: str
    sure: float | None
    picture: str = ""
    overlay: str = ""
    overlay_of: str = ""


class _Picture(NamedTuple):
    """What an image has in `Example`, and for what the evaluation chose it: "mistake", "unsure", "cell"."""

    picture: str = ""
    overlay: str = ""
    overlay_of: str = ""
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Images that are shown.

    With more labels than predictions.csv has probabilities of, the mistakes and the unsure answers are those that the
    evaluation stored pictures of; without these, the mistakes are the first ones.

    Args:
        mistakes: wrong answers, the surest first where `ordered`.
        unsure: right answers, the least sure first; none where they are not `ordered`.
        others: pictures of frequent confusions.
        wrong: how many answers are wrong in all.
        ordered: whether it is known which answers were sure.
        stored: whether the evaluation has pictures.
        notes: why some are missing.
    """

    mistakes: tuple[Example, ...]
    unsure: tuple[Example, ...]
    others: tuple[Example, ...]
    wrong: int
    ordered: bool
    stored: bool
    notes: tuple[str, ...]

    @property
    def maps(self) -> bool:
        """Whether some picture has a map."""
        return any(one.overlay for one in (*self.mistakes, *self.unsure, *self.others))


def gallery_of(stored: Stored) -> Gallery:
    """The images of an evaluation to look at.

    Raises:
        OSError, ValueError, KeyError: if predictions.csv cannot be read.
    """
    answers, pictures, notes = stored.answers, *_pictures(stored)
    sure, wrong = _sure(answers), np.flatnonzero(~answers.right)
    ordered = not np.isnan(sure).any()
    if ordered:
        right = np.flatnonzero(answers.right)
        mistakes = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES].tolist()
        unsure = right[np.argsort(sure[right], kind="stable")][:UNSURE].tolist()
    else:
        mistakes, unsure = ([row for row, one in pictures.items() if why in one.why] for why in ("mistake", "unsure"))
        ordered = bool(mistakes)
        mistakes = mistakes or wrong[:MISTAKES].tolist()

    def examples(rows: Iterable[int]) -> tuple[Example, ...]:
        return tuple(_example(stored, row, float(sure[row]), pictures.get(row, _Picture())) for row in rows)

    return Gallery(
        mistakes=examples(mistakes),
        unsure=examples(unsure),
        others=examples(row for row in pictures if row not in {*mistakes, *unsure}),
        wrong=len(wrong),
        ordered=ordered,
        stored=bool(pictures),
        notes=tuple(notes),
    )


def _sure(answers: Answers | AnswersOfSets) -> Floats:
    """How sure each image's answer was, (N,): of labels, the surest wrong one, or the least sure of right ones."""
    if isinstance(answers, Answers):
        return answers.prob
    if answers.probs is None:
        return np.full(len(answers.paths), np.nan)
    wrong = answers.targets != answers.predicted
    each = np.where(answers.predicted, answers.probs, 1 - answers.probs)
    sure: Floats = np.where(answers.right, each.min(axis=1), np.where(wrong, each, -1.0).max(axis=1))
    return sure


def _example(stored: Stored, row: int, sure: float, one: _Picture) -> Example:
    answers, classes = stored.answers, stored.classes
    if isinstance(answers, Answers):
        true, answered = classes[answers.targets[row]], classes[answers.predicted[row]]
    else:
        sets = (answers.targets[row], answers.predicted[row])
        true, answered = (" + ".join(classes[code] for code in np.flatnonzero(has)) or "no label" for has in sets)
    told = None if np.isnan(sure) else sure
    return Example(row, answers.paths[row], true, answered, told, one.picture, one.overlay, one.overlay_of)


def _pictures(stored: Stored) -> tuple[dict[int, _Picture], list[str]]:
    """The stored pictures by row, in the order of images.json, and what is missing of them."""
    try:
        return _placed(stored, json.loads((stored.folder / "images.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return {}, [f"images.json cannot be read ({reason}), so pictures are left out."]


def _placed(stored: Stored, content: Mapping[str, Any]) -> tuple[dict[int, _Picture], list[str]]:
    """The pictures of an images.json, as far as there is room."""
    found, room, paths = dict[int, _Picture](), ROOM, stored.answers.paths
    notes = [str(content["note"])] if content.get("note") else []
    for entry in content["images"]:
        row = entry["row"]
        if not isinstance(row, int) or not 0 <= row < len(paths) or paths[row] != entry["path"]:
            return {}, [*notes, "Pictures that do not belong to these predictions are left out."]
        picture = _data(stored.folder / "images", entry["file"])
        if not picture or len(picture) > room:
            continue
        room -= len(picture)
        overlay = _data(stored.folder / "images", entry.get("cam"))
        if len(overlay) > room:
            overlay = ""
        room -= len(overlay)
        found[row] = _Picture(picture, overlay, str(entry.get("cam_of") or "") if overlay else "", tuple(entry["why"]))
    gone = content.get("left_out", ())
    if gone:
        files = listed(str(one["path"]) for one in gone)
        notes.append(f"{count(len(gone), 'picture')} could not be read when this was scored: {files}")
    missing = len(content["images"]) - len(found)
    if missing:
        notes.append(f"{count(missing, 'stored picture')} did not fit into this page, or cannot be read.")
    return found, notes


def _data(folder: Path, name: object) -> str:
    """A stored WebP as `data:`; "" where there is none, or what is there is none."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return ""
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return ""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return ""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
