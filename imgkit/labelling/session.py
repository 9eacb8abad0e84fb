"""One sitting: images in their order, what the model suggests, and the answers of all tabs."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

from PIL import Image

from imgkit.data.decode import MAX_PIXELS, load_image
from imgkit.errors import BadImage, UsageError, printable
from imgkit.labelling.answers import Answer, Answers

SIDE_PX = 1024
"""The longer side of a picture as it is shown, at most."""
_SMALL_PX = 256  # up to this side a picture is sent without loss: its pixels are seen one by one
_KEPT = 16  # pictures in memory, as they are sent
_TOLD = 3  # classes suggested


class Candidate(NamedTuple):
    """An image to label."""

    path: str  # below the folder, POSIX
    top: tuple[tuple[str, float], ...] = ()  # the most likely classes and their calibrated probabilities, best first


class Picture(NamedTuple):
    """A picture as it is sent."""

    content: bytes
    kind: str  # of MIME


class Session:
    """What the page asks for and tells; images and classes go by number. Safe to use from several threads.

    Args:
        root: the folder of the images.
        candidates: the images, in the order in which they are shown; none has an answer yet.
        classes: names, at least those of the candidates' suggestions.
        answers: where answers go.
        run: the name of the model's run; "": there is none.
        max_pixels: larger images are not opened.
    """

    def __init__(
        self,
        root: Path,
        candidates: Sequence[Candidate],
        classes: Sequence[str],
        answers: Answers,
        *,
        run: str = "",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.candidates, self.classes, self.run = tuple(candidates), tuple(classes), run
        self._root, self._answers, self._max_pixels = root, answers, max_pixels
        self._codes = {name: code for code, name in enumerate(self.classes)}
        self._given: dict[int, int] = {}  # image -> class
        self._done: list[tuple[int, int | None]] = []  # image and the class before, the latest last
        self._lock = Lock()
        self._sent: OrderedDict[int, Picture | str] = OrderedDict()
        self._decoding = BoundedSemaphore(2)  # a picture may take max_pixels of memory

    def item(self, number: int) -> dict[str, Any]:
        """What is shown of an image: `image name class top error answered left`.

        Raises:
            IndexError: if there is no such image.
        """
        candidate = self._candidate(number)
        picture = self._picture(number)
        with self._lock:
            return {
                "image": number,
                "name": printable(candidate.path),
                "class": self._given.get(number),
                "top": [[self._codes[name], prob] for name, prob in candidate.top[:_TOLD]],
                "error": picture if isinstance(picture, str) else None,
                **self._counts(),
            }

    def picture(self, number: int) -> Picture:
        """The image, decoded, shrunk and encoded anew: nothing of its file but its pixels.

        Raises:
            IndexError: if there is no such image.
            BadImage: if it cannot be read.
        """
        found = self._picture(number)
        if isinstance(found, str):
            raise BadImage(self._candidate(number).path, found)
        return found

    def after(self, number: int) -> dict[str, Any]:
        """`next`: the first image after this one that has no answer, from the start again after the last; or None.

        Raises:
            IndexError: if there is no such image.
        """
        self._candidate(number)
        with self._lock:
            return {"next": self._next(number), **self._counts()}

    def answer(self, number: int, code: int, seen: int | None) -> dict[str, Any]:
        """Keep an answer; it is on the disk when this returns.

        Args:
            number: the image.
            code: its class.
            seen: the class that whoever answers believed the image to have; None: none.

        Returns:
            As `after`, with `replaced`: another class that the image had meanwhile, from another tab; or None.

        Raises:
            IndexError: if there is no such image or class.
            UsageError: if the image cannot be read.
            DiskError: if the answer cannot be kept.
        """
        candidate = self._candidate(number)
        if not 0 <= code < len(self.classes):
            raise IndexError(f"class {code} of {len(self.classes)}")
        if isinstance(self._picture(number), str):
            raise UsageError(f"{printable(candidate.path)} cannot be read, so it gets no label.", "Skip it.")
        with self._lock:
            before = self._given.get(number)
            self._keep(number, code)
            self._done.append((number, before))
            replaced = before if before not in (seen, code) else None
            return {"next": self._next(number), "replaced": replaced, **self._counts()}

    def undo(self) -> dict[str, Any]:
        """Take the latest answer of this sitting back, whichever tab gave it: `image`, None where there is none.

        Raises:
            DiskError: if that cannot be kept.
        """
        with self._lock:
            if not self._done:
                return {"image": None, **self._counts()}
            number, before = self._done[-1]
            self._keep(number, before)
            self._done.pop()
            return {"image": number, **self._counts()}

    @property
    def left(self) -> int:
        """Images without an answer."""
        return len(self.candidates) - len(self._given)

    def _candidate(self, number: int) -> Candidate:
        if not 0 <= number < len(self.candidates):
            raise IndexError(f"image {number} of {len(self.candidates)}")
        return self.candidates[number]

    def _keep(self, number: int, code: int | None) -> None:
        path, top = self.candidates[number]
        guess, prob = top[0] if top else ("", None)
        self._answers.put(path, None if code is None else Answer(self.classes[code], guess, prob, self.run))
        if code is None:
            self._given.pop(number, None)
        else:
            self._given[number] = code

    def _counts(self) -> dict[str, int]:
        return {"answered": len(self._given), "left": self.left}

    def _next(self, number: int) -> int | None:
        n = len(self.candidates)
        return next((one % n for one in range(number + 1, number + n + 1) if one % n not in self._given), None)

    def _picture(self, number: int) -> Picture | str:
        """The picture, or why there is none."""
        with self._lock:
            if number in self._sent:
                self._sent.move_to_end(number)
                return self._sent[number]
        file = self._root / self._candidate(number).path
        try:
            with self._decoding:
                found: Picture | str = _encoded(load_image(file, max_pixels=self._max_pixels, min_side=SIDE_PX))
        except BadImage as error:
            found = error.reason
        with self._lock:
            self._sent[number] = found
            while len(self._sent) > _KEPT:
                self._sent.popitem(last=False)
        return found


def _encoded(image: Image.Image) -> Picture:
    """RGB pixels as PNG where they are few, else as JPEG."""
    image.thumbnail((SIDE_PX, SIDE_PX))
    small = max(image.size) <= _SMALL_PX
    stream = io.BytesIO()
    image.save(stream, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 90}))
    return Picture(stream.getvalue(), "image/png" if small else "image/jpeg")
