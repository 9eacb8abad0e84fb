"""Bounds on what a file from elsewhere may make its reader take: far above what imgkit writes, far below the machine's.

Someone's run folder, model folder or weights may hold anything. What they hold is read, never run, and a file that asks
for more than these bounds is refused before it is taken apart.
"""

import json
import stat
from pathlib import Path
from typing import Any

JSON_BYTES = 32 << 20
JSON_VALUES = 2_000_000
HEADER_BYTES = 4 << 20
TENSORS = 20_000
"""More than any network of timm has, with an optimizer's state; each costs the reader 40 µs (measured)."""


def read_bytes(file: Path, most: int | None = None) -> bytes:
    """The content of a plain file of at most `most` bytes. A pipe or a device is none.

    Raises:
        OSError: if it cannot be read, is no plain file, or is longer; the message has no path.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no plain file")
    if most is not None and found.st_size > most:
        raise OSError(f"it has {found.st_size:,} bytes, and no such file of imgkit has more than {most:,}")
    return file.read_bytes()


def parse_json(content: bytes) -> dict[str, Any]:
    """The object that a JSON text holds, within bounds on length, number and depth of values.

    Raises:
        ValueError: if it is no JSON, no object, or beyond them.
    """
    if len(content) > JSON_BYTES or sum(map(content.count, (b",", b"[", b"{"))) > JSON_VALUES:
        raise ValueError(f"it has more than {JSON_BYTES >> 20} MiB or {JSON_VALUES:,} values")
    try:
        found = json.loads(content.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it should hold a JSON object")
    return found


def read_json(file: Path) -> dict[str, Any]:
    """`parse_json` of a plain file.

    Raises:
        OSError: if it cannot be read, or is too long.
        ValueError: if it holds no JSON object within the bounds.
    """
    return parse_json(read_bytes(file, JSON_BYTES))


def check_tensors(file: Path) -> None:
    """See that a safetensors file is a plain one whose header is of a size that networks have; then it may be read.

    Raises:
        OSError: if it cannot be read, or is no plain file.
        ValueError: if its header is beyond the bounds, or longer than the file.
    """
    if not file.is_file():
        read_bytes(file)  # says what it is instead
    with file.open("rb") as stream:
        check_header(stream.read(8 + HEADER_BYTES), file.stat().st_size)


def check_header(content: bytes, size: int) -> None:
    """See that a safetensors file of `size` bytes, which begins with `content`, has a header of a usual size.

    Raises:
        ValueError: if not.
    """
    length = int.from_bytes(content[:8], "little")
    if size < 8 or length > size - 8:
        raise ValueError("its header is longer than the file")
    if length > HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, more than {HEADER_BYTES:,}")
    if content.count(b"{", 8, 8 + length) > TENSORS:  # each tensor is told by an object of its own
        raise ValueError(f"it lists more than {TENSORS:,} tensors")
