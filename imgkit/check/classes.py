"""What is odd about classes: names, too few images for the splits, imbalance."""

import numpy as np

from imgkit.check.finding import Finding, Section
from imgkit.data.classes import means_none, name_warnings, twin_names
from imgkit.data.index import SPLITS, Index
from imgkit.data.rows import count, listed

_IMBALANCE = 10  # times the smallest class
_FEW = 2  # images of a class in train, below which nothing can be learned from what differs between them


def class_sections(index: Index) -> list[Section]:
    """Names that are almost the same or mean nothing; classes too small for the split; imbalance."""
    return [*_names(index), *_few(index), *_imbalance(index)]


def _names(index: Index) -> list[Section]:
    told = name_warnings(index)
    if not told:
        return []
    rows = [
        Finding("", f"almost the same name as {names[0]!r}", "Write them alike if they are one class.", label=name)
        for names in twin_names(index.classes)
        for name in names[1:]
    ]
    rows += [
        Finding("", "is what programs write for no label", "Delete its images if they have none.", label=name)
        for name in index.classes
        if means_none(name)
    ]
    return [Section("class-names", "warning", "Names of classes", " ".join(told), tuple(rows))]


def _few(index: Index) -> list[Section]:
    counts = {split: index.counts(split) for split in SPLITS if len(index.rows(split))}
    rows = []
    for code, name in enumerate(index.classes):
        here = {split: int(count[code]) for split, count in counts.items()}
        short = [split for split, n in here.items() if n < (_FEW if split == "train" else 1)]
        if short:
            what = ", ".join(f"{n:,} in {split}" for split, n in here.items())
            rows.append(Finding("", f"too few images: {what}", "Add images, or leave the class out.", label=name))
    if not rows:
        return []
    many = count(len(rows), "class is", "classes are")
    example = ", ".join(f"{one.label} ({one.what.removeprefix('too few images: ')})" for one in rows[:3])
    more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
    title = "Classes too small for the split"
    return [Section("few-images", "warning", title, f"{many} too small for the split: {example}{more}.", tuple(rows))]


def _imbalance(index: Index) -> list[Section]:
    counts = index.counts("train")
    most = int(counts.max())
    small = [code for code in np.argsort(counts, kind="stable").tolist() if most >= _IMBALANCE * max(1, counts[code])]
    if not small:
        return []
    advice = "Add images, or draw it more often:  --sampler sqrt"
    rows = tuple(
        Finding(
            "",
            f"{count(int(counts[code]), 'image')} in train; the largest class has {most:,}",
            advice,
            label=index.classes[code],
        )
        for code in small
    )
    names = listed(index.classes[code] for code in small)
    few = count(len(rows), "class has", "classes have")
    sentence = f"The largest class has {count(most, 'image')} of train; {few} a tenth of that or less: {names}."
    return [Section("imbalance", "note", "Imbalance", sentence, rows)]
