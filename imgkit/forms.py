"""Forms that competitions ask for: a line for each image, words with a space between, no header, no names of images.

competition   the most likely classes of each image, the best first, in the order of the images
multihot      1 or 0 for each label, in the numeric order of the images' names: 10.jpg after 9.jpg
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Literal, TextIO

from imgkit.data.rows import count, listed
from imgkit.errors import DataError, UsageError, printable
from imgkit.predict import Prediction

GUESSES = 5
"""Classes that a line of `competition` holds where nothing is said of it: the metric is the top-5 error."""


def write_guesses(
    predictions: Iterable[Prediction], file: TextIO, *, words: Mapping[str, str], k: int, fill: str | None = None
) -> Iterator[Prediction]:
    """Write a line of `k` classes for each prediction, and pass it on.

    Args:
        predictions: with `k` classes in `top`.
        file: open for text.
        words: class to what is written for it, see `words_of`.
        k: classes a line.
        fill: written in each of the `k` places of an image that cannot be read; None: that is an error.

    Raises:
        DataError: after the last image, naming those that cannot be read; what was written is of no use then.
    """
    unread: list[Prediction] = []
    for given in predictions:
        if given.error and fill is None:
            unread.append(given)
        if not unread:
            chosen = [fill or ""] * k if given.error else [words[label] for label, _ in given.top[:k]]
            file.write(" ".join(chosen) + "\n")
        yield given
    _refuse_unread(unread)


def write_multihot(
    predictions: Iterable[Prediction], file: TextIO, *, labels: Sequence[str], fill: str | None = None
) -> Iterator[Prediction]:
    """Pass each prediction on, and at the end write a line of 1 and 0 for each, in the numeric order of the names.

    Args:
        predictions: of a multi-label task: `labels` are what it answers.
        file: open for text.
        labels: all of the model, in the order of the columns.
        fill: written in each place of an image that cannot be read; None: that is an error.

    Raises:
        DataError: if two images have the same place in that order, or one has none; after the last image, naming those
            that cannot be read.
    """
    lines: dict[tuple[str | int, ...], tuple[str, str]] = {}  # place to path and line
    unread: list[Prediction] = []
    for given in predictions:
        if given.error and fill is None:
            unread.append(given)
        else:
            chosen = [fill or ""] * len(labels) if given.error else ["01"[name in given.labels] for name in labels]
            place = _place(given.path)
            if place in lines:
                raise DataError(
                    f"{printable(lines[place][0])} and {printable(given.path)} have one place in the numeric order.",
                    "Give each image once, and a number of its own.",
                )
            lines[place] = given.path, " ".join(chosen)
        yield given
    _refuse_unread(unread)
    file.writelines(lines[place][1] + "\n" for place in sorted(lines))


def words_of(classes: Sequence[str], kind: Literal["index", "name"], base: int = 0) -> dict[str, str]:
    """What a line has for each class.

    Args:
        classes: in the order that indices count in.
        kind: "index" or "name".
        base: the index of the first class.

    Raises:
        UsageError: if a name has a space in it, and could not be told from two.
    """
    if kind == "index":
        return {name: str(code) for code, name in enumerate(classes, base)}
    spaced = [name for name in classes if not name or re.search(r"\s", name)]
    if spaced:
        raise UsageError(
            f"Names with a space cannot be told apart in a line of names: {listed(spaced)}.",
            "Write indices instead:  --classes-as index",
        )
    return {name: name for name in classes}


def read_class_order(file: Path, classes: Sequence[str]) -> list[str]:
    """The names of a class list, one a line, as a competition gives it out; all of `classes` are in it.

    Raises:
        DataError: if it cannot be read, lacks one of `classes`, names one twice or has an empty line.
    """
    shown = printable(str(file))
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{shown} cannot be read: {reason}.", "Give a text file, a class a line.") from error
    times = Counter(names)
    lacking = [name for name in classes if name not in times]
    if lacking:
        raise DataError(
            f"{shown} lacks {count(len(lacking), 'class', 'classes')} of the model: {listed(lacking)}.",
            "It is a list of names, one a line, spelt as in the run's data/classes.txt.",
        )
    if "" in names:
        raise DataError(f"{shown}: line {names.index('') + 1:,} is empty, and lines are counted.", "Take it out.")
    twice = [name for name, number in times.items() if number > 1]
    if twice:
        raise DataError(f"{shown} names a class twice: {listed(twice)}.", "Each class has one line.")
    return names


def _place(path: str) -> tuple[str | int, ...]:
    """Where a file lies in the numeric order: its name without extension, digits by their value.

    Raises:
        DataError: if there is no name.
    """
    stem = PurePath(path).stem
    if not stem:
        raise DataError("A cell that names no image has no place in the numeric order.", "Mend the table.")
    return tuple(int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", stem)))


def _refuse_unread(unread: Sequence[Prediction]) -> None:
    if unread:
        told = listed(f"{given.path}: {given.error}" for given in unread)
        raise DataError(
            f"{count(len(unread), 'image')} cannot be read: {told}.",
            "Lines have no names, so none may be missing. Mend the files, or give  --fill VALUE  for such lines.",
        )
