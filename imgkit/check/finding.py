"""A finding: a picture or a class, what is odd about it, and what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgkit.cells import Rows, guarded, visible
from imgkit.data.rows import count
from imgkit.errors import disk_told, printable
from imgkit.files import whole_file

Severity = Literal["error", "warning", "note"]
"""Must be mended; is likely wrong; is worth knowing."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
COLUMNS = ("finding", "severity", "path", "other", "class", "what", "suggestion")
"""Of the table that `write_fix_list` writes."""


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Args:
        path: of a picture, relative to the root of the data; "" where it is about a class.
        what: is the matter, in a few words.
        suggestion: what to do.
        other: the picture that it is compared with; "" for none.
        label: the class that it is about; "" for none.
    """

    path: str
    what: str
    suggestion: str
    other: str = ""
    label: str = ""


@dataclass(frozen=True)
class Section:
    """All findings of one kind.

    Args:
        kind: a word for tables, such as `near-leak`.
        severity: of each.
        title: of the section on a page.
        sentence: what a terminal says of them all.
        findings: in the order of paths or, of pairs, the most alike first.
    """

    kind: str
    severity: Severity
    title: str
    sentence: str
    findings: tuple[Finding, ...]


def sections_of(
    kind: str, severity: Severity, title: str, findings: Sequence[Finding], one: str, many: str, more: str = ""
) -> list[Section]:
    """A section of some findings; none where there are none.

    Args:
        kind: as in `Section`.
        severity: likewise.
        title: likewise.
        findings: any number.
        one: what is said of one, "image is blank".
        many: what is said of several, "images are blank".
        more: what the sentence adds.
    """
    if not findings:
        return []
    first = findings[0]
    names = f"{printable(first.path)} = {printable(first.other)}" if first.other else printable(first.path)
    sentence = f"{count(len(findings), one, many)}{more}, such as {names} ({printable(first.what)})."
    return [Section(kind, severity, title, sentence, tuple(findings))]


def write_fix_list(sections: Iterable[Section], file: Path) -> int:
    """Write a CSV of all findings, the gravest first; returns how many.

    Raises:
        DiskError: if it cannot be written.
    """
    rows = 0
    with disk_told(file), whole_file(file, newline="") as stream:
        table = Rows(stream)
        table.writerow(COLUMNS)
        for section in sections:
            for one in section.findings:
                texts = (one.path, one.other, one.label, one.what, one.suggestion)
                table.writerow((section.kind, section.severity, *(guarded(visible(text)) for text in texts)))
                rows += 1
    return rows
