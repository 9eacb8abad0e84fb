"""The images of an evaluation that are worth a look: its surest mistakes, its least sure right answers, and pictures.

The pictures were stored by the evaluation (`images.json`); they are put into the page as they are, as far as there is
room. Which image was answered how is told from predictions.csv, so that a page without pictures has the same list.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgkit.data.rows import count, listed
from imgkit.probabilities import Floats
from imgkit.report.stored import Answers, AnswersOfSets, Stored

MISTAKES, UNSURE = 24, 12
"""How many are listed."""
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


@dataclass(frozen=True)
class Gallery:
    """Images that are shown.

    Args:
        mistakes: wrong answers, the surest first.
        unsure: right answers, the least sure first.
        others: pictures of frequent confusions.
        wrong: how many answers are wrong in all.
        stored: whether the evaluation has pictures.
        notes: why some are missing.
    """

    mistakes: tuple[Example, ...]
    unsure: tuple[Example, ...]
    others: tuple[Example, ...]
    wrong: int
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
    answers = stored.answers
    sure = _sure(answers)
    wrong = np.flatnonzero(~answers.right)
    mistakes = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    right = np.flatnonzero(answers.right)
    unsure = right[np.argsort(sure[right], kind="stable")][:UNSURE]
    pictures, has_images, notes = _pictures(stored)
    rest = [row for row in pictures if row not in {*mistakes.tolist(), *unsure.tolist()}]

    def examples(rows: list[int]) -> tuple[Example, ...]:
        return tuple(_example(stored, row, float(sure[row]), pictures.get(row, {})) for row in rows)

    return Gallery(
        mistakes=examples(mistakes.tolist()),
        unsure=examples(unsure.tolist()),
        others=examples(rest),
        wrong=len(wrong),
        stored=has_images,
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


def _example(stored: Stored, row: int, sure: float, picture: Mapping[str, str]) -> Example:
    answers, classes = stored.answers, stored.classes
    if isinstance(answers, Answers):
        true, answered = classes[answers.targets[row]], classes[answers.predicted[row]]
    else:
        names = [[classes[code] for code in np.flatnonzero(one[row])] for one in (answers.targets, answers.predicted)]
        true, answered = (" + ".join(found) or "no label" for found in names)
    return Example(row, answers.paths[row], true, answered, None if np.isnan(sure) else sure, **picture)


def _pictures(stored: Stored) -> tuple[dict[int, dict[str, str]], bool, list[str]]:
    """The stored pictures by row, whether there are any, and what is missing of them."""
    try:
        content = json.loads((stored.folder / "images.json").read_text(encoding="utf-8"))
        entries = list(content["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, False, []
    found, room, paths = dict[int, dict[str, str]](), ROOM, stored.answers.paths
    notes = [str(content["note"])] if content.get("note") else []
    for entry in entries:
        row = entry["row"]
        if not isinstance(row, int) or not 0 <= row < len(paths) or paths[row] != entry["path"]:
            notes.append("Pictures that do not belong to these predictions are left out.")
            return {}, False, notes
        picture = _data(stored.folder / "images", entry["file"])
        overlay = _data(stored.folder / "images", entry.get("cam"))
        if not picture or len(picture) > room:
            continue
        room -= len(picture)
        found[row] = {"picture": picture}
        if overlay and len(overlay) <= room:
            room -= len(overlay)
            found[row] |= {"overlay": overlay, "overlay_of": str(entry.get("cam_of") or "")}
    gone = content.get("left_out", ())
    if gone:
        files = listed(str(one["path"]) for one in gone)
        notes.append(f"{count(len(gone), 'picture')} could not be read when this was scored: {files}")
    if len(found) < len(entries):
        notes.append(
            f"{count(len(entries) - len(found), 'stored picture')} did not fit into this page, or cannot be read."
        )
    return found, True, notes


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
