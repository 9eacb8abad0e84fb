"""What lies where in a tar file, told by its headers: nothing is unpacked and no picture's bytes are read.

ustar, GNU's long names and POSIX's extended headers (pax) are read. What a file of pictures has no use for is refused,
each with the shard and the place in it: links and devices, absolute names and `..`, sparse files, names and extended
headers that are larger than any honest one, a wrong checksum, and a file that ends too early.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from imgkit.data.rows import count
from imgkit.errors import DataError, printable

BLOCK = 512
_MOST_HEADER = 1 << 20  # bytes of an extended header, and of a long name
_FILES, _FOLDER, _LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL = (b"0", b"\0", b"7"), b"5", b"L", b"K", b"x", b"g"
_KINDS = {
    b"1": "a link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}
_AGAIN = "Pack it again:  imgkit data pack SOURCE --out DIR   (or tar --format=ustar --sort=name)"


class Member(NamedTuple):
    """A file in a tar file."""

    name: str
    offset: int  # of its content, bytes
    size: int  # bytes


class _Fault(Exception):
    pass


def members(stream: IO[bytes], length: int, shown: str) -> Iterator[Member]:
    """The files of a tar file, in their order.

    Args:
        stream: that can be sought.
        length: of all of it, bytes.
        shown: what it is called in messages.

    Raises:
        DataError: if it is no tar file, ends too early or holds what is refused; with the shard and the offset.
        OSError: if it cannot be read.
    """
    at = [0]
    try:
        yield from _members(stream, length, at)
    except _Fault as fault:
        raise DataError(f"{shown}, byte {at[0]:,}: {fault}.", _AGAIN) from None


def _members(stream: IO[bytes], length: int, at: list[int]) -> Iterator[Member]:
    given: dict[str, str] = {}  # what extended headers say of the next member
    while True:
        header = _bytes(stream, at[0], BLOCK)
        if len(header) < BLOCK:
            raise _Fault("it ends without the mark of an end, so it was cut" if at[0] else "it is no tar file")
        if header.count(0) == BLOCK:
            return
        name, kind, size = _header(header)
        begin = at[0] + BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL):
            if size > _MOST_HEADER:
                raise _Fault(f"an extended header of {count(size, 'byte')}, and {_MOST_HEADER:,} are the most")
            if begin + size > length:
                raise _Fault("it ends within an extended header, so it was cut")
            content = _bytes(stream, begin, size)
            if kind == _LONG_NAME:
                given["path"] = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif kind == _PAX:
                given |= _records(content)
        else:
            name, size = given.get("path", name), _whole(given.get("size", size))
            if kind in _FILES and not name.endswith("/"):
                if begin + size > length:
                    raise _Fault(f"it ends within {printable(name)}, so it was cut")
                yield Member(_checked(name), begin, size)
            elif kind not in (_FOLDER, *_FILES):
                what = _KINDS.get(kind, f"an entry of the unknown kind {printable(kind.decode('latin-1'))!r}")
                raise _Fault(f"{printable(name)} is {what}, which imgkit does not follow")
            given = {}
            size = size if kind in _FILES else 0
        at[0] = begin + -(-size // BLOCK) * BLOCK


def _bytes(stream: IO[bytes], at: int, size: int) -> bytes:
    stream.seek(at)
    content = stream.read(size)
    while 0 < len(content) < size and (more := stream.read(size - len(content))):
        content += more
    return content


def _header(header: bytes) -> tuple[str, bytes, int]:
    """Name, kind and size as a header of 512 bytes has them."""
    told = _number(header[148:156])
    if told != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise _Fault("no header of a tar file, or one whose checksum is wrong")
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        name = f"{_text(header[345:500])}/{name}"
    return name, header[156:157], _number(header[124:136])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """A number in octal digits, or GNU's binary form."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise _Fault("no header of a tar file, or a damaged one")
    return int(digits or b"0", 8)


def _whole(size: int | str) -> int:
    if isinstance(size, str) and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise _Fault("an extended header whose size is no number")
    return int(size)


def _records(content: bytes) -> dict[str, str]:
    """`path` and `size` of a POSIX extended header: records `LENGTH KEY=VALUE` that each end with a line break."""
    found = {}
    while content:
        digits, _, rest = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, mark, value = rest[: length - len(digits) - 1].partition(b"=")
        if not mark or not len(digits) + 1 < length <= len(content) or not value.endswith(b"\n"):
            raise _Fault("a damaged extended header")
        if key.startswith(b"GNU.sparse"):
            raise _Fault("a sparse file, which imgkit does not read")
        if key in (b"path", b"size"):
            found[key.decode()] = value[:-1].decode("utf-8", "surrogateescape")
        content = content[length:]
    return found


def _checked(name: str) -> str:
    """A member's name, without `./`."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts:
        raise _Fault(f"a member is called {printable(name)!r}, which leads out of the shard")
    return "/".join(parts)
