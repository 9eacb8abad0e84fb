"""Draws sheets of pictures: tiles in rows, with captions below, names at the left and heads above.

Text is Pillow's own font where that has its letters, else a font of the system that has more of them; a letter that
none has is shown by its number, so that two captions that differ look different.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from imgkit.data.decode import load_image
from imgkit.errors import disk_told, printable
from imgkit.files import replace_bytes

_MARGIN, _HEAD, _GAP = 150, 22, 4  # pixels: left of the pictures, above them, between them
_LINE = 15  # pixels from one line of text to the next
_FONT_PX = 12
_APART = 20  # pixels between two parts of a sheet
_MISSING = "\U0010ffff"  # no font has it
_FONTS = (  # looked for in the folders of the system, and beside matplotlib
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKjp-Regular.otf",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Tile(NamedTuple):
    """A picture with lines of text below it; None: an empty place."""

    picture: Image.Image | None
    caption: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows.

    Args:
        rows: tiles, each row as long or shorter than the first.
        side: (width, height) of a place for a picture, pixels; smaller pictures are put into its middle.
        title: a line above all.
        heads: a word above each column, "" for none; empty: no line for them.
        names: a text at the left of each row, of one line or two; empty: no room for them.
        apart: the column before which the second part begins; 0: there is one part.
    """

    rows: Sequence[Sequence[Tile]]
    side: tuple[int, int]
    title: str = ""
    heads: Sequence[str] = ()
    names: Sequence[str] = ()
    apart: int = 0


def in_rows(tiles: Sequence[Tile], columns: int) -> list[Sequence[Tile]]:
    """Tiles in rows of so many."""
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def draw_sheet(sheet: Sheet) -> Image.Image:
    """The sheet as one picture, RGB; pictures are pixel for pixel."""
    width, height = sheet.side
    columns, lines = len(sheet.rows[0]), max(len(tile.caption) for row in sheet.rows for tile in row)
    left, high = _MARGIN * bool(sheet.names), height + _GAP + (_LINE * lines + _GAP) * bool(lines)
    top = _HEAD * bool(sheet.title) + _HEAD * bool(sheet.heads)

    def x(column: int) -> int:
        return left + column * (width + _GAP) + _APART * (0 < sheet.apart <= column)

    whole = Image.new("RGB", (x(columns - 1) + width + _GAP, top + len(sheet.rows) * high), "white")
    pen = ImageDraw.Draw(whole)
    if sheet.title:
        _write(pen, (4, 4), sheet.title, whole.width - 8)
    for column, head in enumerate(sheet.heads):
        after = next((x(other) for other in range(column + 1, columns) if sheet.heads[other]), whole.width)
        _write(pen, (x(column), top - _HEAD + 4), head, after - x(column))
    for row, tiles in enumerate(sheet.rows):
        y = top + row * high
        if sheet.names:
            parts = sheet.names[row].split("\n")
            for number, part in enumerate(parts):
                at = y + height // 2 - 8 * len(parts) + _LINE * number
                _write(pen, (4, at), part, _MARGIN - 8)
        for column, tile in enumerate(tiles):
            if tile.picture is not None:
                right, down = (width - tile.picture.width) // 2, (height - tile.picture.height) // 2
                whole.paste(tile.picture, (x(column) + right, y + down))
            for number, text in enumerate(tile.caption):
                _write(pen, (x(column), y + height + _LINE * number), text, width)
    return whole


def write_png(image: Image.Image, file: Path) -> None:
    """Write a PNG, old or new but never half.

    Raises:
        DiskError: if the disk says no.
    """
    content = io.BytesIO()
    image.save(content, format="PNG")
    with disk_told(file):
        replace_bytes(file, content.getvalue())


def thumbnail(file: Path, side: int, *, max_pixels: int) -> Image.Image:
    """The picture in a file as it is, with `side` pixels on its longer side; small ones are enlarged in squares.

    Raises:
        BadImage: if it cannot be read.
    """
    return small(load_image(file, max_pixels=max_pixels, min_side=2 * side), side)


def small(image: Image.Image, side: int) -> Image.Image:
    """The picture with `side` pixels on its longer side; a small one is enlarged in squares."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """`text` if it fits, else as much of its two ends as fits around a `…`."""
    if fits(text):
        return text
    low, high = 0, len(text) - 1  # letters that are kept: the first number fits, if any does
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if fits(_ends(text, kept)) else (low, kept - 1)
    return _ends(text, low)


def _ends(text: str, kept: int) -> str:
    return text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """A line of text, cut in the middle where it would be wider than `width` pixels."""
    text = printable(text)
    font = _font_for(text)
    shown = "".join(char if _has(font, char) else f"U+{ord(char):04X}" for char in text)
    pen.text(place, cut(shown, lambda part: font.getlength(part) <= width), fill="black", font=font)


@lru_cache(maxsize=1024)
def _font_for(text: str) -> _Font:
    """The first font that has all letters of `text`, else the one that has most of them."""
    usual = _usual_font()
    if all(_has(usual, char) for char in text):
        return usual
    return max((usual, *_further_fonts()), key=lambda font: sum(_has(font, char) for char in text))


@lru_cache(maxsize=1)
def _usual_font() -> _Font:
    return ImageFont.load_default(_FONT_PX)


@lru_cache(maxsize=1)
def _further_fonts() -> tuple[_Font, ...]:
    found = list[_Font]()
    for name in (*_FONTS, *_beside_matplotlib()):
        try:
            found.append(ImageFont.truetype(name, _FONT_PX))
        except (OSError, ImportError):  # not on this machine; or Pillow without FreeType
            continue
    return tuple(found)


def _beside_matplotlib() -> list[str]:
    from importlib.util import find_spec

    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    return [str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")]


@lru_cache(maxsize=65_536)
def _has(font: _Font, char: str) -> bool:
    """Whether the font has a letter: it draws something else than what stands for missing ones."""
    try:
        return char.isspace() or bytes(font.getmask(char)) != bytes(font.getmask(_MISSING))
    except UnicodeEncodeError:  # Pillow's bitmap font has Latin letters only
        return False
