"""Where `imgkit predict` writes: a file, whole at the end, a zip archive that holds one, or stdout."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from imgkit.errors import disk_told, printable
from imgkit.files import whole_file


def check_folder(file: Path | None) -> None:
    """See that the folder of what will be written is there, before anything is answered.

    Raises:
        DiskError: if it is not.
    """
    if file is not None:
        with disk_told(file):
            (file.parent / "..").stat()  # the dots refuse a file in the folder's place


@contextmanager
def destination(out: Path | None, extension: str) -> Iterator[TextIO]:
    """A stream of UTF-8; a name that is not UTF-8 keeps its bytes.

    Args:
        out: the file; answers.zip becomes an archive that holds answers with `extension`, its bytes the same for the
            same answers; None: stdout; a terminal is
            shown control characters as escapes.
        extension: ".csv", of what is written.

    Raises:
        DiskError: if it cannot be written.
    """
    if out is None:
        with _text(sys.stdout.buffer, _Shown if sys.stdout.isatty() else io.TextIOWrapper) as stream:
            yield stream
        return
    with disk_told(out), whole_file(out, newline="") as file:
        if out.suffix.lower() != ".zip":
            yield file
            return
        from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

        member = ZipInfo(out.with_suffix(extension).name)  # with zip's first date: the archive tells no time
        member.compress_type, member.external_attr = ZIP_DEFLATED, 0o644 << 16
        with ZipFile(file.buffer, "w") as archive, archive.open(member, "w") as content, _text(content) as stream:
            yield stream


class _Shown(io.TextIOWrapper):
    """Lines on a terminal, which must not do what a name says."""

    def write(self, text: str) -> int:
        return super().write(printable(text.removesuffix("\n")) + "\n" * text.endswith("\n"))


@contextmanager
def _text(binary: IO[bytes], kind: type[io.TextIOWrapper] = io.TextIOWrapper) -> Iterator[TextIO]:
    """Text for a stream of bytes, which is not closed."""
    wrapper = kind(binary, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield wrapper
        wrapper.flush()
    finally:
        wrapper.detach()
