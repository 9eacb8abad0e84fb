"""T-D1: labels go by name, never by position, whatever the splits lack or add; each mismatch is told."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import corpus
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from tally import Tally

from imgkit.data import load
from imgkit.data.index import SPLITS, Index
from imgkit.data.load import LoadedData, load_data
from imgkit.data.rows import Row
from imgkit.errors import DataError
from imgkit.recipe.schema import DataSettings

FAMILY = "T-D1"
SMALL = corpus.encoded(Image.new("RGB", (2, 2)), "PNG")
NAMES = ("a", "A", "b", "B", "01", "1", "ab", "z")
TREE = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), max_size=5)
"""Images of each class folder of a split."""
TRAIN = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), min_size=3, max_size=5)

Tree = Mapping[str, int]


def write(folder: Path, tree: Tree) -> None:
    for name, images in tree.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            (folder / name / f"{number}.png").write_bytes(SMALL)


def names(tree: Tree) -> set[str]:
    """The classes that have an image."""
    return {name for name, images in tree.items() if images}


def said(error: DataError, unknown: set[str]) -> bool:
    """Whether all of the names are listed, and no other."""
    return error.message.partition("\n")[0].partition("   (same")[0].endswith(f": {', '.join(sorted(unknown))}")


def mended(root: Path, splits: dict[str, Tree]) -> tuple[LoadedData, int]:
    """The data set once no split has classes that train lacks, and how many of these it was refused for."""
    known, told = names(splits["train"]), 0
    for split in ("val", "test"):
        stray = names(splits[split]) - known
        if stray:
            with pytest.raises(DataError, match=f"^{split} has ") as caught:
                load_data(DataSettings(path=str(root)))
            assert said(caught.value, stray)
            told += len(stray)
            for name in stray:
                (root / split / name).rename(root / f"{split} without {name}")
            splits[split] = {name: images for name, images in splits[split].items() if name not in stray}
    return load_data(DataSettings(path=str(root))), told


def by_name(index: Index) -> bool:
    """Whether each row's code stands for the folder that its file lies in; the splits are or hold the class folders."""
    folders = [path.split("/")[-2] for path in index.paths]
    return [index.classes[code] for code in index.labels()] == folders


def check(root: Path, train: Tree, val: Tree, test: Tree, other: Tree) -> dict[str, int]:
    """Load a tree, and other data with its class map; how much was looked at."""
    splits = {"train": train, "val": val, "test": test}
    for split, tree in splits.items():
        write(root / "tree" / split, tree)
    known = names(train)
    if len(known) < 2:
        with pytest.raises(DataError):
            load_data(DataSettings(path=str(root / "tree")))
        return {"refused": 1}
    data, told = mended(root / "tree", splits)
    index = data.index
    assert index.classes == tuple(sorted(known))
    assert by_name(index)
    assert len(index) == sum(sum(tree.values()) for tree in splits.values())
    dealt = not names(splits["val"])
    for row, path in enumerate(index.paths):
        split, given_split = SPLITS[index.splits[row]], path.split("/")[0]
        assert split == given_split or (dealt and (given_split, split) == ("train", "val"))
    for split in ("val", "test"):
        missing = sorted(known - names(splits[split]))
        if names(splits[split]) and missing:
            texts = [text for text in data.notes if f"no image in {split}: {', '.join(missing[:5])}" in text]
            assert len(texts) == 1
            told += len(missing)
    return {"trees": 1, "told": told + check_other(root / "other", other, index.classes), "labels": len(index)}


def check_other(root: Path, tree: Tree, classes: tuple[str, ...]) -> int:
    """Other data with the class map of a trained run, in an order of its own; mismatches that were told."""
    write(root, tree)
    found, classes = names(tree), classes[1:] + classes[:1]
    if not found:
        return 0
    unknown = found - set(classes)
    if unknown:
        with pytest.raises(DataError, match="the model does not know") as caught:
            load_data(DataSettings(path=str(root)), classes=classes)
        assert said(caught.value, unknown)
        return len(unknown)
    data = load_data(DataSettings(path=str(root)), classes=classes)
    assert data.index.classes == classes
    assert by_name(data.index)
    absent = [name for name in classes if name not in found]
    texts = [text for text in data.notes if f"of the model without an image here: {', '.join(absent[:5])}" in text]
    assert len(texts) == bool(absent)
    return len(absent)


def draw(number: int, counted: Callable[[dict[str, int]], object]) -> None:
    """Check so many random trees."""

    @settings(max_examples=number, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    @given(TRAIN, TREE, TREE, TREE)
    def each(train: Tree, val: Tree, test: Tree, other: Tree) -> None:
        no_cache = patch.dict(os.environ, IMGKIT_CACHE=f"{os.devnull}/x")  # a data base for each tree
        with no_cache, tempfile.TemporaryDirectory() as folder:
            counted(check(Path(folder), train, val, test, other))

    each()


def test_label_and_name_agree_or_it_is_an_error(tally: Tally, whole: bool) -> None:
    draw(350 if whole else 50, lambda counts: tally.count(FAMILY, **counts, wrong=0))


# What protects, taken away: the checks above must notice.


def by_position(source: object, rows: Sequence[Row], *rest: object) -> Index:
    """Codes as of a reader that counts the class folders of each split, as most tools do."""
    facts, classes, _, splits = rest
    kinds = [sorted({row.labels for row in rows if row.split == split}) for split in (row.split for row in rows)]
    codes = [min(kind.index(row.labels), len(classes) - 1) for row, kind in zip(rows, kinds, strict=True)]
    return INDEX(source, rows, facts, classes, np.array(codes), splits)


INDEX = load._index
MUTANTS: dict[str, tuple[str, object]] = {
    "labels by name": ("_index", by_position),
    "train has the classes": (
        "class_map",
        lambda rows, *_: tuple(sorted({name for row in rows for name in row.labels})),
    ),
    "what a split lacks": ("missing_notes", lambda index: []),
    "what a model knows": ("check_known", lambda rows, shown, classes: []),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_the_check_notices_what_is_missing(tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(load, *MUTANTS[what])
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        draw(50, lambda counts: None)
    tally.count("mutants", caught=1, escaped=0)
