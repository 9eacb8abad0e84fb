"""Rows in columns against a list of rows; and how little a file takes."""

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.data import scan as scan_file
from imgkit.data.columns import Rows
from imgkit.data.facts import FileFacts
from imgkit.data.index import Index
from imgkit.data.load import list_data, load_data
from imgkit.data.paths import PathTable
from imgkit.data.rows import Row
from imgkit.recipe.schema import DataSettings

N, CLASSES = 10_000, 25
NAME = st.text(st.one_of(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), st.just("\udcff")))
LABELS = st.sets(st.sampled_from("abc")).map(lambda names: tuple(sorted(names)))


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    paths = draw(st.lists(NAME, max_size=8, unique=True))
    split = st.none() | st.sampled_from(["train", "val", "test"])
    groups = draw(st.sampled_from(["", "yx", ["y", "x", None]]))
    weights = draw(st.booleans())
    return [
        Row(
            path,
            draw(LABELS),
            draw(split),
            draw(st.sampled_from(groups)) if groups else None,
            draw(st.floats(0, 9)) if weights else None,
        )
        for path in paths
    ]


@given(rows(), st.data())
def test_rows_are_a_list(made: list[Row], data: st.DataObject) -> None:
    found = Rows(made)
    assert list(found) == made
    assert found == made
    assert found != [*made, Row("more", (), None, None)]
    assert found[:2] == made[:2]
    assert [found[row] for row in range(-len(made), 0)] == made
    assert list(found.paths) == [row.path for row in made]
    assert found.held() == {label for row in made for label in row.labels}
    assert found.held(found.splits == 1) == {label for row in made if row.split == "val" for label in row.labels}
    groups, texts = found.group_codes, [row.group for row in made]
    names = sorted({text for text in texts if text is not None})
    alone = iter(range(len(names), len(names) + len(texts)))
    expected = [next(alone) if text is None else names.index(text) for text in texts] if names else None
    assert (None if groups is None else groups.tolist()) == expected
    weights = None if found.weights is None else found.weights.tolist()
    assert weights == ([row.weight for row in made] if made and made[0].weight is not None else None)
    chosen = data.draw(st.lists(st.integers(0, len(made) - 1))) if made else []
    assert found.select(chosen) == [made[row] for row in chosen]
    found.sort()
    assert found == sorted(made)
    found.append(Row("last", ("new",), "test", None))
    assert found[-1] == Row("last", ("new",), "test", None)


@given(st.lists(NAME, max_size=8), st.sampled_from([None, "val"]))
def test_a_class_is_added_at_once(names: list[str], split: str | None) -> None:
    table = PathTable.of(["before", *names, "after"])
    found = Rows([Row("first", ("a", "b"), "test", None)])
    found.add_class(table.part(1, 1 + len(names)), "b", split)
    found.add_class(table.part(1 + len(names), 2 + len(names)), "c", "train")
    expected = [Row("first", ("a", "b"), "test", None)]
    expected += [Row(name, ("b",), split, None) for name in names]
    assert found == [*expected, Row("after", ("c",), "train", None)]
    assert list(found.paths) == ["first", *names, "after"]


# What a file takes. Objects would: a str of such a path has 80 bytes, its Row 96, its place in a list 8.


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 empty files in 25 classes; paths of 25 bytes."""
    root = tmp_path_factory.mktemp("million")
    for code in range(CLASSES):
        folder = root / f"n{code:08d}"
        folder.mkdir()
        for number in range(N // CLASSES):
            (folder / f"{code:04d}_{number:06d}.jpg").touch()
    return root


def taken(work: Callable[[], object]) -> tuple[float, float]:
    """Bytes a file that `work`'s answer holds, and at most on the way, as Python and NumPy ask for them."""
    tracemalloc.start()
    try:
        answer = work()
        held, peak = tracemalloc.get_traced_memory()
        assert answer is not None
    finally:
        tracemalloc.stop()
    return held / N, peak / N


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows each file: the scan does all but decode."""

    def facts(_: object, files: list[str], max_pixels: int) -> dict[str, FileFacts]:
        assert max_pixels
        digest = {file: hashlib.sha256(file.encode()).hexdigest() for file in files}
        return {file: FileFacts(0, digest[file], "JPEG", "RGB", 30, 20, rotated=False) for file in files}

    monkeypatch.setattr(scan_file.FactCache, "facts", facts)


def test_bytes_of_a_listed_file(tree: Path) -> None:
    settings = DataSettings(path=str(tree))
    list_data(settings)  # imports are not counted
    held, peak = taken(lambda: list_data(settings))
    assert held <= 70
    assert peak <= 110


@pytest.mark.usefixtures("known")
def test_bytes_of_an_index(tree: Path, tmp_path: Path) -> None:
    settings = DataSettings(path=str(tree))
    listed = list_data(settings)
    index = load_data(settings, listed=listed).index
    columns = (index.codes, index.offsets, index.splits, index.sizes, index.hashes, index.paths.offsets)
    assert (sum(column.nbytes for column in columns) + len(index.paths.buffer)) / N <= 150
    index.write_csv(tmp_path / "index.csv")
    assert taken(lambda: index.write_csv(tmp_path / "index.csv") or True)[1] <= 150
    held, peak = taken(lambda: Index.read_csv(tmp_path / "index.csv", index.root, index.classes, index.task))
    assert held <= 150
    assert peak <= 150
    assert taken(lambda: index.fingerprint)[1] <= 150
    assert taken(lambda: index.select(np.arange(N)))[1] <= 200


@pytest.mark.usefixtures("known")
def test_no_object_for_each_file_while_loading(tree: Path) -> None:
    settings = DataSettings(path=str(tree))
    load_data(settings)
    held, peak = taken(lambda: load_data(settings))
    assert held <= 150
    assert peak <= 300
