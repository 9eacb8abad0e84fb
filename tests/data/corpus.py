"""Bad and odd pictures, made on the spot: nothing binary is kept in the repository."""

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIZE = (48, 40)  # width, height of the pictures that are not special in size


class Case(NamedTuple):
    """A file and what must come of it."""

    path: Path
    size: tuple[int, int] | None  # of the decoded picture; None: BadImage
    corner: tuple[int, int, int] | None = None  # RGB at the top left, within 6
    reason: str = ""  # part of the reason of a BadImage


def colours(size: tuple[int, int] = SIZE) -> Image.Image:
    """Red, green, blue and yellow quarters with a slope, so that cuts and turns show."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 220, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 220)
    pixels[height // 2 :, width // 2 :] = (220, 220, 20)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of `image` in a format."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int = 8, colour: int = 0, body: bytes = b"", text: bytes = b"") -> bytes:
    """A PNG with any header and any pixel data, and perhaps a compressed text."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    comment = chunk(b"zTXt", b"comment\0\0" + text) if text else b""
    return b"\x89PNG\r\n\x1a\n" + header + comment + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def zeros(mebibytes: int) -> bytes:
    """So many zeros, compressed."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()


def exif_jpeg(orientation: int, size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG that looks like `colours()` after its EXIF orientation is applied."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose method that undoes each orientation
    image = colours(size)
    if orientation in undo:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", quality=95, exif=exif.tobytes())


def cases(folder: Path) -> Iterator[Case]:
    """All files, written into `folder`."""
    for name, data, size, corner, reason in [*_broken(), *_foreign(), *_modes(), *_sizes(), *_metadata()]:
        path = folder / name
        path.write_bytes(data)
        yield Case(path, size, corner, reason)
    yield from _names(folder)
    yield from _not_files(folder)


def largest(folder: Path) -> Iterator[Case]:
    """Pictures of as many pixels as are allowed, of the kinds that take most to be made RGB."""
    side, gray, red = (8000, 8000), (100, 100, 100), (220, 20, 20)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = Image.new("RGBA", side, (*red, 255))
    unit = Image.fromarray(np.full(side, 0.5, dtype=np.float32))
    for name, image, corner, options in (
        ("deep-8000.png", Image.fromarray(np.full(side, 100 * 257, dtype=np.uint16)), gray, {"compress_level": 1}),
        ("clear-8000.png", clear, red, {"compress_level": 1, "exif": turned}),
        ("gray-alpha-8000.png", Image.new("LA", side, (100, 255)), gray, {"compress_level": 1}),
        ("key-8000.png", Image.new("P", side), (255, 255, 255), {"compress_level": 1, "transparency": 0}),
        ("unit-8000.tif", unit, (128, 128, 128), {"compression": "tiff_lzw"}),
        ("cmyk-8000.jpg", Image.new("CMYK", side, (0, 0, 0, 155)), gray, {}),
        ("turned-8000.jpg", Image.new("RGB", side, red), red, {"exif": turned}),
    ):
        image.save(folder / name, **options)
        yield Case(folder / name, side, corner)


Made = tuple[str, bytes, tuple[int, int] | None, tuple[int, int, int] | None, str]


def _bad(name: str, data: bytes, reason: str = "") -> Made:
    return name, data, None, None, reason


def _broken() -> Iterator[Made]:
    image = colours()
    jpeg = encoded(image, "JPEG", quality=95)
    large = encoded(image.resize((400, 300)), "JPEG", progressive=True)
    yield _bad("zero.jpg", b"", "empty file")
    yield _bad("one.jpg", b"\xff")
    yield _bad("soi.jpg", b"\xff\xd8")
    yield _bad("header.jpg", jpeg[:20])
    for share in (25, 50, 75, 99):
        yield _bad(f"cut{share}.jpg", jpeg[: len(jpeg) * share // 100])
    yield _bad("cut2.jpg", jpeg[:-2], "truncated")
    yield _bad("progressive.jpg", large[: len(large) // 2], "truncated")
    sof, sos = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    yield _bad("no-scan.jpg", jpeg[:sos] + b"\xff\xd9")
    yield _bad("flip-header.jpg", _flipped(jpeg, sof + 4))  # bits a sample: 9 of 8
    yield "flip-body.jpg", _flipped(jpeg, (sos + len(jpeg)) // 2), SIZE, None, ""  # JPEG has no checksum
    yield "trailing.jpg", jpeg + b"garbage" * 100, SIZE, (220, 20, 20), ""
    yield _bad("zeros.png", bytes(4096), "header is damaged")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)  # so that 90 % is amid the pixels
    whole = encoded(Image.fromarray(noise), "PNG")
    for share in (10, 50, 90):
        yield _bad(f"cut{share}.png", whole[: len(whole) * share // 100])
    yield _bad("crc.png", _flipped(whole, 45))
    yield _bad("flip-header.png", _flipped(whole, 19))  # the width, which the checksum covers
    for kind in ("WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(image, kind)
        yield _bad(f"cut.{kind.lower()}", data[: len(data) // 2])


def _flipped(data: bytes, position: int) -> bytes:
    """`data` with the last bit of one byte changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def _foreign() -> Iterator[Made]:
    image = colours()
    yield _bad("page.jpg", b"<!DOCTYPE html><html>404</html>", "an HTML page")
    yield _bad("json.png", b'{"error": "not found"}', "header is damaged")
    yield _bad("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS")
    yield _bad("zip.png", b"PK\x03\x04" + bytes(100), "a ZIP archive")
    yield _bad("pickle.png", b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    yield _bad("program.jpg", b"\x7fELF\x02\x01\x01" + bytes(100), "header is damaged")
    yield _bad("text.png", b"a picture of a cat\n", "header is damaged")
    yield _bad("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing")
    yield _bad("phone.jpg", b"\x00\x00\x00\x18ftypheic" + bytes(100), "a HEIC image")
    yield _bad("new.jpg", b"\x00\x00\x00\x18ftypavif" + bytes(100), "an AVIF image")
    yield _bad("paper.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100))
    yield _bad("gzip.png", b"\x1f\x8b\x08\x00" + bytes(100))
    yield _bad("script.jpg", b"#!/bin/sh\nexit 0\n")
    yield _bad("wide-text.png", "\ufeffa picture".encode("utf-16-le"))
    yield _bad("xl.jpg", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a" + bytes(100))
    yield _bad("eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    yield _bad("ppm.jpg", b"P6 2 2 255\n" + bytes(12))
    for kind in ("PNG", "GIF", "TIFF", "WEBP", "BMP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        yield f"{kind.lower()}-inside.jpg", encoded(image, kind, **options), SIZE, (220, 20, 20), ""


def _modes() -> Iterator[Made]:
    image = colours()
    red, white = (220, 20, 20), (255, 255, 255)
    gray = Image.new("L", SIZE, 100)
    adobe = encoded(image.convert("CMYK"), "JPEG", quality=95)  # inverted, and marked so
    marker = adobe.index(b"\xff\xee\x00\x0eAdobe")
    yield "cmyk.jpg", adobe, SIZE, red, ""
    yield "cmyk-unmarked.jpg", adobe[:marker] + adobe[marker + 16 :], SIZE, red, ""
    yield "cmyk.tif", encoded(image.convert("CMYK"), "TIFF"), SIZE, red, ""
    yield "gray.jpg", encoded(gray, "JPEG"), SIZE, (100, 100, 100), ""
    half = Image.merge("LA", (gray, Image.new("L", SIZE, 0)))
    yield "gray-alpha.png", encoded(half, "PNG"), SIZE, white, ""
    clear = image.copy()
    clear.putalpha(0)
    yield "clear.png", encoded(clear, "PNG"), SIZE, white, ""
    clear.putalpha(128)
    yield "half.png", encoded(clear, "PNG"), SIZE, (237, 137, 137), ""
    yield "half.webp", encoded(clear, "WEBP", lossless=True), SIZE, (237, 137, 137), ""
    yield "half.tif", encoded(clear, "TIFF"), SIZE, (237, 137, 137), ""
    palette = image.quantize(8)
    corner = palette.getpixel((0, 0))
    yield "palette.png", encoded(palette, "PNG"), SIZE, red, ""
    yield "palette-index.png", encoded(palette, "PNG", transparency=corner), SIZE, white, ""
    yield "palette-bytes.png", encoded(palette, "PNG", transparency=bytes(8)), SIZE, white, ""
    yield "palette.gif", encoded(palette, "GIF", transparency=corner), SIZE, white, ""
    yield "colour-key.png", encoded(image, "PNG", transparency=(220, 20, 20)), SIZE, white, ""
    yield "gray-key.png", encoded(gray, "PNG", transparency=100), SIZE, white, ""
    yield "bits.png", encoded(Image.new("1", SIZE, 1), "PNG"), SIZE, white, ""
    yield "bits.tif", encoded(Image.new("1", SIZE, 0), "TIFF"), SIZE, (0, 0, 0), ""
    deep = np.full(SIZE[::-1], 100 * 257, dtype=np.uint16)
    deep[20:] = 65535
    yield "deep.png", encoded(Image.fromarray(deep), "PNG"), SIZE, (100, 100, 100), ""
    yield "deep-little.tif", encoded(Image.fromarray(deep), "TIFF"), SIZE, (100, 100, 100), ""
    yield "deep-big.tif", _big_endian_tiff(deep), SIZE, (100, 100, 100), ""
    yield _bad("integers.tif", encoded(Image.fromarray(deep.astype(np.int32) * 1000), "TIFF"), "32-bit integer")
    floats = np.full(SIZE[::-1], 0.5, dtype=np.float32)
    yield "unit.tif", encoded(Image.fromarray(floats), "TIFF"), SIZE, (128, 128, 128), ""
    yield _bad("floats.tif", encoded(Image.fromarray(floats * 1000), "TIFF"), "outside [0, 1]")
    yield _bad("nan.tif", encoded(Image.fromarray(floats * np.nan), "TIFF"), "outside [0, 1]")
    other = image.transpose(Image.Transpose.ROTATE_180)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(image, kind, save_all=True, append_images=[other], **lossless)
        yield f"frames.{kind.lower()}", data, SIZE, red, ""
    yield "phone-pair.jpg", encoded(image, "MPO", save_all=True, append_images=[other], quality=95), SIZE, red, ""


def _big_endian_tiff(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape
    tags = [(256, 3, width), (257, 3, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1)]
    tags += [(278, 3, height), (279, 4, pixels.size * 2)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        number = start if tag == 273 else value
        entries += struct.pack(">HHI", tag, kind, 1)
        entries += struct.pack(">I", number) if kind == 4 else struct.pack(">HH", number, 0)
    return b"MM\x00\x2a" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4) + pixels.astype(">u2").tobytes()


def _sizes() -> Iterator[Made]:
    for size in ((1, 1), (1, 5000), (5000, 1)):
        yield f"{size[0]}x{size[1]}.png", encoded(Image.new("RGB", size, (9, 9, 9)), "PNG"), size, (9, 9, 9), ""
    yield _bad("no-width.png", png(0, 10))
    yield _bad("colour5.png", png(4, 4, colour=5, body=bytes(4 * 5)))
    yield _bad("giant.png", png(2**31 - 1, 2**31 - 1), "megapixels")
    yield _bad("bomb30000.png", png(30_000, 30_000), "900.0 megapixels, over the limit of 64")
    yield _bad("bomb65500.png", png(65_500, 65_500, bits=1), "megapixels")
    yield _bad("bomb13000.png", png(13_000, 13_000), "169.0 megapixels")
    gif = bytearray(encoded(colours(), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield _bad("giant.gif", bytes(gif), "megapixels")
    bmp = bytearray(encoded(colours(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield _bad("giant.bmp", bytes(bmp), "megapixels")


def _metadata() -> Iterator[Made]:
    image, red = colours(), (220, 20, 20)
    for orientation in (*range(1, 9), 99):
        yield f"exif{orientation}.jpg", exif_jpeg(orientation), SIZE, red, ""
    yield "exif-garbage.jpg", encoded(image, "JPEG", quality=95, exif=b"Exif\x00\x00garbage"), SIZE, red, ""
    yield "icc-garbage.jpg", encoded(image, "JPEG", quality=95, icc_profile=b"garbage" * 30), SIZE, red, ""
    turned = Image.Exif()
    turned[0x0112] = 6
    sideways = image.transpose(Image.Transpose.ROTATE_90)
    yield "exif6.png", encoded(sideways, "PNG", exif=turned), SIZE, red, ""
    yield "exif6.webp", encoded(sideways, "WEBP", exif=turned.tobytes(), lossless=True), SIZE, red, ""
    yield "exif6.tif", encoded(sideways, "TIFF", exif=turned), SIZE, red, ""
    yield _bad("text-bomb.png", png(1, 1, body=bytes(2), text=zeros(200)))


def _names(folder: Path) -> Iterator[Case]:
    data = encoded(colours(), "PNG")
    names = ["two words.png", 'quote".png', "<b>.png", "e\u0301.png", "\u00e9.png", "猫.png", "🐈.png", "\u202egnp.png"]
    names += ["line\nbreak.png", "-lead.png", "=1+1.png", "x" * 251 + ".png", os.fsdecode(b"\xff\xfe.png")]
    for name in names:
        path = folder / name
        path.write_bytes(data)
        yield Case(path, SIZE, (220, 20, 20))


def _not_files(folder: Path) -> Iterator[Case]:
    (folder / "folder.jpg").mkdir()
    yield Case(folder / "folder.jpg", None, reason="a folder")
    os.mkfifo(folder / "fifo.jpg")
    yield Case(folder / "fifo.jpg", None, reason="not a regular file")
    for name, target in {
        "dangling": "nothing",
        "self": "self.jpg",
        "passwd": "/etc/passwd",
        "device": "/dev/zero",
    }.items():
        (folder / f"{name}.jpg").symlink_to(target)
        yield Case(folder / f"{name}.jpg", None)
    (folder / "secret.jpg").write_bytes(exif_jpeg(1))
    (folder / "secret.jpg").chmod(0)
    yield Case(folder / "secret.jpg", None, reason="Permission denied")  # of all but root
    yield Case(folder / "missing.jpg", None, reason="No such file")
    yield Case(folder / "nul\0.jpg", None)
