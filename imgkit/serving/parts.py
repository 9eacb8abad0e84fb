"""The parts of a form, `multipart/form-data` (RFC 7578), whose body is in memory and stays there."""

from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class Part(NamedTuple):
    """A part of a form."""

    field: str
    file: str | None
    """What whoever sends it calls its file, "" where it has no name; None: it is no file but text."""
    content: bytes


def parts_of(body: bytes, content_type: str, most: int) -> list[Part]:
    """The first `most` parts of a form.

    Args:
        body: of the request.
        content_type: its header, which says what stands between the parts.
        most: what comes after so many is not looked at.

    Raises:
        ValueError: if it is no form, or ends too early.
    """
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ValueError("Missing boundary in multipart.")
    reader = _Reader(most)
    calls = ("part_begin", "header_field", "header_value", "header_end", "part_data", "part_end")
    try:
        told = cast("MultipartCallbacks", {f"on_{call}": getattr(reader, call) for call in calls})
        MultipartParser(boundary, told).write(body)
    except _Enough:
        return reader.parts
    if reader.within:
        raise ValueError("It ends within a part.")
    return reader.parts


class _Enough(Exception):
    """There are as many parts as are wanted."""


class _Reader:
    """What python-multipart calls as it goes through a body."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.within = False
        self._most = most

    def part_begin(self) -> None:
        if len(self.parts) == self._most:
            raise _Enough
        self.within = True
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._content: list[bytes] = []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def part_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        named = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if b"name" not in named:
            raise ValueError("A part has no name.")
        kind = self._headers.get(b"content-type", b"text/plain").lower()
        file = named.get(b"filename", None if kind.startswith(b"text/") else b"")  # a file should have a name, not must
        self.parts.append(Part(_text(named[b"name"]), None if file is None else _text(file), b"".join(self._content)))
        self.within = False


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")
