"""T-D2: copies, byte for byte, are all found, in whichever split and under whichever label; and nothing else is."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import corpus
import pytest
from pictures import square
from tally import Tally

from imgkit.data.facts import find_duplicates
from imgkit.data.load import load_data
from imgkit.recipe.schema import DataSettings

FAMILY = "T-D2"
FILES, COPIES, MOST_S = 2000, 240, 5.0
CLASSES = [f"{split}/c{code}" for split in ("train", "val", "test") for code in range(10)]

Groups = set[frozenset[str]]
"""Paths below the tree that hold the same bytes."""


def write(root: Path, files: int, copies: int) -> Groups:
    """A tree of so many files, some of them copies in three ways, and as many that are near copies, which are none.

    Copies and near ones lie in all splits and classes beside and across from what they are of.
    """
    for folder in CLASSES:
        (root / folder).mkdir(parents=True)
    places = [f"{CLASSES[number % len(CLASSES)]}/{number:04d}.png" for number in range(files)]
    for number, place in enumerate(places[: files - copies]):
        near = number >= files - 2 * copies
        image = square(number % (files - 2 * copies), side_px=8)
        if near and number % 2:  # a pixel is another, by one
            image.putpixel((0, 0), tuple(value ^ 1 for value in image.getpixel((0, 0))))
        # the same pixels in other bytes, where it is near and no pixel is another
        (root / place).write_bytes(corpus.encoded(image, "PNG", compress_level=1 if near else 6))
    same: dict[str, set[str]] = {}
    for number, place in enumerate(places[files - copies :]):
        origin = places[number * 7 % (copies - 40)]  # some are copied twice
        (os.link, shutil.copy, os.symlink)[number % 3](root / origin, root / place)
        same.setdefault(origin, {origin}).add(place)
    return set(map(frozenset, same.values()))


def wrong(root: Path, groups: Groups) -> Iterator[str]:
    """What is found of copies other than the groups, and what is told of them other than is so."""
    data = load_data(DataSettings(path=str(root)))
    paths = list(data.index.paths)
    same = find_duplicates(data.index.hashes)
    found = {frozenset(paths[row] for row in rows) for rows in same}
    if found != groups:
        yield f"{len(groups - found)} groups missed, {len(found - groups)} made up"
    for part, what in ((0, "in different splits"), (1, "with different labels")):
        mixed = [group for group in groups if len({path.split("/")[part] for path in group}) > 1]
        expected = f"{sum(map(len, mixed)):,} images in {len(mixed):,} groups are exact copies {what}"
        if not mixed or [text.startswith(expected) for text in data.warnings].count(True) != 1:
            yield f"not told: {expected}"
    expected = f"{sum(map(len, groups)):,} images in {len(groups):,} groups are exact copies of each other."
    if expected not in data.notes:
        yield f"not told: {expected}"


def test_all_copies_of_a_large_tree_and_nothing_else(tmp_path: Path, tally: Tally, whole: bool) -> None:
    files, copies = (FILES, COPIES) if whole else (FILES // 4, COPIES // 4 + 40)
    groups = write(tmp_path, files, copies)
    began = time.process_time()  # of all threads, so that it is not less than what a user waits
    problems = list(wrong(tmp_path, groups))
    seconds = time.process_time() - began
    assert not problems
    assert seconds <= MOST_S
    tally.count(FAMILY, files=files, copies=copies, groups=len(groups), wrong=len(problems))
    tally.most(FAMILY, most_s=round(seconds, 2))


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", ["whole content", "what is told"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    groups = write(tmp_path, 300, 80)
    if what == "whole content":  # only the head of a file is compared
        monkeypatch.setattr(hashlib, "file_digest", lambda file, name: hashlib.new(name, file.read(40)))
    else:  # some files are left out
        monkeypatch.setattr("imgkit.data.load.find_duplicates", lambda hashes: find_duplicates(hashes[:200]))
    assert list(wrong(tmp_path, groups))
    tally.count("mutants", caught=1, escaped=0)
