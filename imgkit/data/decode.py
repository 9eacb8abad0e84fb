"""The one decoder: training, evaluation, prediction, the scan and the reports all read pictures here.

Whatever is wrong with a file, the answer is `BadImage` with the path and a reason, so a caller has one class to catch.
"""

import os
import threading
import warnings
from io import BytesIO
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

# The plugins are imported by name: Pillow would otherwise import all of its plugins from whichever thread comes first.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.Image import Transpose

from imgkit.data.byte_range import EMPTY, check_regular, opened
from imgkit.errors import BadImage, printable

MAX_PIXELS = 64_000_000
_STRIP = 1 << 18  # pixels whose format is changed at a time: beside a large picture and its RGB, little is held
_SMALL = 100_000  # pixels below which a size is told in them, not in megapixels
_ORIENTATION = 0x0112  # EXIF tag
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,  # also opens MPO, the JPEG with several pictures that phones write
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
)
JPEGS = ("JPEG", "MPO")
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_OTHER_KINDS = (  # (offset, first bytes, what the file is)
    (0, b"version https://git-lfs", "a Git LFS pointer, not the picture itself (git lfs pull fetches it)"),
    (0, b"<!doctype", "an HTML page"),
    (0, b"<html", "an HTML page"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"%pdf", "a PDF document"),
    (0, b"pk\x03\x04", "a ZIP archive"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "a HEIC image or a film"),
    (0, b"\x00\x00\x00\x0cjp", "a JPEG 2000 image"),
)


class Decoded(NamedTuple):
    """A decoded picture and what its file held."""

    image: Image.Image  # RGB, upright
    format: str  # Pillow's name: JPEG, MPO, PNG, ...
    mode: str  # Pillow's mode of the file: RGB, L, P, CMYK, I;16, ...
    width: int  # as stored, before the EXIF rotation
    height: int
    rotated: bool  # EXIF asked for a rotation or flip


def load_image(path: Path, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Read one picture as upright 8-bit RGB; of several frames, the first.

    Pixels are brought to 8 bits by these rules: 16-bit grey is scaled from its full range (v / 257, rounded); float
    TIFF is scaled from [0, 1] and refused outside it; 32-bit integers have no known range and are refused; CMYK is
    converted without colour profiles; transparency is laid over white; 1-bit becomes 0 or 255.

    Args:
        path: a regular file in one of `FORMATS`, whatever its extension, or a part of a file (`byte_range`).
        max_pixels: more pixels than this are refused before anything is decoded.
        min_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as neither side gets shorter than this.

    Raises:
        BadImage: for any reason at all.
    """
    return read_image(path, max_pixels=max_pixels, min_side=min_side).image


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Decoded:
    """As `load_image`, with the format, mode and size of the file.

    Raises:
        BadImage: for any reason at all.
    """
    try:
        _check_file(path)
        with _QUIET, opened(path) as file:
            return _decode(path, file, max_pixels, min_side)
    except BadImage:
        raise
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, MemoryError and others
        raise BadImage(path, _reason(error)) from error


def picture_of(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """As `load_image`, of the content of a file that was sent; `name` is what messages call it.

    Raises:
        BadImage: for any reason at all.
    """
    try:
        if not content:
            raise BadImage(name, EMPTY)
        with _QUIET, BytesIO(content) as file:
            return _decode(name, file, max_pixels, min_side).image
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(name, _reason(error)) from error


def _check_file(path: Path) -> None:
    refused = check_regular(path)
    if refused:
        raise BadImage(path, refused)


def _decode(path: Path | str, file: IO[bytes], max_pixels: int, min_side: int | None) -> Decoded:
    try:
        image: Image.Image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        raise BadImage(path, _other_kind(file.read(256))) from None
    width, height = image.size
    if width * height > max_pixels:
        trusted = f"if you trust it: --max-pixels {ceil(width * height / 1e6)}M"
        size, most = f"{width * height / 1e6:.1f} megapixels", f"{max_pixels / 1e6:g}"
        if width * height < _SMALL:
            size, most = f"{width * height:,} pixels", f"{max_pixels:,}"
        raise BadImage(path, f"{width} x {height} is {size}, over the limit of {most} ({trusted})")
    kind, mode = image.format or "", image.mode
    if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (min_side, min_side))
    image.load()
    method = _UPRIGHT.get(_orientation(image))
    image = _to_rgb(path, image)  # one name: at no time are there three copies of a large picture
    if method is not None:
        image = image.transpose(method)
    image.info = {}  # a second reader of the EXIF bytes would rotate again
    return Decoded(image, kind, mode, width, height, method is not None)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not make the pixels worse
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(path: Path | str, image: Image.Image) -> Image.Image:
    """`image` as RGB by the rules of `load_image`."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rows = max(1, _STRIP // image.width)
    if image.height <= rows:
        return _strip_to_rgb(path, image)
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        rgb.paste(_strip_to_rgb(path, image.crop(box)), box)
    return rgb


def _strip_to_rgb(path: Path | str, image: Image.Image) -> Image.Image:
    """Some rows of a picture as RGB: each pixel is by itself."""
    if image.mode.startswith("I;16"):
        values: npt.NDArray[np.uint32] = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        raise BadImage(path, "32-bit integer pixels, whose range is not known")
    if image.mode == "F":
        floats = np.asarray(image)
        if not (np.isfinite(floats).all() and floats.min() >= 0 and floats.max() <= 1):
            raise BadImage(path, "float pixels outside [0, 1]")
        return Image.fromarray(np.rint(floats * 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (255, 255, 255, 255))
        clear = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(opaque, clear).convert("RGB")
    return image.convert("RGB")


def _other_kind(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower() if head[:1] != b"\x00" else head.lower()
    for offset, magic, kind in _OTHER_KINDS:
        if start[offset:].startswith(magic):
            return f"{kind}; imgkit reads {', '.join(FORMATS)}"
    return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image, or its header is damaged"


def _reason(error: Exception) -> str:
    """One line without the path."""
    if isinstance(error, OSError) and error.strerror:
        return os.strerror(error.errno) if error.errno else error.strerror
    text = " ".join(str(error).split())[:160]
    if not text:
        return type(error).__name__
    known = isinstance(error, OSError | ValueError | SyntaxError)
    return printable(text if known else f"{type(error).__name__}: {text}")


class _Quiet:
    """While any thread decodes: no Pillow warnings, and no pixel limit but ours.

    `warnings.catch_warnings` and `Image.MAX_IMAGE_PIXELS` are global to the process; the first thread in sets them and
    the last one out restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> Self:
        with self._lock:
            if self._inside == 0:
                self._limit = Image.MAX_IMAGE_PIXELS
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
                Image.MAX_IMAGE_PIXELS = None
            self._inside += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = self._limit


_QUIET = _Quiet()
