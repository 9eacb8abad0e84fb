"""The page of labels that are likely wrong: small pictures with what was given and what is suggested."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgkit.errors import BadImage, disk_told
from imgkit.files import replace_bytes
from imgkit.report.html.shell import render
from imgkit.report.pictures import ROOM
from imgkit.sheet import thumbnail

MOST = 96
"""Pictures of a page, at most."""
_SIDE = 128  # pixels
_QUALITY = 75  # of WEBP


@dataclass(frozen=True)
class Suspect:
    """An image to look at.

    Attributes:
        rank: 1 is the most suspect.
        path: as in the data.
        file: the picture.
        given: its label.
        suggested: the class that is more probable.
        prob: of that class, in [0, 1].
        score: the probability of the label, by which they are ranked.
    """

    rank: int
    path: str
    file: Path
    given: str
    suggested: str
    prob: float
    score: float


@dataclass(frozen=True)
class Noise:
    """A class: its images, about how many of their labels are wrong, and what most of those are taken for, or ""."""

    name: str
    images: int
    wrong: float
    mostly: str


@dataclass(frozen=True)
class LabelPage:
    """What the page says.

    Attributes:
        title: of the page.
        facts: names and texts.
        notes: what a reader has to know of the numbers.
        noise: classes, in their order.
        suspects: the most suspect first.
        total: suspects in all, of which the page shows some.
        sheet: name of the CSV that has all.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    noise: Sequence[Noise]
    suspects: Sequence[Suspect]
    total: int
    sheet: str


def write_label_page(page: LabelPage, file: Path, *, max_pixels: int) -> None:
    """Write the page as one file that loads nothing; a picture that cannot be read has a place without one.

    Raises:
        DiskError: if it cannot be written.
    """
    room, shown = ROOM, []
    for suspect in page.suspects[:MOST]:
        picture = _data(suspect.file, max_pixels)
        room -= len(picture)
        if room < 0:
            break
        shown.append((suspect, picture))
    text = render("label_errors.html.j2", title=page.title, page=page, shown=shown)
    with disk_told(file):
        replace_bytes(file, text.encode("utf-8", "surrogateescape"))


def _data(file: Path, max_pixels: int) -> str:
    """The picture, made small, as `data:`; "" where it cannot be read."""
    try:
        picture = thumbnail(file, _SIDE, max_pixels=max_pixels)
    except BadImage:
        return ""
    content = io.BytesIO()
    picture.save(content, format="WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
