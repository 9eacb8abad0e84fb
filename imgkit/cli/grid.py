"""`imgkit predict --grid`: pictures with the answers below them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgkit.data.rows import count
from imgkit.errors import BadImage, UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.predict import Prediction
    from imgkit.run import RunFolder
    from imgkit.sheet import Tile

MOST = 120
"""Pictures of a grid: the first ones."""
_COLUMNS = 6
_SIDE = 160  # pixels


class Grid:
    """The sheet of one `predict`; without a file it does nothing.

    Args:
        file: the PNG, or None.
        folder: of the run that answers.
        max_pixels: larger images are not opened; None: as in the training.

    Raises:
        UsageError: if `file` is called otherwise.
    """

    def __init__(self, file: Path | None, folder: "RunFolder", max_pixels: int | None) -> None:
        if file is not None and file.suffix.lower() != ".png":
            raise UsageError(f"--grid {printable(str(file))} is no PNG.", "Call it  --grid grid.png")
        self._file = file
        self._folder = folder
        self._max_pixels = max_pixels
        self._tiles: list[Tile] = []
        self._total = 0

    def watched(self, answers: "Iterator[Prediction]") -> "Iterator[Prediction]":
        """The same answers; their pictures are opened a second time on the way."""
        return answers if self._file is None else self._watched(answers)

    def _watched(self, answers: "Iterator[Prediction]") -> "Iterator[Prediction]":
        from imgkit.plots.mistakes import max_pixels_of

        about = self._folder.read_json("run.json")
        classes = about["classes"] if about["task"] == "multilabel" else None
        limit = self._max_pixels or max_pixels_of(self._folder)
        for answer in answers:
            self._total += 1
            if len(self._tiles) < MOST:
                self._tiles.append(_tile(answer, classes, limit))
            yield answer

    def write(self) -> None:
        """Write the PNG of what came by.

        Raises:
            DiskError: if it cannot be written.
        """
        if self._file is None:
            return
        from imgkit.sheet import Sheet, draw_sheet, in_rows, write_png

        write_png(draw_sheet(Sheet(in_rows(self._tiles, _COLUMNS), (_SIDE, _SIDE))), self._file)
        which = f"the first {MOST} of " if self._total > MOST else ""
        Screen().line(f"Wrote {self._file} ({which}{count(self._total, 'picture')})")


def _tile(answer: "Prediction", classes: Sequence[str] | None, max_pixels: int) -> "Tile":
    from imgkit.sheet import Tile, thumbnail

    name = Path(answer.path).name
    if answer.error:
        return Tile(None, ("cannot be read", name))
    try:
        picture = thumbnail(Path(answer.file or answer.path), _SIDE, max_pixels=max_pixels)
    except BadImage:  # gone since it was labelled
        picture = None
    return Tile(picture, (_words(answer, classes), name))


def _words(answer: "Prediction", classes: Sequence[str] | None) -> str:
    """`cat 0.912`, `left open: cat 0.512`; of several labels an image `cat 0.91 · dog 0.77`, or that there is none."""
    if answer.rejected:
        return f"left open: {answer.top[0][0]} {answer.prob:.3f}"
    if classes is None:
        return f"{answer.label} {answer.prob:.3f}"
    probs = dict(zip(classes, answer.probs, strict=True))
    return " · ".join(f"{label} {probs[label]:.2f}" for label in answer.labels) or "no label"
