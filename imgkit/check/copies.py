"""Pictures that are there twice: within a split, in two splits, under two labels; and groups that splits tear apart."""

import numpy as np
import numpy.typing as npt

from imgkit.check.finding import Finding, Section, Severity, sections_of
from imgkit.data.index import SPLITS, Index
from imgkit.data.load import LoadedData
from imgkit.data.near import Ints
from imgkit.data.same import Same

_COPIES: tuple[tuple[str, Severity, str, tuple[str, str]], ...] = (
    (
        "leak",
        "error",
        "One picture in two splits",
        ("image is in a later split, too", "images are in a later split, too"),
    ),
    (
        "two-labels",
        "error",
        "One picture under two labels",
        ("image has another label, too", "images have another label, too"),
    ),
    (
        "drawn-leak",
        "warning",
        "Copies in two splits that imgkit drew",
        (
            "image has a copy in another split, which imgkit drew",
            "images have copies in other splits, which imgkit drew",
        ),
    ),
    ("copy", "warning", "Copies", ("image is an exact copy of another one", "images are exact copies of other ones")),
)
_NEAR: tuple[tuple[str, Severity, str, str], ...] = (
    ("near-leak", "warning", "Near duplicates in two splits", "what one of another split shows"),
    ("near-labels", "warning", "Near duplicates under two labels", "what one of another label shows"),
    ("near", "note", "Near duplicates", "what another one of the same split and label shows"),
)
_FEW = 8  # copies of a picture that are looked through for one of another split or label
_PAIRS = 20_000  # of pictures that show the same, the most alike: more, nobody looks at


def copy_sections(found: LoadedData, same: Same) -> list[Section]:
    """Pictures of the same pixels. Which is to go: of two splits, that of the earlier one."""
    index = found.index
    splits, labels = index.splits.tolist(), label_texts(index)
    rows: dict[str, list[Finding]] = {name: [] for name in ("leak", "drawn-leak", "two-labels", "copy")}
    for group in _members(same.contents, np.bincount(same.contents) > 1).values():
        kept = max(group, key=lambda row: (splits[row], -row))
        for row in group:
            if row == kept:
                continue
            alike = "the same bytes" if (index.hashes[row] == index.hashes[kept]).all() else "the same pixels"
            other = index.paths[kept]
            if labels[row] != labels[kept]:
                what = f"{alike} under two labels: {labels[row]} and {labels[kept]}"
                advice = "Find out which label is right, and delete the other file."
                rows["two-labels"].append(Finding(index.paths[row], what, advice, other, labels[row]))
            if splits[row] != splits[kept]:
                what = f"{alike} in {SPLITS[splits[row]]} and in {SPLITS[splits[kept]]}"
                given = bool(found.named[row] and found.named[kept])
                advice = f"Delete it from {SPLITS[splits[row]]}." if given else "Delete one of them."
                rows["leak" if given else "drawn-leak"].append(Finding(index.paths[row], what, advice, other))
            elif labels[row] == labels[kept]:
                rows["copy"].append(Finding(index.paths[row], alike, "Delete one of them.", other))
    return [
        section
        for kind, severity, title, told in _COPIES
        for section in sections_of(kind, severity, title, rows[kind], *told)
    ]


def near_sections(index: Index, same: Same) -> list[Section]:
    """Pictures that show the same and have other pixels: each once for each kind, with the one most like it."""
    splits, labels, pairs = index.splits.tolist(), label_texts(index), same.pairs
    paired = np.zeros(len(same.contents), dtype=np.bool_)
    paired[same.contents[np.concatenate([pairs.first, pairs.second])]] = True
    members = _members(same.contents, paired)
    rows: dict[str, list[Finding]] = {name: [] for name in ("near-leak", "near-labels", "near")}
    told: dict[str, set[int]] = {name: set() for name in rows}
    for number in np.argsort(-pairs.cosine, kind="stable")[:_PAIRS].tolist():
        ones, others = (members[same.contents[end[number]]] for end in (pairs.first, pairs.second))
        ends = [(one, other) for one in ones[:_FEW] for other in others[:_FEW]]
        for kind, apart in (("near-leak", splits), ("near-labels", labels), ("near", None)):
            if kind == "near" and any(splits[one] != splits[two] or labels[one] != labels[two] for one, two in ends):
                continue
            pair = next((pair for pair in ends if apart is None or apart[pair[0]] != apart[pair[1]]), None)
            if pair is None:
                continue
            # the one to look at lies in the earlier split, or comes later
            row, kept = sorted(pair, key=lambda row: (splits[row], -row))
            if row in told[kind]:
                continue
            told[kind].add(row)
            rows[kind].append(_near(index, labels, row, kept, kind, float(pairs.cosine[number])))
    more = " (there are more pairs than are listed)" if pairs.more or len(pairs.first) > _PAIRS else ""
    return [
        section
        for kind, severity, title, what in _NEAR
        for section in sections_of(
            kind, severity, title, rows[kind], f"image shows {what}", f"images show {what}", more
        )
    ]


def _near(index: Index, labels: list[str], row: int, kept: int, kind: str, cosine: float) -> Finding:
    here, there = SPLITS[index.splits[row]], SPLITS[index.splits[kept]]
    told = {
        "near-leak": (f"in {here} and in {there}", "Look at both; if they are one, keep them in one split."),
        "near-labels": (f"{labels[row]} and {labels[kept]}", "Look at both; if they are one, one label is wrong."),
        "near": (f"both in {here}", "Look at both; if they are one, keep one or give them a group."),
    }
    where, advice = told[kind]
    what = f"show the same, likeness {cosine:.3f}: {where}"
    return Finding(index.paths[row], what, advice, index.paths[kept], labels[row])


def group_sections(index: Index, names: list[str | None]) -> list[Section]:
    """Groups with images in more than one split.

    Args:
        index: the data.
        names: of the group of each image, (n,); None where it has none.
    """
    if index.groups is None:
        return []
    first: dict[tuple[int, int], int] = {}
    for row, (group, split) in enumerate(zip(index.groups.tolist(), index.splits.tolist(), strict=True)):
        first.setdefault((group, split), row)
    by_group: dict[int, list[int]] = {}
    for group, split in sorted(first):
        by_group.setdefault(group, []).append(first[group, split])
    rows = [
        Finding(
            index.paths[found[0]],
            f"group {names[found[0]]} is in {' and in '.join(SPLITS[index.splits[row]] for row in found)}",
            "Put the whole group into one split; or leave the splits out, and imgkit keeps groups together.",
            index.paths[found[-1]],
        )
        for found in by_group.values()
        if len(found) > 1
    ]
    where = "images in more than one of the given splits"
    title = "Groups in more than one split"
    return sections_of("group-leak", "error", title, rows, f"group has {where}", f"groups have {where}")


def label_texts(index: Index) -> list[str]:
    """The label of each row, several joined by ` + `; "no label" for none."""
    return [" + ".join(index.classes[code] for code in codes) or "no label" for codes in index.label_sets()]


def _members(contents: Ints, chosen: npt.NDArray[np.bool_]) -> dict[int, list[int]]:
    """The rows of each content that is chosen, (number of contents,)."""
    rows: dict[int, list[int]] = {}
    found = np.flatnonzero(chosen[contents])
    for row, content in zip(found.tolist(), contents[found].tolist(), strict=True):
        rows.setdefault(content, []).append(row)
    return rows
