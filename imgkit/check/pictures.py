"""What is odd about single pictures: unreadable, blank, of another mode or size than the others, in the wrong place."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from imgkit.check.finding import Finding, Section, Severity, sections_of
from imgkit.data.facts import Facts
from imgkit.data.index import Index
from imgkit.data.looks import Looks
from imgkit.data.near import flat
from imgkit.data.rows import Source
from imgkit.errors import BadImage

_ODD = 0.1  # share of the images up to which a mode is an odd one
_AREA = 16  # times the median area, or a part of it
_ASPECT = 3  # times the median aspect, or a part of it
_CUT = 0.5  # share of a picture from which on it is named that a centre crop cuts it off
_TRUNCATED = ("truncat", "unexpected end", "premature end", "broken data stream", "not processed")
_MODES = {
    "CMYK": "converted to RGB without its colour profile: colours may be off",
    "P": "a palette, converted to RGB",
    "1": "black and white, 0 or 255",
}


def bad_sections(bad: Sequence[BadImage], root: str) -> list[Section]:
    """Files that cannot be used, those that were cut off by themselves."""
    rows: dict[str, list[Finding]] = {"unreadable": [], "truncated": []}
    start = root.rstrip("/") + "/"
    for one in bad:
        cut = any(word in one.reason.lower() for word in _TRUNCATED)
        advice = "Copy it again from where it is whole, or delete it." if cut else "Mend it, or delete it."
        path = one.path.removeprefix(start)
        rows["truncated" if cut else "unreadable"].append(Finding(path, one.reason, advice))
    no, cut_off = "cannot be used as an image", "cut off before the end"
    return [
        *sections_of("unreadable", "error", f"Files that {no}", rows["unreadable"], f"file {no}", f"files {no}"),
        *sections_of(
            "truncated", "error", f"Files {cut_off}", rows["truncated"], f"file is {cut_off}", f"files are {cut_off}"
        ),
    ]


def look_sections(index: Index, facts: Facts, looks: Looks) -> list[Section]:
    """Blank pictures; odd modes and sizes; pictures that EXIF turns, or that a centre crop cuts."""
    paths = index.paths
    blank = [
        Finding(paths[row], f"nothing but {_shade(looks['mean'][row])}", "Look at it; delete it if nothing is on it.")
        for row in np.flatnonzero(looks["known"] & flat(looks["thumb"])).tolist()
    ]
    turned = [
        Finding(paths[row], "turned upright as EXIF says", "Nothing for imgkit; other tools may show it lying.")
        for row in np.flatnonzero(facts.rotated).tolist()
    ]
    return [
        *_images("blank", "warning", "Blank images", "blank", blank),
        *_images("mode", "note", "Odd modes", "in a mode that few others have", _modes(index, facts)),
        *_images("size", "note", "Odd sizes", "of a size or shape far from the others'", _sizes(index, facts)),
        *_images("orientation", "note", "Turned by EXIF", "turned upright as EXIF says", turned),
        *_images(
            "crop", "note", "Cut by a centre crop", f"cut by over {_CUT:.0%} by a centre crop", _cuts(index, facts)
        ),
    ]


def place_sections(source: Source, index: Index) -> list[Section]:
    """Pictures beside the class folders or in the folder of another class, of kinds that are not read, named alike."""
    beside = [
        Finding(path, "lies beside the class folders, so it is not read", "Move it into the folder of its class.")
        for path in source.beside
    ]
    unread = [
        Finding(path, f"{PurePosixPath(path).suffix.lower()} is not read", "Save it as JPEG or PNG.")
        for path in source.unread
    ]
    other = _other_folders(index)
    return [
        *_images("misplaced", "warning", "Images in the wrong place", "in the wrong place", [*beside, *other]),
        *_images("unread-format", "warning", "Pictures of other kinds", "of a kind that imgkit does not read", unread),
        *_images("file-names", "warning", "Names that are almost the same", "named almost as another", _twins(index)),
    ]


def _modes(index: Index, facts: Facts) -> list[Finding]:
    modes = facts.modes()
    files = Counter(modes)
    odd = {mode for mode, n in files.items() if n <= _ODD * len(modes)}
    usual = files.most_common(1)[0][0] if files else ""
    return [
        Finding(index.paths[row], f"{mode}: {_mode_words(mode)}", f"Look at it; most others are {usual}.")
        for row, mode in enumerate(modes)
        if mode in odd
    ]


def _mode_words(mode: str) -> str:
    if mode.startswith("I;16"):
        return "16-bit grey, scaled from its full range"
    if mode == "F":
        return "float, scaled from [0, 1]"
    if mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        return "transparency, laid over white"
    return _MODES.get(mode, "grey, repeated to three channels" if mode == "L" else "converted to RGB")


def _sizes(index: Index, facts: Facts) -> list[Finding]:
    widths, heights = facts.widths.astype(np.float64), facts.heights.astype(np.float64)
    found = []
    area, aspect = widths * heights, widths / heights
    for values, most, what in ((area, _AREA, "pixels"), (aspect, _ASPECT, "width to height")):
        times = values / np.median(values) if len(values) else values
        odd = np.flatnonzero((times >= most) | (times <= 1 / most))
        found += [
            Finding(
                index.paths[row],
                f"{int(widths[row])} x {int(heights[row])} px: {times[row]:.2g} times the median of {what}",
                "Look at it: a thumbnail, a strip or another kind of picture?",
            )
            for row in odd.tolist()
        ]
    return found


def _cuts(index: Index, facts: Facts) -> list[Finding]:
    lost = lost_to_crop(facts)
    return [
        Finding(index.paths[row], f"a square from its middle leaves out {lost[row]:.0%}", "Try --fit letterbox.")
        for row in np.flatnonzero(lost > _CUT).tolist()
    ]


def lost_to_crop(facts: Facts) -> npt.NDArray[np.float64]:
    """The share of each picture that a centre crop to a square leaves out, (n,)."""
    sides = np.stack([facts.widths, facts.heights]).astype(np.float64)
    return np.asarray(1 - sides.min(axis=0) / np.maximum(sides.max(axis=0), 1), dtype=np.float64)


def _other_folders(index: Index) -> list[Finding]:
    """Pictures in a folder that is called like another class than theirs."""
    if index.task != "single":
        return []
    names, found = set(index.classes), []
    for path, code in zip(index.paths, index.labels().tolist(), strict=True):
        folders = path.split("/")[:-1]
        label = index.classes[code] if code >= 0 else ""
        others = [folder for folder in folders if folder in names and folder != label]
        if label and others and (label in folders or len(others) == 1):
            what = f"is labelled {label}, and lies in a folder {others[-1]}"
            found.append(Finding(path, what, f"Move it, if it shows {others[-1]}.", label=label))
    return found


def _twins(index: Index) -> list[Finding]:
    """Names in one folder that differ only by capitals or spaces: on some systems one takes the other's place."""
    first: dict[str, str] = {}
    found = []
    for path in index.paths:
        folder, slash, name = path.rpartition("/")
        other = first.setdefault(folder + slash + "".join(name.casefold().split()), path)
        if other != path:
            found.append(Finding(path, "differs only in capitals or spaces", "Rename one of them.", other))
    return found


def _shade(mean: Sequence[float]) -> str:
    level = float(np.mean(mean))
    return "black" if level < 0.05 else "white" if level > 0.95 else "one shade"


def _images(kind: str, severity: Severity, title: str, what: str, findings: Sequence[Finding]) -> list[Section]:
    return sections_of(kind, severity, title, findings, f"image is {what}", f"images are {what}")
