"""The table against lists."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgkit.data.index import SPLITS, Index, PathTable, hash_array
from imgkit.errors import DataError
from imgkit.recipe.fields import Task

HEADER = "path,label,split,group,size,sha256"
ANY_PATH = st.text(
    st.one_of(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), st.just("\udcff")), min_size=1
)
NAME = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(
    lambda name: len(name.splitlines()) == 1
)


def table(
    paths: list[str],
    labels: list[list[int]],
    splits: list[str],
    classes: tuple[str, ...],
    groups: list[int] | None = None,
    task: Task = "single",
) -> Index:
    return Index(
        root=Path("/data"),
        paths=PathTable.of(paths),
        classes=classes,
        codes=np.array([code for row in labels for code in row], dtype=np.int64),
        offsets=np.array([0, *np.cumsum([len(row) for row in labels])], dtype=np.int64),
        splits=np.array([SPLITS.index(split) for split in splits], dtype=np.int8),
        groups=None if groups is None else np.array(groups, dtype=np.int64),
        sizes=np.arange(len(paths), dtype=np.int64) * 10**10,
        hashes=hash_array(hashlib.sha256(b"%d" % row).hexdigest() for row in range(len(paths))),
        task=task,
    )


@st.composite
def tables(draw: st.DrawFn, most_labels: int = 3) -> tuple[Index, list[list[int]]]:
    inside = ANY_PATH.filter(lambda path: not path.startswith("/") and ".." not in path.split("/"))
    paths = draw(st.lists(inside, max_size=12, unique=True))
    classes = tuple(sorted(draw(st.sets(NAME, min_size=1, max_size=4))))
    code = st.lists(st.integers(0, len(classes) - 1), max_size=most_labels, unique=True).map(sorted)
    labels = [draw(code) for _ in paths]
    splits = [draw(st.sampled_from(SPLITS)) for _ in paths]
    groups = draw(st.none() | st.lists(st.integers(0, 3), min_size=len(paths), max_size=len(paths)))
    task: Task = "single" if most_labels == 1 else "multilabel"
    return table(paths, labels, splits, classes, groups if paths else None, task), labels


def same(one: Index, two: Index) -> bool:
    if (one.groups is None) != (two.groups is None) or one.task != two.task:
        return False
    pairs = [(one.codes, two.codes), (one.offsets, two.offsets), (one.splits, two.splits), (one.sizes, two.sizes)]
    pairs.append((one.hashes, two.hashes))
    if one.groups is not None:
        pairs.append((one.groups, two.groups))
    return (
        list(one.paths) == list(two.paths)
        and one.classes == two.classes
        and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)
    )


@given(st.lists(ANY_PATH), st.data())
def test_path_table_is_a_list(paths: list[str], data: st.DataObject) -> None:
    found = PathTable.of(paths)
    assert len(found) == len(paths)
    assert list(found) == paths
    rows = data.draw(st.lists(st.integers(0, len(paths) - 1))) if paths else []
    assert list(found.select(rows)) == [paths[row] for row in rows]


@pytest.mark.parametrize("row", [-1, 2])
def test_path_table_ends(row: int) -> None:
    with pytest.raises(IndexError):
        PathTable.of(["a", "b"])[row]


@given(tables(), st.data())
def test_against_lists(made: tuple[Index, list[list[int]]], data: st.DataObject) -> None:
    index, labels = made
    for split in SPLITS:
        rows = [row for row in range(len(index)) if index.splits[row] == SPLITS.index(split)]
        assert index.rows(split).tolist() == rows
        flat = [code for row in rows for code in labels[row]]
        assert index.counts(split).tolist() == [flat.count(code) for code in range(len(index.classes))]
    rows = data.draw(st.lists(st.integers(0, len(index) - 1))) if len(index) else []
    chosen = index.select(rows)
    assert [index.paths[row] for row in rows] == list(chosen.paths)
    for row, old in enumerate(rows):
        assert chosen.codes[chosen.offsets[row] : chosen.offsets[row + 1]].tolist() == labels[old]
        assert chosen.sizes[row] == index.sizes[old]
        assert chosen.hashes[row].tobytes() == hashlib.sha256(b"%d" % old).digest()
        assert chosen.path(row) == Path("/data") / index.paths[old]


@given(tables(most_labels=1))
def test_labels(made: tuple[Index, list[list[int]]]) -> None:
    index, labels = made
    assert index.labels().tolist() == [row[0] if row else -1 for row in labels]
    assert index.targets().tolist() == index.labels().tolist()
    for row in range(len(index)):
        target = index.target(row)
        assert (target.shape, target.dtype, target.item()) == ((), np.int64, index.labels()[row])


@given(tables(), st.data())
def test_label_sets_are_rows_of_zeros_and_ones(made: tuple[Index, list[list[int]]], data: st.DataObject) -> None:
    index, labels = made
    expected = [[float(code in row) for code in range(len(index.classes))] for row in labels]
    found = index.multi_hot()
    assert (found.shape, found.dtype) == ((len(index), len(index.classes)), np.float32)
    assert found.tolist() == expected
    assert index.targets().tolist() == expected
    assert [index.target(row).tolist() for row in range(len(index))] == expected
    assert all(index.target(row).dtype == np.float32 for row in range(len(index)))
    rows = data.draw(st.lists(st.integers(0, len(index) - 1))) if len(index) else []
    assert index.select(rows).targets().tolist() == [expected[row] for row in rows]


@given(tables(), st.integers(1, 9))
def test_few_are_the_first_of_each_class_and_of_those_without(made: tuple[Index, list[list[int]]], n: int) -> None:
    index, labels = made
    each = max(1, n // len(index.classes))
    kept = set()
    for split in range(3):
        mine = [row for row in range(len(index)) if index.splits[row] == split]
        none = [row for row in mine if not labels[row]]
        assert index.unlabelled(SPLITS[split]).tolist() == none
        kept |= {*none[:each]}
        for code in range(len(index.classes)):
            kept |= {*[row for row in mine if code in labels[row]][:each]}
    assert list(index.few(n).paths) == [index.paths[row] for row in sorted(kept)]
    assert index.label_sets() == [tuple(row) for row in labels]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_csv_reads_back(tmp_path: Path, made: tuple[Index, list[list[int]]]) -> None:
    index, _ = made
    index.write_csv(tmp_path / "index.csv")
    found = Index.read_csv(tmp_path / "index.csv", index.root, index.classes, "multilabel")
    assert same(index, found)
    assert found.fingerprint == index.fingerprint


def test_csv_has_no_formula_cell(tmp_path: Path) -> None:
    index = table(["=1+1.png", "@a", "'b"], [[0], [1], [1]], ["train"] * 3, ("+x", "-y"))
    index.write_csv(tmp_path / "index.csv")
    lines = (tmp_path / "index.csv").read_text().splitlines()
    assert lines[0] == "path,label,split,group,size,sha256"
    assert [line.rpartition(",")[0] for line in lines[1:]] == [
        "'=1+1.png,'+x,train,,0",
        "'@a,'-y,train,,10000000000",
        "'b,'-y,train,,20000000000",
    ]
    assert lines[1].rpartition(",")[2] == hashlib.sha256(b"0").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path,label\n",
        "path,label,split,group,size\na,cat,train,,1\n",
        f"{HEADER}\na,cat,train\n",
        f"{HEADER}\na,owl,train,,1,{'0' * 64}\n",
        f"{HEADER}\na,cat,dev,,1,{'0' * 64}\n",
        f"{HEADER}\na,cat,train,,x,{'0' * 64}\n",
        f"{HEADER}\na,cat,train,,1,{'x' * 64}\n",
        f"{HEADER}\na,cat,train,,1,{'0' * 62}\n",
        f'{HEADER}\na,"cat\ncat",train,,1,{"0" * 64}\n',
        f"{HEADER}\n../a,cat,train,,1,{'0' * 64}\n",
        f"{HEADER}\nb/../../a,cat,train,,1,{'0' * 64}\n",
        f"{HEADER}\n/etc/a,cat,train,,1,{'0' * 64}\n",
    ],
)
def test_foreign_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=r"x.csv is not an index written by imgkit"):
        Index.read_csv(tmp_path / "x.csv", tmp_path, ("cat",), "single")


def test_a_whole_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{HEADER}\na,cat,train,,1,{'0f' * 32}\n")
    assert Index.read_csv(tmp_path / "x.csv", tmp_path, ("cat",), "single").hashes.tolist() == [[15] * 32]


def test_missing_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an index"):
        Index.read_csv(tmp_path / "x.csv", tmp_path, ("cat",), "single")


def test_fingerprint_sees_path_size_content_label_and_split_but_not_order_or_codes() -> None:
    paths, labels, splits = ["a", "b"], [[0], [1]], ["train", "val"]
    one = table(paths, labels, splits, ("x", "y"))
    assert one.select([1, 0]).fingerprint == one.fingerprint
    assert table(paths, [[1], [2]], splits, ("w", "x", "y")).fingerprint == one.fingerprint
    others = [
        table(["a", "c"], labels, splits, ("x", "y")),
        table(paths, [[1], [0]], splits, ("x", "y")),
        table(paths, labels, ["val", "val"], ("x", "y")),
        replace(one, sizes=one.sizes[::-1]),
        replace(one, hashes=one.hashes[::-1]),
        replace(one, task="multilabel"),
    ]
    assert len({index.fingerprint for index in [one, *others]}) == 7
