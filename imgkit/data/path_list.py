"""A list of images in a text file: `path label` on each line, without a header, as Caffe and others write it."""

import re
from pathlib import Path

from imgkit.data.csv_text import Line, read_text
from imgkit.data.rows import EXTENSIONS
from imgkit.errors import DataError, printable

_LINE = re.compile(rf"\s*(?P<path>\S.*?({'|'.join(map(re.escape, EXTENSIONS))}))[ \t]+(?P<label>\S.*)", re.IGNORECASE)


def read_list(file: Path, shown: str) -> tuple[list[str], list[Line]] | None:
    """The header `path`, `label` and the lines, numbered from 1; None where the first line is not of this form.

    A path ends with the extension of an image and may hold spaces; what follows it is the label.

    Raises:
        DataError: if the file is no UTF-8 text, or a later line is not of this form.
    """
    lines = [(number, line) for number, line in enumerate(read_text(file, shown).splitlines(), 1) if line.strip()]
    if not lines or _LINE.fullmatch(lines[0][1]) is None:
        return None
    found: list[Line] = []
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{shown}: line {number:,} is not of the form PATH LABEL, as the first one is: {printable(line)!r}",
                f"A path ends with one of {' '.join(EXTENSIONS)}; a label follows.",
            )
        found.append((number, [match["path"], match["label"].rstrip()]))
    return ["path", "label"], found
