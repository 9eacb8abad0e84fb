"""Tables of paths against lists, and merging against sorting."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imgkit.data.paths import Files, GrowingPaths, PathTable, merged

NAME = st.text(st.sampled_from("a-./0é\udcff\U0001f600".replace("/", "")), min_size=1, max_size=3)
FOLDER = st.lists(NAME, max_size=3).map(lambda names: "".join(f"{name}/" for name in names))


@given(FOLDER, st.lists(NAME, min_size=1, max_size=5))
def test_names_below_a_folder(folder: str, names: list[str]) -> None:
    assert list(PathTable.below(folder, names)) == [folder + name for name in names]


@given(st.dictionaries(FOLDER, st.sets(NAME, min_size=1, max_size=5), max_size=6))
def test_merged_is_sorted(tree: dict[str, set[str]]) -> None:
    blocks = {folder: PathTable.below(folder, sorted(names)) for folder, names in tree.items()}
    assert list(merged(blocks)) == sorted(folder + name for folder, names in tree.items() for name in names)


@given(st.lists(st.lists(NAME, max_size=3), max_size=4), st.data())
def test_growing(parts: list[list[str]], data: st.DataObject) -> None:
    table, growing = PathTable.of(name for part in parts for name in part), GrowingPaths()
    expected, done = list[str](), 0
    for part in parts:
        if data.draw(st.booleans()):
            growing.extend(table.part(done, done + len(part)))
            expected += part
        if data.draw(st.booleans()):
            growing.append("one")
            expected.append("one")
        if data.draw(st.booleans()):
            assert list(growing.table()) == expected
        done += len(part)
    assert list(growing.table()) == expected
    assert growing.table() is growing.table()


def test_files() -> None:
    files = Files(Path("/data"), PathTable.of(["a/1.jpg", "/elsewhere/2.jpg"]))
    assert list(files) == ["/data/a/1.jpg", "/elsewhere/2.jpg"]
    assert len(files) == 2
    assert "/data/a/1.jpg" in files
    assert "a/1.jpg" not in files
