"""Pictures for people, beside the numbers of an evaluation: its mistakes and what it was least sure of, with maps.

Its files are these:

    images.json            which images, why these, and their files
    images/0000.webp       an image, made smaller; encoded anew from its pixels, so nothing else of the file is in it
    images/0000-cam.webp   the same with the map of `cam` over it
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from imgkit.cam import NoMap, grad_cam
from imgkit.cells import visible
from imgkit.data.decode import load_image
from imgkit.data.index import Index
from imgkit.data.preprocessing import Preprocessing
from imgkit.device import memory_format
from imgkit.errors import BadImage, printable
from imgkit.evidence_rows import MOST, Pick, choose_rows
from imgkit.metrics import Scored
from imgkit.multilabel import ScoredSets
from imgkit.overlay import draw_overlay
from imgkit.sheet import small

SCHEMA = 1
LONGER_SIDE = 112  # pixels of a picture's longer side
_BATCH = 8  # pictures in memory, and in the network, at once
_FILE_BYTES = 500_000 // (2 * MOST)  # what a page can carry of each
_QUALITIES = (75, 60, 45, 30)  # of WebP: the first that stays below it, or the last


class _Shown(NamedTuple):
    """A picture that could be read."""

    pick: Pick
    picture: Image.Image  # small
    pixels: torch.Tensor  # uint8 (C, H, W), what the network sees
    seen: tuple[float, float, float, float]  # where in the picture that is


@dataclass(frozen=True)
class Images:
    """Writes images/ and images.json into the folder of an evaluation.

    The same evaluation gives the same bytes, on one machine with one Pillow. A file that cannot be read any more, or a
    network without maps, is said in images.json and stops nothing.

    Args:
        model: that answered, on its device; it is left as it was.
        index: the images.
        ids: the row of the index of each row of the evaluation, int64 (N,).
        preprocessing: of the network.
        max_pixels: larger pictures are not opened.
        progress: called with (pictures done, pictures in all).
    """

    model: nn.Module
    index: Index
    ids: npt.NDArray[np.int64]
    preprocessing: Preprocessing
    max_pixels: int
    progress: Callable[[int, int], None] | None = None

    def __call__(self, folder: Path, scored: Scored | ScoredSets) -> None:
        """Write them for what was answered, in the order of `ids`.

        Raises:
            OSError: if the disk says no.
        """
        (folder / "images").mkdir()
        picks = choose_rows(scored)
        images, left_out, note = list[dict[str, Any]](), list[dict[str, Any]](), ""
        for start in range(0, len(picks), _BATCH):
            shown = list[_Shown]()
            for pick in picks[start : start + _BATCH]:
                try:
                    shown.append(self._read(pick))
                except BadImage as error:
                    left_out.append({"row": pick.row, "path": self._path(pick), "reason": error.reason})
            maps: Sequence[npt.NDArray[np.float32] | None] = [None] * len(shown)
            if shown and not note:
                maps, note = self._maps(shown)
            for one, heat in zip(shown, maps, strict=True):
                images.append(self._written(one, heat, folder / "images", f"{len(images):04d}"))
            if self.progress is not None:
                self.progress(min(start + _BATCH, len(picks)), len(picks))
        content: dict[str, Any] = {"schema": SCHEMA, "longer_side": LONGER_SIDE, "images": images, "left_out": left_out}
        content |= {"note": note} if note else {}
        (folder / "images.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

    def _path(self, pick: Pick) -> str:
        return visible(self.index.paths[int(self.ids[pick.row])])

    def _read(self, pick: Pick) -> _Shown:
        """One picture, decoded once for both uses.

        Raises:
            BadImage: if it cannot be read.
        """
        rule, file = self.preprocessing, self.index.path(int(self.ids[pick.row]))
        image = load_image(file, max_pixels=self.max_pixels, min_side=max(rule.min_side, 2 * LONGER_SIDE))
        return _Shown(pick, small(image, LONGER_SIDE), rule(image), rule.seen(image.height, image.width))

    def _maps(self, shown: Sequence[_Shown]) -> tuple[Sequence[npt.NDArray[np.float32] | None], str]:
        """The map (h, w) of each picture, or None for each and why there is none."""
        device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        codes = torch.tensor([one.pick.code for one in shown], device=device)
        try:
            with torch.no_grad():
                images = self.preprocessing.normalise(torch.stack([one.pixels for one in shown]).to(device))
                images = images.contiguous(memory_format=memory_format(device))
            return list(grad_cam(self.model, images, codes).numpy()), ""
        except NoMap as error:
            note = f"this network gives no maps: {error}"
        except Exception as error:  # the scores are there: no fault of an ornament, or of a plugin, may cost them
            note = f"no maps could be made: {type(error).__name__}: {error}"
        return [None] * len(shown), printable(note)

    def _written(self, one: _Shown, heat: npt.NDArray[np.float32] | None, place: Path, name: str) -> dict[str, Any]:
        """The entry of images.json of a picture, after its files have been written."""
        _save(one.picture, place / f"{name}.webp")
        if heat is not None:
            _save(draw_overlay(one.picture, heat, one.seen), place / f"{name}-cam.webp")
        return {
            "row": one.pick.row,
            "path": self._path(one.pick),
            "file": f"{name}.webp",
            "cam": None if heat is None else f"{name}-cam.webp",
            "cam_of": None if heat is None else visible(self.index.classes[one.pick.code]),
            "why": list(one.pick.why),
        }


def _save(picture: Image.Image, file: Path) -> None:
    for quality in _QUALITIES:
        content = io.BytesIO()
        picture.save(content, format="WEBP", quality=quality, method=4)
        if content.tell() <= _FILE_BYTES:
            break
    file.write_bytes(content.getvalue())
