"""The page of `imgkit data check`: what was found, with the pictures, and what the data are like."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgkit.check.finding import Finding, Section
from imgkit.check.pictures import lost_to_crop
from imgkit.check.whole import MEAN, STD, Checked
from imgkit.data.aspect import crop_warnings
from imgkit.data.decode import MAX_PIXELS
from imgkit.data.index import SPLITS
from imgkit.data.near import ALIKE
from imgkit.data.rows import count
from imgkit.errors import BadImage
from imgkit.report.pictures import ROOM
from imgkit.run import replace_text
from imgkit.sheet import thumbnail

SHOWN = 12
"""Findings of a section that have pictures."""
LISTED = 200
"""Findings of a section that have a line; the table of `--fix-list` has them all."""
_SIDE_PX = 128
_QUALITY = 70


class Shown(NamedTuple):
    """A finding with its pictures, as `data:`; "" for none."""

    finding: Finding
    picture: str
    other: str


@dataclass(frozen=True)
class Part:
    """A section as the page shows it.

    Args:
        section: what was found.
        shown: the first findings, with pictures; empty where none of them has any.
        listed: findings as lines.
        more: findings that have no line.
    """

    section: Section
    shown: Sequence[Shown]
    listed: Sequence[Finding]
    more: int


def write_check_page(checked: Checked, file: Path, command: str) -> None:
    """Write the page.

    Args:
        checked: what was found.
        file: to write.
        command: that trains on these data.

    Raises:
        DiskError: if it cannot be written.
    """
    from imgkit.report.html.shell import render  # the template engine is not needed to check

    found = checked.found
    text = render(
        "check.html.j2",
        title=f"{found.name} · imgkit data check",
        checked=checked,
        parts=_parts(checked),
        facts=_facts(checked),
        classes=_classes(checked),
        splits=[split for split in SPLITS if len(found.index.rows(split))],
        warnings=[*checked.warnings, *crop_warnings(found.aspects)],
        near=next((section.kind for section in checked.sections if section.kind.startswith("near")), ""),
        alike=ALIKE,
        command=command,
    )
    replace_text(file, text)


def _parts(checked: Checked) -> list[Part]:
    root, room, parts = checked.found.index.root, ROOM, []
    drawn: dict[str, str] = {}
    for section in checked.sections:
        shown = []
        for one in section.findings[:SHOWN]:
            ends = [_picture(root, path, drawn) for path in (one.path, one.other)]
            if sum(map(len, ends)) > room:
                ends = ["", ""]
            room -= sum(map(len, ends))
            shown.append(Shown(one, *ends))
        if not any(one.picture for one in shown):
            shown = []
        findings = section.findings
        parts.append(Part(section, shown, findings[:LISTED], max(0, len(findings) - LISTED)))
    return parts


def _picture(root: Path, path: str, drawn: dict[str, str]) -> str:
    """What `<img>` shows; "" where it cannot be read, or there is no path. What was drawn before is remembered."""
    if path and path not in drawn:
        try:
            content = io.BytesIO()
            thumbnail(root / path, _SIDE_PX, max_pixels=MAX_PIXELS).save(content, "WEBP", quality=_QUALITY)
            drawn[path] = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
        except (BadImage, OSError):
            drawn[path] = ""
    return drawn.get(path, "")


def _facts(checked: Checked) -> list[tuple[str, str]]:
    """What the data are like, in words."""
    found, facts = checked.found, checked.found.facts
    kinds = ", ".join(f"{kind} {mode} {n:,}" for (kind, mode), n in facts.kinds())
    lost = lost_to_crop(facts)
    middle, most = float(np.median(lost)), float(lost.max())
    often = float(np.quantile(lost, 0.9))
    return [
        ("Data", found.where),
        ("Paths start at", str(found.index.root)),
        ("Images", ", ".join(f"{split} {len(found.index.rows(split)):,}" for split in SPLITS)),
        ("Formats and modes", kinds),
        ("Width", _range(facts.widths)),
        ("Height", _range(facts.heights)),
        ("Turned by EXIF", count(int(facts.rotated.sum()), "image")),
        (
            "A square from the middle",
            f"leaves out {middle:.0%} of the median image, {often:.0%} of a tenth, {most:.0%} at most",
        ),
        ("Channel means", _three(checked.statistics.mean, MEAN)),
        ("Channel deviations", _three(checked.statistics.std, STD)),
    ]


def _three(own: Sequence[float], usual: Sequence[float]) -> str:
    values, others = (" · ".join(f"{value:.3f}" for value in three) for three in (own, usual))
    return f"{values} (of ImageNet: {others})"


def _range(sides: np.ndarray) -> str:
    return f"{int(sides.min()):,} to {int(sides.max()):,} px, median {float(np.median(sides)):,.0f}"


def _classes(checked: Checked) -> list[tuple[str, Mapping[str, int], int]]:
    """Name, images by split and in all of each class, the largest first."""
    index = checked.found.index
    counts = {split: index.counts(split) for split in SPLITS}
    rows = [
        (
            name,
            {split: int(each[code]) for split, each in counts.items()},
            sum(int(each[code]) for each in counts.values()),
        )
        for code, name in enumerate(index.classes)
    ]
    return sorted(rows, key=lambda row: -row[2])
